"""Injected faults: they are where they are said to be, as large as they are said to be, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from pwflow_core.poc.faults import FAULT_READINGS, INJECTED_KINDS, inject_faults
from pwflow_core.poc.trial import Stretch


def healthy(n_sensors: int = 3, n_blocks: int = 200, length: int = 32) -> tuple[Stretch, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    mixing = rng.normal(size=(n_sensors, n_sensors)) + 2 * np.eye(n_sensors)
    X = rng.normal(size=(n_blocks * length, n_sensors)) @ mixing
    rows = np.arange(len(X))
    stretch = Stretch(X, np.zeros(len(X), dtype=np.int64), 60.0 * rows, np.full(len(X), -1), ())
    return stretch, rows // length, rng.normal(size=(4000, n_sensors)) @ mixing


def test_only_the_readings_of_a_fault_are_changed():
    before, block, learn = healthy()
    after = inject_faults(before, block, learn)
    changed = (after.X != before.X).any(axis=1)
    assert (changed == (after.fault >= 0)).all()
    assert before.kinds == ()


def test_each_fault_lies_in_a_block_of_its_own_and_half_of_the_blocks_stay_normal():
    before, block, learn = healthy(n_blocks=40)
    after = inject_faults(before, block, learn)
    faulty = {number: set(block[after.fault == number]) for number in range(len(after.kinds))}
    assert all(len(blocks) == 1 for blocks in faulty.values())
    assert len(set.union(*faulty.values())) == len(after.kinds) == 20
    assert set(after.kinds) == set(INJECTED_KINDS)


@pytest.mark.parametrize("kind", INJECTED_KINDS)
def test_a_fault_lasts_and_touches_as_many_sensors_as_is_said(kind):
    before, block, learn = healthy()
    after = inject_faults(before, block, learn)
    for number in [number for number, of in enumerate(after.kinds) if of == kind]:
        rows = after.fault == number
        assert rows.sum() == (1 if kind == "spike" else FAULT_READINGS)
        touched = (after.X[rows] != before.X[rows]).any(axis=0).sum()
        assert touched == (2 if kind == "swap" else 1)


def test_an_offset_is_the_same_for_all_its_readings_and_of_the_size_of_what_the_others_leave_open():
    before, block, learn = healthy()
    after = inject_faults(before, block, learn)
    precision = np.linalg.inv(np.cov(learn, rowvar=False))
    for number in [number for number, of in enumerate(after.kinds) if of == "offset"]:
        rows = after.fault == number
        difference = after.X[rows] - before.X[rows]
        sensor = int(np.argmax(np.abs(difference[0])))
        assert np.ptp(difference[:, sensor]) < 1e-9
        assert 1.99 < abs(difference[0, sensor]) * np.sqrt(precision[sensor, sensor]) < 5.01


def test_what_a_sensor_shows_without_its_correlation_are_values_that_it_read():
    before, block, learn = healthy()
    after = inject_faults(before, block, learn)
    for number in [number for number, of in enumerate(after.kinds) if of == "correlation_loss"]:
        rows = np.flatnonzero(after.fault == number)
        sensor = int(np.flatnonzero((after.X[rows] != before.X[rows]).any(axis=0))[0])
        assert set(after.X[rows, sensor]) <= set(learn[:, sensor])


def test_a_plant_of_one_sensor_gets_the_faults_that_one_sensor_can_have():
    after = inject_faults(*healthy(n_sensors=1))
    assert set(after.kinds) == {"spike", "offset"}
