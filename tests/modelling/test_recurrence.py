"""Recurrence: what happens on many days is normal, what happened in a few stretches is not."""

import numpy as np
import pytest

from pwflow_core.modelling.recurrence import measure_recurrence

DAY = 86400.0


def plant(seed=0, days=15, per_day=200, machines=2):
    """Three load steps that come back every day, and four sensors that follow them."""
    rng = np.random.default_rng(seed)
    rows, seconds, machine = [], [], []
    for number in range(machines):
        n = days * per_day
        step = np.repeat(rng.choice(3, size=n // 20 + 1), 20)[:n]
        speed = 10 * step + rng.normal(size=n)
        flow = 2 * speed + rng.normal(size=n)
        rows.append(np.column_stack([speed, flow, 50 - 3 * step + rng.normal(size=n), rng.gamma(3, size=n)]))
        seconds.append(np.arange(n) * DAY / per_day)
        machine.append(np.full(n, number))
    return np.concatenate(rows), np.concatenate(seconds), np.concatenate(machine)


def test_a_clean_record_has_no_unusual_stretch():
    for seed in range(5):
        assert measure_recurrence(*plant(seed)).is_unusual.mean() < 0.001


@pytest.mark.parametrize("days", [3, 15, 150])
def test_a_fault_of_one_stretch_is_found_whatever_the_length_of_the_record(days):
    X, seconds, machine = plant(days=days, per_day=3000 // days)
    at = len(X) // 3
    X[at : at + 60, 1] += 15.0
    found = measure_recurrence(X, seconds, machine)
    assert found.is_unusual[at : at + 60].mean() > 0.95
    assert np.delete(found.is_unusual, np.arange(at - 4, at + 64)).mean() < 0.002
    assert found.deviation[at + 30].argmax() == 1


def test_a_fault_on_all_machines_at_once_is_found():
    X, seconds, machine = plant()
    wrong = (seconds > 4.2 * DAY) & (seconds < 4.4 * DAY)
    X[wrong, 0] += 12.0
    assert measure_recurrence(X, seconds, machine).is_unusual[wrong].mean() > 0.95


@pytest.mark.parametrize("pieces", [2, 3, 4])
def test_a_fault_in_a_few_pieces_is_found(pieces):
    X, seconds, machine = plant(days=20)
    wrong = np.zeros(len(X), bool)
    for day in range(2, 2 + 4 * pieces, 4):
        wrong |= (seconds > (day + 0.3) * DAY) & (seconds < (day + 0.4) * DAY) & (machine == 0)
    X[wrong, 3] = -9999.0
    assert measure_recurrence(X, seconds, machine).is_unusual[wrong].all()


def test_a_way_of_running_that_comes_back_every_week_of_two_months_is_normal():
    X, seconds, machine = plant(days=63, per_day=200)
    sunday = seconds // DAY % 7 == 6
    X[sunday] += [40.0, 0.0, 20.0, 5.0]
    assert measure_recurrence(X, seconds, machine).is_unusual.mean() < 0.005


def test_a_relation_that_is_lost_is_found_although_each_sensor_stays_in_its_range():
    X, seconds, machine = plant()
    rng = np.random.default_rng(1)
    X[1000:1080, 1] = rng.permutation(X[:, 1])[:80]
    assert measure_recurrence(X, seconds, machine).is_unusual[1000:1080].mean() > 0.7


def test_values_beyond_all_bounds_and_constants_are_no_trouble():
    X, seconds, machine = plant()
    X = np.column_stack([X, np.full(len(X), 7.0), (X[:, 0] > 15).astype(float), 1e9 + 1e-3 * X[:, 0]])
    X[500:540, 0] = 1e300
    found = measure_recurrence(X, seconds, machine)
    assert np.isfinite(found.excess).all()
    assert found.is_unusual[500:540].all()


def test_a_constant_that_moves_is_found():
    X, seconds, machine = plant()
    X[:, 2] = 0.0
    X[2000:2040, 2] = 3.0
    assert measure_recurrence(X, seconds, machine).is_unusual[2000:2040].all()


def test_a_record_too_short_to_tell_is_not_judged():
    X, seconds, machine = plant(days=1, per_day=50, machines=1)
    assert measure_recurrence(X, seconds, machine) is None


def test_order_of_machines_and_the_origin_of_time_do_not_matter():
    X, seconds, machine = plant()
    X[700:750, 0] += 20
    found = measure_recurrence(X, seconds, machine).is_unusual
    swapped = np.concatenate([np.flatnonzero(machine == 1), np.flatnonzero(machine == 0)])
    again = measure_recurrence(X[swapped], seconds[swapped] + 1e4 * DAY, machine[swapped])
    assert (found[swapped] == again.is_unusual).mean() > 0.999
