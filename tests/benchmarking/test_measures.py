"""The figures of the table mean what the table says."""

import subprocess
import sys

import numpy as np
import pytest

from pwflow_core.benchmarking.measures import bridge_mass, mean_and_error, target_bridge_mass
from pwflow_core.modelling.targets import CircleOfGaussians


def test_standard_error_of_independent_rows_is_the_usual_one():
    values = np.random.default_rng(0).standard_normal(1000)
    mean, error = mean_and_error(values, np.arange(1000))
    assert mean == pytest.approx(values.mean())
    assert error == pytest.approx(values.std(ddof=1) / np.sqrt(1000))


def test_standard_error_counts_blocks_of_equal_rows_once():
    blocks = np.random.default_rng(0).standard_normal(50)
    mean, error = mean_and_error(np.repeat(blocks, 20), np.repeat(np.arange(50), 20))
    assert mean == pytest.approx(blocks.mean())
    assert error == pytest.approx(blocks.std(ddof=1) / np.sqrt(50))


def test_bridge_mass_is_zero_for_the_data_and_counts_points_between_the_modes():
    target, rng = CircleOfGaussians(), np.random.default_rng(0)
    train, test, drawn = (target.sample(5000, rng) for _ in range(3))
    assert abs(bridge_mass(drawn, train, test)) < 0.006
    assert abs(target_bridge_mass(target, drawn, test)) < 0.002
    drawn[:1000] = rng.normal(0, 0.1, size=(1000, 2))  # the middle of the circle is empty
    assert bridge_mass(drawn, train, test) == pytest.approx(0.2, abs=0.01)
    assert target_bridge_mass(target, drawn, test) == pytest.approx(0.2, abs=0.01)


def test_bridge_mass_does_not_depend_on_units():
    target, rng = CircleOfGaussians(), np.random.default_rng(0)
    train, test, drawn = (target.sample(2000, rng) for _ in range(3))
    unit = np.array([1000.0, 1e-3])
    assert bridge_mass(drawn * unit, train * unit, test * unit) == pytest.approx(bridge_mass(drawn, train, test))


def test_peak_memory_of_a_small_process_is_not_that_of_its_large_parent():
    ballast = np.ones(60_000_000)  # 480 MB
    code = "from pwflow_core.benchmarking.measures import peak_memory_mb; print(peak_memory_mb())"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 20 < float(shown) < 400, ballast.nbytes
