"""What is remembered of machines goes on under a newer bundle: by the names of sensors and machines."""

from __future__ import annotations

import numpy as np
import pytest

from pwflow_core.edge.rules import Feature, Limits, Rules, Sensor
from pwflow_core.edge.tracking import QUALITIES, Tracker

pytestmark = pytest.mark.quick

A, B, C = Sensor("a"), Sensor("b"), Sensor("c")
STUCK = 4.0


def rules_of(*sensors: Sensor, window: int = 3) -> Rules:
    names = [sensor.name for sensor in sensors]
    features = (Feature(names.index("b"), "mean", window), Feature(names.index("b"), "lag", 1))
    limits = Limits(np.full(len(sensors), STUCK), np.full((len(sensors), 1), np.nan))
    columns = tuple(range(len(sensors) + len(features)))
    return Rules(sensors, features, columns, 1e3, 1, None, len(sensors) - 1, {"m": limits, "n": limits}, 24.0)


def follow(tracker: Tracker, values: dict[str, list[float]], first: int) -> tuple[list[str], np.ndarray]:
    """Follow readings of two machines, a minute apart; return the qualities and columns of the last one of `m`."""
    number = tracker.numbers(["m", "n"])
    for i in range(len(values["a"])):
        row = np.array([values.get(sensor.name, [0.5] * 99)[i] for sensor in tracker.rules.sensors])
        at = np.full(2, (first + i) * 60_000_000)
        found = tracker.follow(number, at, ["s", "s"], np.stack([row, row + 100]), [None, None])
    return [QUALITIES[code] for code in found.quality], found.columns


def test_a_state_goes_on_where_sensors_are_in_another_order_or_new():
    first = {"a": [1.0, 2.0, 3.0, 4.0], "b": [5.0, 7.0, 9.0, 13.0]}
    then = {"a": [6.0, 8.0], "b": [np.nan, 11.0]}
    whole = Tracker(rules_of(A, B))
    follow(whole, first, 0)
    quality, columns = follow(whole, then, 4)
    before = Tracker(rules_of(A, B))
    follow(before, first, 0)
    other = Tracker(rules_of(C, B, A))
    other.numbers(["new", "n"])
    other.restore(*before.to_arrays())
    assert other.machines.keys() == {"m", "n", "new"}
    found_quality, found = follow(other, then, 4)
    assert found_quality == quality == ["ok", "ok"]
    np.testing.assert_array_equal(found[:, [2, 1, 3, 4]], columns)


def test_a_window_that_became_longer_is_full_once_it_has_come_by():
    before = Tracker(rules_of(A, B, window=2))
    follow(before, {"a": [1.0, 2.0, 3.0], "b": [5.0, 7.0, 9.0]}, 0)
    longer = Tracker(rules_of(A, B, window=4))
    longer.restore(*before.to_arrays())
    assert np.isnan(follow(longer, {"a": [4.0], "b": [11.0]}, 3)[1][0, 2])
    assert follow(longer, {"a": [5.0], "b": [13.0]}, 4)[1][0, 2] == np.mean([7.0, 9.0, 11.0, 13.0])
    shorter = Tracker(rules_of(A, B, window=2))
    shorter.restore(*longer.to_arrays())
    assert follow(shorter, {"a": [6.0], "b": [17.0]}, 5)[1][0, 2] == 15.0


def test_a_sensor_that_is_counted_otherwise_begins_anew():
    before = Tracker(rules_of(A, B))
    follow(before, {"a": [1.0, 2.0, 3.0, 4.0], "b": [5.0, np.nan, np.nan, 5.0]}, 0)
    held = Tracker(rules_of(A, Sensor("b", hold_seconds=600.0)))
    held.restore(*before.to_arrays())
    assert follow(held, {"a": [5.0] * 3, "b": [5.0] * 3}, 4)[0] == ["ok", "ok"]
    assert follow(held, {"a": [9.0], "b": [5.0]}, 7)[0] == ["stuck", "stuck"]
    angle = Tracker(rules_of(A, Sensor("b", period=4.0)))
    angle.restore(*before.to_arrays())
    quality, columns = follow(angle, {"a": [5.0], "b": [np.nan]}, 4)
    assert quality == ["partial", "partial"]
    assert np.isnan(columns[:, [1, 3]]).all()
