"""Laws of the simulated plant: determinism, limits, the shapes of the regimes, wear of one regime alone."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from datetime import date

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from pwflow_core.errors import ConfigurationError
from pwflow_core.simulation import (
    AGEING_END_SHIFT,
    AGEING_REGIME,
    MACHINES,
    REGIMES,
    SENSOR_NAMES,
    SENSORS,
    PlantReadings,
    SimulatedPlant,
)

pytestmark = pytest.mark.quick

HEALTHY = SimulatedPlant(ageing_from_day=None, with_faults=False, with_blemishes=False)
LOW = np.array([sensor.low for sensor in SENSORS])
HIGH = np.array([sensor.high for sensor in SENSORS])


def assert_bit_equal(left: PlantReadings, right: PlantReadings) -> None:
    for field in fields(PlantReadings):
        assert getattr(left, field.name).tobytes() == getattr(right, field.name).tobytes(), field.name


@pytest.fixture(scope="module")
def healthy_days() -> PlantReadings:
    return HEALTHY.simulate(0, 11)


def test_equal_seeds_give_bit_equal_plants_and_other_seeds_do_not():
    assert_bit_equal(SimulatedPlant(seed=3).simulate(20, 23), SimulatedPlant(seed=3).simulate(20, 23))
    assert not np.array_equal(SimulatedPlant(seed=3).day(0).values, SimulatedPlant(seed=4).day(0).values)


def test_a_day_is_bit_equal_whichever_days_are_simulated_with_it():
    ten, sixty = list(SimulatedPlant().days(0, 9)), list(SimulatedPlant().days(0, 59))
    for day in range(10):
        assert_bit_equal(ten[day], sixty[day])
    for day in (0, 10, 45, 59):
        assert_bit_equal(SimulatedPlant().day(day), sixty[day])


def test_temperatures_run_through_midnight_without_a_step():
    two_days = HEALTHY.simulate(4, 5)
    for name in ("bearing_temperature", "coolant_temperature"):
        column = two_days.values[two_days.machine == "M2", SENSOR_NAMES.index(name)]
        assert abs(column[1440] - column[1439]) < 3.0


def test_every_machine_has_one_reading_a_minute(healthy_days):
    for machine in MACHINES:
        timestamps = healthy_days.timestamp[healthy_days.machine == machine]
        assert timestamps[0] == np.datetime64("2026-01-05T00:00:00")
        assert np.all(np.diff(timestamps) == np.timedelta64(60, "s"))
        assert len(timestamps) == 12 * 1440


def test_every_machine_visits_every_regime_of_both_recipes(healthy_days):
    steady = {regime.name for regime in REGIMES}
    transients = {f"{recipe}_{name}" for recipe in "ab" for name in ("start_up", "shut_down")}
    for machine in MACHINES:
        assert set(healthy_days.regime[healthy_days.machine == machine]) == steady | transients
    assert np.all(np.char.lower(healthy_days.recipe) == healthy_days.regime.astype("U1"))


def test_readings_stay_within_the_physical_limits_unless_they_are_blemished():
    readings = SimulatedPlant().simulate(20, 59)
    blemished = np.isin(readings.blemish, ["missing", "out_of_limits"])
    values = readings.values[~blemished]
    assert np.all((values >= LOW) & (values <= HIGH))
    impossible = readings.values[readings.blemish == "out_of_limits"]
    assert np.all(((impossible < LOW) | (impossible > HIGH)).sum(axis=1) == 1)
    assert np.all(np.isnan(readings.values[readings.blemish == "missing"]).sum(axis=1) == 1)


def test_healthy_sensors_do_not_saturate(healthy_days):
    assert np.all((healthy_days.values > LOW) & (healthy_days.values < HIGH))


def test_resolution_is_well_below_the_noise_at_standstill(healthy_days):
    at_rest = healthy_days.values[healthy_days.regime == "a_standstill"]
    steps = np.std(np.diff(at_rest, axis=0), axis=0)
    assert np.all(steps > 8 * np.array([sensor.resolution for sensor in SENSORS]))


def test_noise_is_autocorrelated():
    values = HEALTHY.day(3).values
    regime = HEALTHY.day(3).regime
    speed = values[regime == "b_standstill", 0]
    assert 0.3 < np.corrcoef(speed[:-1], speed[1:])[0, 1] < 0.7


def test_machines_differ_by_less_than_the_noise(healthy_days):
    at_rest = healthy_days.regime == "a_standstill"
    flow = SENSOR_NAMES.index("coolant_flow")
    means = [healthy_days.values[at_rest & (healthy_days.machine == m), flow].mean() for m in MACHINES]
    assert 0 < np.ptp(means) < healthy_days.values[at_rest, flow].std()


@pytest.mark.parametrize(
    ("regime", "sensor"),
    [
        ("a_roughing", "vibration_rms"),
        ("a_finishing", "vibration_rms"),
        ("b_roughing", "spindle_current"),
        ("b_finishing", "spindle_current"),
    ],
)
def test_a_regime_is_clearly_not_one_gaussian(healthy_days, regime, sensor):
    values = healthy_days.values[healthy_days.regime == regime][:, [0, SENSOR_NAMES.index(sensor)]]
    values = (values - values.mean(axis=0)) / values.std(axis=0)
    train, held_out = values[:3000], values[3000:]
    one, six = (GaussianMixture(k, random_state=0).fit(train) for k in (1, 6))
    assert six.score(held_out) - one.score(held_out) > 0.2


def test_roughing_of_a_bends_like_a_banana(healthy_days):
    values = healthy_days.values[healthy_days.regime == "a_roughing"]
    speed, vibration = values[:, 0], values[:, SENSOR_NAMES.index("vibration_rms")]
    line, parabola = (np.polyval(np.polyfit(speed - speed.mean(), vibration, d), speed - speed.mean()) for d in (1, 2))
    assert np.var(vibration - parabola) < 0.1 * np.var(vibration - line)


def test_finishing_of_b_is_a_ring_with_nothing_inside(healthy_days):
    values = healthy_days.values[healthy_days.regime == "b_finishing"]
    pair = values[:, [0, SENSOR_NAMES.index("spindle_current")]]
    radius = np.linalg.norm((pair - pair.mean(axis=0)) / pair.std(axis=0), axis=1) / np.sqrt(2)
    assert radius.min() > 0.5
    assert radius.max() < 1.5


def test_noise_of_finishing_a_grows_with_speed(healthy_days):
    values = healthy_days.values[healthy_days.regime == "a_finishing"]
    speed, vibration = values[:, 0], values[:, SENSOR_NAMES.index("vibration_rms")]
    slow, fast = vibration[speed < 9400], vibration[speed > 9800]
    assert fast.std() > 1.5 * slow.std()


def test_ageing_touches_one_regime_from_its_day_in_its_sensors_only():
    young, aged = (
        HEALTHY.simulate(36, 59),
        SimulatedPlant(with_faults=False, with_blemishes=False).simulate(36, 59),
    )
    changed = aged.values != young.values
    worn = [SENSOR_NAMES.index(name) for name in AGEING_END_SHIFT]
    assert set(np.flatnonzero(changed.any(axis=0))) == set(worn)
    rows = changed.any(axis=1)
    assert set(aged.regime[rows]) == {AGEING_REGIME}
    assert aged.timestamp[rows].min() >= np.datetime64("2026-02-14")
    assert not np.any(rows & ~aged.is_aged)
    assert np.array_equal(
        aged.is_aged, (aged.regime == AGEING_REGIME) & (aged.timestamp >= np.datetime64("2026-02-14"))
    )


def test_ageing_grows_to_its_end_magnitude():
    young, aged = HEALTHY.day(58), SimulatedPlant(with_faults=False, with_blemishes=False).day(58)
    half = SimulatedPlant(with_faults=False, with_blemishes=False, ageing_from_day=51).day(58)
    for name, shift in AGEING_END_SHIFT.items():
        column = SENSOR_NAMES.index(name)
        grown = (aged.values - young.values)[aged.is_aged, column]
        assert grown == pytest.approx(shift, abs=0.002)
        assert (half.values - young.values)[half.is_aged, column].mean() == pytest.approx(shift / 2, rel=0.1)


def test_the_start_date_moves_the_timestamps_and_nothing_else():
    later = SimulatedPlant(start=date(2027, 6, 1)).simulate(20, 24)
    usual = SimulatedPlant().simulate(20, 24)
    assert np.array_equal(later.values, usual.values, equal_nan=True)
    assert later.timestamp[0] == np.datetime64("2027-06-21T00:00:00")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: SimulatedPlant(seed=-1), "0 or more, got -1"),
        (lambda: SimulatedPlant(ageing_from_day=-2), "day 0 or later, got -2"),
        (lambda: SimulatedPlant().simulate(5, 4), "got 5 to 4"),
        (lambda: SimulatedPlant().simulate(-1, 4), "got -1 to 4"),
    ],
)
def test_impossible_parameters_are_refused_with_the_next_step(build, words):
    with pytest.raises(ConfigurationError, match=words):
        build()


def test_the_plant_needs_neither_dagster_nor_torch():
    code = "import sys, pwflow_core.simulation; sys.exit(bool({'dagster', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
