"""What readings depend on that came before them: quality and features over time, with a fixed memory per machine.

The rules are those of `pipeline/readings/quality.sql` and `features.sql`, which settle a whole history at once. Here
readings come in the order of time, one of each machine at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwflow_core.edge.rules import Limits, Rules, Sensor

__all__ = ["QUALITIES", "Followed", "Tracker"]

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Times = NDArray[np.int64]

QUALITIES = ("ok", "filled", "partial", "stuck", "missing", "invalid")
"""By code; the first three get a score."""
_OK, _FILLED, _PARTIAL, _STUCK, _MISSING, _INVALID = range(6)
_FEWEST_MACHINES = 8
_OF_MACHINES = ("last_at", "place", "run_place", "run_at")
_OF_SENSORS = ("own_place", "change_place", "value", "value_at", "value_place")
_ARRAYS = (*_OF_MACHINES, *_OF_SENSORS, "recent", "recent_at")


@dataclass(frozen=True, eq=False)
class Followed:
    """Readings beside those before them.

    Attributes:
        quality: Codes of `QUALITIES`, shape (N,).
        reason: Why a reading is not plainly ok; None where it is, shape (N,).
        columns: What the models see, NaN where there is no value, shape (N, C).
        states: What the states are, NaN where a value is missing, shape (N, S).

    """

    quality: NDArray[np.int8]
    reason: list[str | None]
    columns: Array
    states: Array


class Tracker:
    """Follows the readings of all machines.

    Arguments:
        rules: How values become what the models see.

    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.machines: dict[str, int] = {}
        self._segments: list[str] = []
        n_sensors, length = len(rules.sensors), rules.reach + 1
        self._is_state = np.array([sensor.state for sensor in rules.sensors])
        self._held = np.array([sensor.hold_seconds is not None for sensor in rules.sensors])
        self._hold_seconds = np.array([sensor.hold_seconds or 0.0 for sensor in rules.sensors])
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(_OF_MACHINES, ())
        shapes |= dict.fromkeys(_OF_SENSORS, (n_sensors,))
        shapes |= {"recent": (length, n_sensors), "recent_at": (length,)}
        self._state = {
            name: np.full((0, *shapes[name]), np.nan)
            if name in ("value", "recent")
            else np.zeros((0, *shapes[name]), np.int64)
            for name in _ARRAYS
        }
        self._limits = Limits(np.empty((0, n_sensors)), np.empty((0, n_sensors, 1)))

    def numbers(self, machines: Sequence[str]) -> Index:
        """Return the numbers of machines, shape (N,); a machine that was not there before gets one."""
        known = self.machines
        fresh = [name for name in dict.fromkeys(machines) if name not in known]
        if fresh:
            known.update({name: len(known) + i for i, name in enumerate(fresh)})
            self._make_room()
        return np.fromiter((known[name] for name in machines), dtype=np.intp, count=len(machines))

    def last_at(self, machine: Index) -> Times:
        """Return the time of the last reading of machines, µs since 1970, shape (N,); the least there is for none."""
        none = np.iinfo(np.int64).min
        return np.where(self._state["place"][machine] > 0, self._state["last_at"][machine], none)

    def follow(
        self, machine: Index, at: Times, segment: Sequence[str], values: Array, refused: Sequence[str | None]
    ) -> Followed:
        """Follow one reading of each of some machines, later than all of theirs before.

        Arguments:
            machine: Numbers of the machines, all different, shape (N,).
            at: Times, µs since 1970, shape (N,).
            segment: Process conditions, shape (N,).
            values: Of the sensors, NaN where there is none, shape (N, S).
            refused: Why a reading is invalid, or None, shape (N,).

        """
        rules, state = self.rules, self._state
        before = {name: state[name][machine] for name in (*_OF_MACHINES, *_OF_SENSORS)}
        is_new = before["place"] == 0
        seconds = at / 1e6
        is_gap = is_new | (seconds - before["last_at"] / 1e6 > rules.gap_seconds)
        place = before["place"] + 1
        known = [self._segments[i] for i in machine]
        is_switch = np.fromiter((a != b for a, b in zip(segment, known, strict=True)), np.bool_, len(known))
        is_run_start = is_gap | is_switch
        run_place = np.where(is_run_start, place, before["run_place"])
        run_at = np.where(is_run_start, at, before["run_at"])

        has = ~np.isnan(values)
        own_place = before["own_place"] + has
        counted = np.where(self._held, own_place, place[:, None])
        is_change = is_gap[:, None] | (has & ~(values == before["value"]))
        change_place = np.where(is_change, counted, before["change_place"])
        longest, resting = self._limits.longest[machine], self._limits.resting[machine]
        is_stuck = has & (counted - change_place >= longest) & ~(values[:, :, None] == resting).any(axis=2)

        filling = self._filling(place, run_place, seconds, before)
        filled = np.where(has, np.nan, filling)
        is_filled = ~has & ~np.isnan(filling)
        is_missing = ~has & ~is_filled & ~self._is_state
        by_rule = is_filled & ~self._held
        quality = self._judge(is_missing, is_stuck, by_rule, refused)
        is_bridged = (quality <= _PARTIAL) & is_filled.any(axis=1)
        seen = np.where(is_bridged[:, None] & is_filled, filled, values)

        recent = place % (rules.reach + 1)
        state["recent"][machine, recent] = np.where((quality == _STUCK)[:, None], np.nan, seen)
        state["recent_at"][machine, recent] = at
        now = {
            "last_at": at,
            "place": place,
            "run_place": run_place,
            "run_at": run_at,
            "own_place": own_place,
            "change_place": change_place,
            "value": np.where(has, values, before["value"]),
            "value_at": np.where(has, at[:, None], before["value_at"]),
            "value_place": np.where(has, place[:, None], before["value_place"]),
        }
        for name, array in now.items():
            state[name][machine] = array
        for number, name in zip(machine, segment, strict=True):
            self._segments[number] = name
        columns = np.concatenate([seen, self._features(machine, place, run_place, run_at)], axis=1)
        reasons = [
            self._reason(int(quality[row]), refused[row], is_stuck[row], by_rule[row], is_missing[row])
            for row in range(len(machine))
        ]
        return Followed(quality, reasons, columns[:, rules.columns], seen[:, rules.states])

    def to_arrays(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the state as arrays and a JSON document: what is needed to go on from here."""
        n = len(self.machines)
        arrays: dict[str, NDArray[Any]] = {name: self._state[name][:n].copy() for name in _ARRAYS}
        sensors = [[sensor.name, *_scale(sensor), sensor.hold_seconds] for sensor in self.rules.sensors]
        return arrays, {"machines": list(self.machines), "segments": self._segments[:n], "sensors": sensors}

    def restore(self, arrays: Mapping[str, NDArray[Any]], document: Mapping[str, Any]) -> None:
        """Go on from a state, of the machines and sensors in it; what else there is stays as it is.

        A sensor whose unit or angle is another one now begins with nothing.

        Raises:
            KeyError: The state lacks a part.
            ValueError: A part of it has the wrong shape.

        """
        given = {name: (place, scale, hold) for place, (name, *scale, hold) in enumerate(document["sensors"])}
        pairs = [
            (place, given[sensor.name][0])
            for place, sensor in enumerate(self.rules.sensors)
            if sensor.name in given and given[sensor.name][1] == _scale(sensor)
        ]
        here, there = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
        machine = self.numbers(document["machines"])
        for number, segment in zip(machine, document["segments"], strict=True):
            self._segments[number] = segment
        state, have, length = self._state, arrays["recent"].shape[1], self.rules.reach + 1
        for name in _OF_MACHINES:
            state[name][machine] = arrays[name]
        for name in _OF_SENSORS:
            state[name][machine] = np.nan if name == "value" else 0
            state[name][np.ix_(machine, here)] = arrays[name][:, there]
        state["recent"][machine], state["recent_at"][machine] = np.nan, 0
        every, place = np.arange(len(machine)), arrays["place"]
        for back in range(min(have, length)):
            then, now = (place - back) % have, (place - back) % length
            remembered = arrays["recent"][every, then]
            state["recent"][machine[:, None], now[:, None], here] = remembered[:, there]
            state["recent_at"][machine, now] = arrays["recent_at"][every, then]
        if have < length:  # longer windows are full once they have come by
            state["run_place"][machine] = np.maximum(arrays["run_place"], place - have + 1)
        for sensor, before in pairs:  # what changes are counted by is another count now
            if self._held[sensor] != (document["sensors"][before][-1] is not None):
                counted = arrays["own_place"][:, before] if self._held[sensor] else place
                state["change_place"][machine, sensor] = counted

    def _make_room(self) -> None:
        """Make room for the machines that have a number by now, and look up their limits."""
        have, need = len(self._state["place"]), len(self.machines)
        if need > have:
            more = max(need, 2 * have, _FEWEST_MACHINES) - have
            for name, array in self._state.items():
                fill = np.nan if array.dtype == np.float64 else 0
                self._state[name] = np.concatenate([array, np.full((more, *array.shape[1:]), fill, array.dtype)])
            self._segments += [""] * more
        n_sensors, known = len(self.rules.sensors), self.rules.limits
        width = max([1, *(limits.resting.shape[1] for limits in known.values())])
        self._limits = Limits(np.full((need, n_sensors), np.inf), np.full((need, n_sensors, width), np.nan))
        for name, number in self.machines.items():
            if name in known:
                self._limits.longest[number] = known[name].longest
                self._limits.resting[number, :, : known[name].resting.shape[1]] = known[name].resting

    def _filling(self, place: Times, run_place: Times, seconds: Array, before: dict[str, NDArray[Any]]) -> Array:
        """Return the last value of each sensor where it can take the place of a missing one, else NaN, shape (N, S)."""
        value, value_place = before["value"], before["value_place"]
        age = seconds[:, None] - before["value_at"] / 1e6
        first = np.maximum(run_place, place - self.rules.fill_readings)
        is_recent = value_place >= first[:, None]
        if self.rules.fill_seconds is not None:
            is_recent &= age <= self.rules.fill_seconds
        return np.where(np.where(self._held, age <= self._hold_seconds, is_recent), value, np.nan)

    def _judge(
        self,
        is_missing: NDArray[np.bool_],
        is_stuck: NDArray[np.bool_],
        is_filled: NDArray[np.bool_],
        refused: Sequence[str | None],
    ) -> NDArray[np.int8]:
        n_missing = is_missing.sum(axis=1)
        quality = np.full(len(n_missing), _OK, dtype=np.int8)
        quality[is_filled.any(axis=1)] = _FILLED
        quality[n_missing > 0] = _PARTIAL
        quality[is_stuck.any(axis=1)] = _STUCK
        quality[n_missing > self.rules.max_missing] = _MISSING
        quality[np.array([reason is not None for reason in refused], dtype=np.bool_)] = _INVALID
        return quality

    def _reason(
        self,
        quality: int,
        refused: str | None,
        is_stuck: NDArray[np.bool_],
        is_filled: NDArray[np.bool_],
        is_missing: NDArray[np.bool_],
    ) -> str | None:
        if quality in (_OK, _INVALID):
            return refused
        if quality == _STUCK:
            return "stuck: " + self._named(is_stuck)
        filled = "filled: " + self._named(is_filled) if is_filled.any() else ""
        if quality == _FILLED:
            return filled
        missing = "missing: " + self._named(is_missing)
        return f"{missing}; {filled}" if quality == _PARTIAL and filled else missing

    def _named(self, which: NDArray[np.bool_]) -> str:
        return ", ".join(self.rules.sensors[place].name for place in np.flatnonzero(which))

    def _features(self, machine: Index, place: Times, run_place: Times, run_at: Times) -> Array:
        """Return the features over time, NaN until enough readings have come, shape (N, F)."""
        rules, length = self.rules, self.rules.reach + 1
        made = np.full((len(machine), len(rules.features)), np.nan)
        n_in_run = place - run_place + 1
        by_window: dict[int, list[int]] = {}
        recent = self._state["recent"]
        for number, feature in enumerate(rules.features):
            if feature.kind not in ("lag", "difference"):
                by_window.setdefault(feature.n_readings, []).append(number)
                continue
            earlier = recent[machine, (place - feature.n_readings) % length, feature.sensor]
            value = earlier if feature.kind == "lag" else recent[machine, place % length, feature.sensor] - earlier
            made[:, number] = np.where(n_in_run > feature.n_readings, value, np.nan)
        for window, numbers in by_window.items():
            places = (place[:, None] - np.arange(window - 1, -1, -1)) % length
            values = recent[machine[:, None], places]
            since = (self._state["recent_at"][machine[:, None], places] - run_at[:, None]) / 1e6
            statistics = _statistics(values, since)
            is_full = (n_in_run >= window)[:, None] & (statistics.pop("count") >= max(window // 2 + 1, 2))
            for number in numbers:
                feature = rules.features[number]
                value = statistics[feature.kind][:, feature.sensor]
                made[:, number] = np.where(is_full[:, feature.sensor], value, np.nan)
        return made


def _scale(sensor: Sensor) -> list[object]:
    """Return what the values of a sensor are counted in."""
    return [sensor.unit, sensor.period, sensor.cut]


def _statistics(values: Array, seconds: Array) -> dict[str, Array]:
    """Return count, mean, standard deviation and slope of windows (N, W, S) with times (N, W), (N, S) each."""
    has = ~np.isnan(values)
    count = has.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(has, values, 0.0).sum(axis=1) / count
        off = np.where(has, values - mean[:, None], 0.0)
        second = np.where(has, seconds[:, :, None], 0.0)
        late = np.where(has, second - (second.sum(axis=1) / count)[:, None], 0.0)
        spread = (late * late).sum(axis=1)
        return {
            "count": count,
            "mean": mean,
            "std": np.sqrt((off * off).sum(axis=1) / (count - 1)),
            "slope": np.where(spread > 0, (late * off).sum(axis=1) / spread, np.nan),
        }
