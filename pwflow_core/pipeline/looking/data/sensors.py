"""The sensors: what each reads, how finely and how often, and what kind of channel it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

import duckdb
import numpy as np

from pwflow_core.onboarding.angles import is_totaliser, is_wrapping_counter
from pwflow_core.onboarding.columns import Steps, step_counts
from pwflow_core.onboarding.roles import is_quantity
from pwflow_core.onboarding.sentinels import find_sentinels
from pwflow_core.pipeline.looking.data.levels import PeriodLevel, read_levels
from pwflow_core.pipeline.source.source import Sensor
from pwflow_core.warehouse import quote_identifier, read_sql

__all__ = ["Kind", "Mark", "SensorProfile", "profile_sensors"]

Kind = Literal["empty", "constant", "binary", "states", "totaliser", "zero_inflated", "angle", "measurement"]
"""What a channel is, by what it reads: no value, always the same one, 0 and 1, a few whole numbers, a number that only
goes up, a measurement that is often exactly 0, an angle, any other measurement."""

_FEW = 12
_COUNTED_EXACTLY = 64
_OFTEN_ZERO = 0.2
_FEWEST_STEPS = 100
_FEWEST_RISES = 20
_COLUMNS_AT_ONCE = 40
_MOST_DISTINCT = 20_000
_MOST_DECIMALS = 9
_FEWEST_REPEATS, _FEWEST_OTHERS, _MOST_SHARE = 3, 100, 0.1
_ALONE = 5.0
"""Interquartile ranges between a repeated value and the nearest other one."""


@dataclass(frozen=True)
class Mark:
    """A number that may stand for a missing value: far from all else, `n_values` times."""

    value: float
    n_values: int


@dataclass(frozen=True)
class SensorProfile:
    """What one sensor reads, of all machines together.

    Attributes:
        sensor: Its name.
        unit: Its unit; empty where nobody wrote one.
        kind: What kind of channel it is.
        n_values: Values that it has.
        share_missing: Part of the readings without a value of it, 0 to 1.
        lowest: Lowest value.
        median: Median.
        highest: Highest value.
        interval_seconds: Usual time between two values of it; None if it is not known.
        step: All values are multiples of this apart; None if they are finer than can be told.
        n_distinct: Different values, about; exact up to 12.
        share_zero: Part of its values that are 0, 0 to 1.
        n_changes: How often a channel with few values changed; None of other channels.
        last_change_at: When it last did, UTC.
        last_at: Time of its last value, UTC.
        suspected_missing: Numbers that may stand for a missing value.
        is_state: Whether the configuration says that it is a state.
    """

    sensor: str
    unit: str
    kind: Kind
    n_values: int
    share_missing: float
    lowest: float | None = None
    median: float | None = None
    highest: float | None = None
    interval_seconds: float | None = None
    step: float | None = None
    n_distinct: int = 0
    share_zero: float = 0.0
    n_changes: int | None = None
    last_change_at: datetime | None = None
    last_at: datetime | None = None
    suspected_missing: tuple[Mark, ...] = ()
    is_state: bool = False


@dataclass(frozen=True)
class _Counts:
    """What one scan of all readings says of a sensor."""

    n: int
    low: float | None
    high: float | None
    n_distinct: int
    n_zero: int
    is_whole: bool
    last: datetime | None


def profile_sensors(
    connection: duckdb.DuckDBPyConnection, readings: str, sensors: Sequence[Sensor], n_readings: int
) -> tuple[tuple[SensorProfile, ...], dict[str, list[PeriodLevel]]]:
    """Return what is known of each sensor, and the levels of those that measure; expects `stretches`.

    Each value is counted. What has to be seen in order, such as the steps from one value to the next, is seen in
    `stretches`.

    Arguments:
        connection: Open for reading.
        readings: The readings, as a relation in SQL.
        sensors: The sensors.
        n_readings: How many readings there are.
    """
    counts = _count(connection, readings, sensors)
    steps = _read_steps(connection, sensors, counts)
    profiles: list[SensorProfile] = []
    levels: dict[str, list[PeriodLevel]] = {}
    for sensor in sensors:
        seen = counts[sensor.name]
        profile = SensorProfile(
            sensor.name,
            sensor.unit,
            "empty",
            seen.n,
            1 - seen.n / n_readings if n_readings else 0.0,
            seen.low,
            seen.low,
            seen.high,
            n_distinct=seen.n_distinct,
            share_zero=seen.n_zero / seen.n if seen.n else 0.0,
            last_at=seen.last,
            is_state=sensor.state,
        )
        if seen.n:
            profile = replace(
                profile,
                step=_find_step(connection, sensor.name),
                interval_seconds=_find_interval(connection, sensor.name),
            )
        if seen.n and seen.n_distinct <= _FEW:
            profile = _with_states(connection, readings, profile, seen)
        if seen.n and profile.kind == "empty":
            found = read_levels(connection, readings, sensor.name)
            profile = replace(
                profile,
                kind=_kind(sensor, seen, steps[sensor.name]),
                median=found.middle[1],
                suspected_missing=_find_marks(connection, readings, sensor.name, seen, found.middle),
            )
            if profile.kind in ("measurement", "zero_inflated"):
                levels[sensor.name] = found.periods
        profiles.append(profile)
    return tuple(profiles), levels


def _count(connection: duckdb.DuckDBPyConnection, readings: str, sensors: Sequence[Sensor]) -> dict[str, _Counts]:
    counts: dict[str, _Counts] = {}
    for start in range(0, len(sensors), _COLUMNS_AT_ONCE):
        part = sensors[start : start + _COLUMNS_AT_ONCE]
        measures = ", ".join(
            f"count({c}), min({c}), max({c}), approx_count_distinct({c}), count_if({c} = 0), "
            f"coalesce(bool_and({c} = round({c})), false), max(CASE WHEN {c} IS NOT NULL THEN ts END)"
            for c in (quote_identifier(sensor.name) for sensor in part)
        )
        [row] = connection.execute(f"SELECT {measures} FROM {readings}").fetchall()
        for i, sensor in enumerate(part):
            seen = _Counts(*row[i * 7 : i * 7 + 7])
            seen = replace(seen, n_distinct=min(seen.n, seen.n_distinct))
            if 0 < seen.n_distinct <= _COUNTED_EXACTLY:
                [[exact]] = connection.execute(
                    f"SELECT count(DISTINCT {quote_identifier(sensor.name)}) FROM {readings}"
                ).fetchall()
                seen = replace(seen, n_distinct=exact)
            counts[sensor.name] = seen
    return counts


def _read_steps(
    connection: duckdb.DuckDBPyConnection, sensors: Sequence[Sensor], counts: Mapping[str, _Counts]
) -> dict[str, Steps]:
    """Return how the values of each sensor go on from one to the next."""
    found: dict[str, Steps] = {}
    for start in range(0, len(sensors), _COLUMNS_AT_ONCE):
        part = sensors[start : start + _COLUMNS_AT_ONCE]
        columns = [quote_identifier(sensor.name) for sensor in part]
        pairs = ", ".join(
            f"{c} AS now{i}, lag({c} IGNORE NULLS) OVER (PARTITION BY machine_id, stretch ORDER BY ts) AS before{i}"
            for i, c in enumerate(columns)
        )
        measures = ", ".join(
            step_counts(f"now{i}", f"before{i}", (counts[sensor.name].low or 0.0, counts[sensor.name].high or 0.0))
            for i, sensor in enumerate(part)
        )
        [row] = connection.execute(f"SELECT {measures} FROM (SELECT {pairs} FROM stretches)").fetchall()
        found |= {s.name: Steps.from_counts(*row[i * 7 : i * 7 + 7]) for i, s in enumerate(part)}
    return found


def _with_states(
    connection: duckdb.DuckDBPyConnection, readings: str, profile: SensorProfile, seen: _Counts
) -> SensorProfile:
    """Return the profile of a channel with few values: how often it changed; as it is, if it measures something."""
    column = quote_identifier(profile.sensor)
    measures = bool(profile.unit) or is_quantity(profile.sensor) or not seen.is_whole
    if seen.n_distinct > 2 and measures:
        return profile
    [(n_changes, last)] = connection.execute(
        read_sql(__package__, "changes.sql", readings=readings, sensor=column)
    ).fetchall()
    kind: Kind = "states"
    if n_changes == 0:
        kind = "constant"
    elif seen.n_distinct == 2 and (seen.low, seen.high) == (0.0, 1.0):
        kind = "binary"
    [[median]] = connection.execute(f"SELECT quantile_disc({column}, 0.5) FROM {readings}").fetchall()
    return replace(profile, kind=kind, median=median, n_changes=n_changes, last_change_at=last)


def _kind(sensor: Sensor, seen: _Counts, steps: Steps) -> Kind:
    if sensor.period:
        return "angle"
    rises = steps.n >= _FEWEST_STEPS and steps.down == 0 and steps.up * steps.n >= _FEWEST_RISES
    if rises or is_totaliser(steps) or is_wrapping_counter(steps, is_whole=seen.is_whole):
        return "totaliser"
    is_edge = seen.low == 0 or seen.high == 0
    return "zero_inflated" if is_edge and seen.n_zero >= _OFTEN_ZERO * seen.n else "measurement"


def _find_interval(connection: duckdb.DuckDBPyConnection, sensor: str) -> float | None:
    [[seconds]] = connection.execute(
        "SELECT median(epoch(ts - before)) FROM ("
        "SELECT ts, lag(ts) OVER (PARTITION BY machine_id, stretch ORDER BY ts) AS before "
        f"FROM stretches WHERE {quote_identifier(sensor)} IS NOT NULL)"
    ).fetchall()
    return None if seconds is None else float(seconds)


def _find_step(connection: duckdb.DuckDBPyConnection, sensor: str) -> float | None:
    """Return what all values are multiples of apart, from the decimals that they are written with."""
    column = quote_identifier(sensor)
    rows = connection.execute(
        f"SELECT DISTINCT {column} FROM stretches WHERE {column} IS NOT NULL LIMIT {_MOST_DISTINCT:d}"
    ).fetchnumpy()
    values = np.asarray(next(iter(rows.values())), dtype=np.float64)
    if len(values) < 2:
        return None
    is_single = bool((values.astype(np.float32) == values).all() and (values != np.round(values)).any())
    spacing = np.spacing(np.abs(values.astype(np.float32))) if is_single else np.spacing(np.abs(values))
    tolerance = 4 * spacing.astype(np.float64)
    for decimals in range(_MOST_DECIMALS + 1):
        scaled = np.round(values * 10.0**decimals)
        if np.abs(scaled).max() >= 2.0**53:
            return None
        if (np.abs(values - scaled / 10.0**decimals) <= tolerance).all():
            whole = scaled.astype(np.int64)
            return float(np.gcd.reduce(np.abs(whole - whole[0]))) / 10.0**decimals
    return None


def _find_marks(
    connection: duckdb.DuckDBPyConnection,
    readings: str,
    sensor: str,
    seen: _Counts,
    middle: tuple[float, float, float],
) -> tuple[Mark, ...]:
    """Return the numbers that may stand for a missing value: the known ones, and a lowest or highest one far away."""
    column = quote_identifier(sensor)
    if known := find_sentinels(connection, readings, [column]).get(column):
        return tuple(Mark(value, n) for value, n in known.items())
    [row] = connection.execute(
        f"SELECT count_if({column} = $low), min({column}) FILTER ({column} > $low), "
        f"count_if({column} = $high), max({column}) FILTER ({column} < $high) FROM {readings}",
        {"low": seen.low, "high": seen.high},
    ).fetchall()
    found = []
    for value, count, nearest in ((seen.low, *row[:2]), (seen.high, *row[2:])):
        if value and nearest is not None and _is_alone(value, count, nearest, seen.n, middle):
            found.append(Mark(value, count))
    return tuple(found)


def _is_alone(value: float, count: int, nearest: float, n: int, middle: tuple[float, float, float]) -> bool:
    """Whether a value other than 0 repeats far from all others: further than these are from their middle."""
    if count < _FEWEST_REPEATS or count > _MOST_SHARE * n or n - count < _FEWEST_OTHERS:
        return False
    away = abs(nearest - value)
    return away > _ALONE * (middle[2] - middle[0]) and away > abs(nearest - middle[1])
