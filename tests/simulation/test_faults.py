"""Laws of the labelled faults: how many, where, and that they change only what their label says."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from pwflow_core.simulation import FAULT_KINDS, MACHINES, SENSOR_NAMES, PlantReadings, SimulatedPlant

pytestmark = pytest.mark.quick

FAULTY = SimulatedPlant(with_blemishes=False)
SEEDS = (0, 7, 11, 2024)


@pytest.fixture(scope="module")
def readings() -> PlantReadings:
    return FAULTY.simulate(0, 59)


@pytest.fixture(scope="module")
def healthy() -> PlantReadings:
    return SimulatedPlant(with_faults=False, with_blemishes=False).simulate(0, 59)


def rows_of(readings, fault):
    return np.flatnonzero(readings.fault_id == fault.fault_id)


@pytest.mark.parametrize("seed", SEEDS)
def test_sixty_days_hold_enough_faults_of_every_kind(seed):
    counts = Counter(fault.kind for fault in SimulatedPlant(seed=seed).faults(0, 59))
    assert set(counts) == set(FAULT_KINDS)
    assert min(counts[kind] for kind in ("spike", "correlation_loss", "wrong_regime")) >= 12
    assert counts["stuck_sensor"] >= 6
    assert counts["sensor_drift"] >= 3


@pytest.mark.parametrize("seed", SEEDS)
def test_faults_of_one_machine_never_overlap(seed):
    faults = SimulatedPlant(seed=seed).faults(0, 119)
    assert len({fault.fault_id for fault in faults}) == len(faults)
    for machine in MACHINES:
        own = [fault for fault in faults if fault.machine == machine]
        assert all(earlier.end < later.start for earlier, later in pairwise(own))


def test_the_first_days_have_few_faults(readings):
    young = readings.timestamp < np.datetime64("2026-01-25")
    assert 0 < np.mean(readings.fault_id[young] != "") < 0.01


def test_the_plan_of_a_day_does_not_depend_on_the_days_asked_for():
    whole = {fault.fault_id: fault for fault in FAULTY.faults(0, 59)}
    for day in range(60):
        for fault in FAULTY.faults(day, day):
            assert whole[fault.fault_id] == fault


def test_labels_run_from_start_to_end_on_the_machine_of_the_fault(readings):
    for fault in FAULTY.faults(0, 59):
        rows = rows_of(readings, fault)
        minutes = (fault.end - fault.start).total_seconds() / 60 + 1
        assert set(readings.machine[rows]) == {fault.machine}
        assert set(readings.fault_kind[rows]) == {fault.kind}
        assert readings.timestamp[rows[0]] == np.datetime64(fault.start.replace(tzinfo=None))
        assert readings.timestamp[rows[-1]] == np.datetime64(fault.end.replace(tzinfo=None))
        assert len(rows) == minutes


def test_faults_change_their_own_sensors_and_times_and_nothing_else(readings, healthy):
    changed = readings.values != healthy.values
    for fault in FAULTY.faults(0, 59):
        rows = rows_of(readings, fault)
        affected = np.flatnonzero(changed[rows].any(axis=0))
        assert {SENSOR_NAMES[column] for column in affected} == set(fault.sensors), fault
        changed[rows] = False
    assert not changed.any()
    assert np.array_equal(readings.regime, healthy.regime)


def test_a_stuck_sensor_repeats_one_value_for_longer_than_a_healthy_one_ever_does(readings, healthy):
    for fault in FAULTY.faults(0, 59):
        if fault.kind == "stuck_sensor":
            column = SENSOR_NAMES.index(fault.sensors[0])
            rows = rows_of(readings, fault)
            assert len(rows) >= 90
            assert np.ptp(readings.values[rows, column]) == 0
    still = (np.diff(healthy.values, axis=0) == 0).astype(int)
    for column in still.T:
        longest = np.diff(np.flatnonzero(np.concatenate([[1], column == 0, [1]]))).max()
        assert longest < 10


def test_a_drift_lasts_days_and_grows_slowly(readings, healthy):
    drifts = [fault for fault in FAULTY.faults(0, 59) if fault.kind == "sensor_drift"]
    days = [(fault.end - fault.start).total_seconds() / 86400 for fault in drifts]
    assert min(days) > 2
    assert max(days) > 6
    for fault in drifts:
        rows, column = rows_of(readings, fault), SENSOR_NAMES.index(fault.sensors[0])
        shift = readings.values[rows, column] - healthy.values[rows, column]
        if fault.sensors[0].startswith("coolant_") and fault.sensors[0] != "coolant_temperature":
            flowing = healthy.values[rows, column] > 5
            shift = shift[flowing] / healthy.values[rows, column][flowing]
        assert shift[-1] == pytest.approx(fault.magnitude, rel=0.06)
        assert abs(shift[0]) < 0.15 * abs(fault.magnitude)
        assert np.corrcoef(shift, np.arange(len(shift)))[0, 1] * np.sign(fault.magnitude) > 0.99


def test_a_spike_jumps_by_its_magnitude_for_at_most_three_readings(readings, healthy):
    for fault in FAULTY.faults(0, 59):
        if fault.kind == "spike":
            rows, column = rows_of(readings, fault), SENSOR_NAMES.index(fault.sensors[0])
            assert 1 <= len(rows) <= 3
            jump = readings.values[rows, column] - healthy.values[rows, column]
            assert jump == pytest.approx(fault.magnitude, abs=0.1)


@pytest.mark.parametrize("kind", ["correlation_loss", "wrong_regime"])
def test_these_faults_hide_from_a_threshold_per_sensor(readings, healthy, kind):
    faulty = readings.fault_kind == kind
    inside = np.zeros(int(faulty.sum()), dtype=bool)
    recipes = readings.recipe[faulty]
    for recipe in "AB":
        normal = healthy.values[healthy.recipe == recipe]
        values = readings.values[faulty][recipes == recipe]
        inside[recipes == recipe] = np.all((values >= normal.min(axis=0)) & (values <= normal.max(axis=0)), axis=1)
    assert inside.mean() > 0.9


@pytest.mark.parametrize("kind", ["spike", "correlation_loss", "wrong_regime"])
def test_these_faults_are_far_outside_the_density_of_their_own_regime(readings, healthy, kind):
    """Nearly every event has a reading that no neighbour among ten thousand healthy ones comes near to."""
    seen = 0
    faults = [fault for fault in FAULTY.faults(0, 59) if fault.kind == kind]
    for regime in set(readings.regime[readings.fault_kind == kind]):
        normal = healthy.values[(healthy.regime == regime) & ~healthy.is_aged]
        mean, whiten = normal.mean(axis=0), np.linalg.cholesky(np.linalg.inv(np.cov(normal.T)))
        neighbours = NearestNeighbors(n_neighbors=1).fit((normal[:10_000] - mean) @ whiten)
        usual = neighbours.kneighbors((normal[-5000:] - mean) @ whiten)[0].max()
        for fault in faults:
            rows = rows_of(readings, fault)
            if readings.regime[rows[0]] == regime:
                distance = neighbours.kneighbors((readings.values[rows] - mean) @ whiten)[0].max()
                seen += distance > usual
    assert seen >= 0.75 * len(faults)
