"""What a person should look at in the data, the most doubtful first, as facts; the sentences are in the text files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median

from pwflow_core.config import PlantConfig
from pwflow_core.onboarding.tags import hold_of
from pwflow_core.onboarding.toml import toml_key, toml_value
from pwflow_core.pipeline.looking.data.profile import DataProfile
from pwflow_core.pipeline.looking.data.rejections import Rejection, RepeatedRefusal
from pwflow_core.pipeline.looking.data.sensors import SensorProfile
from pwflow_core.pipeline.looking.data.units import UnitJump

__all__ = ["DOUBTS", "Doubt", "find_doubts", "find_left_out_doubts"]

DOUBTS = (
    "file_refused",
    "row_refused",
    "unit_in_time",
    "unit_between",
    "sentinel",
    "refused_word",
    "refused_number",
    "value_refused",
    "empty",
    "silent_sensor",
    "slow",
    "missing",
    "silent_machine",
    "gaps",
    "more_gaps",
    "left_out_changed",
    "left_out_constant",
    "constant",
    "binary",
    "states",
    "totaliser",
    "coarse",
    "left_out",
)
"""All kinds, in order of doubt."""

_OFTEN_MISSING = 0.05
_SLOWER = 1.5
_SILENT = timedelta(days=1)
_COARSE_LEVELS = 8
_FEWEST_VALUES = 100
_MOST_WORDS = 3
_MOST_MACHINES = 3


@dataclass(frozen=True)
class Doubt:
    """Something to look at.

    Attributes:
        kind: One of `DOUBTS`.
        about: The file, sensor or machine.
        size: How much it is about, in rows or values: the larger first.
        values: What its sentences say: texts, numbers and times (UTC).
        reason: Of what was refused: why, by its code.
    """

    kind: str
    about: str
    size: float = 0.0
    values: Mapping[str, object] = field(default_factory=dict)
    reason: str | None = None


def find_doubts(profile: DataProfile, config: PlantConfig) -> tuple[Doubt, ...]:
    """Return what to look at in the data of a plant, the most doubtful first."""
    held = {name for name, sensor in config.sensors.items() if sensor.hold_seconds}
    found = [Doubt("file_refused", name, 1, {"file": name, "why": why}) for name, why in profile.refused_files.items()]
    found += _refusals(profile, config.source.missing_words)
    found += [_unit(jump) for jump in profile.unit_jumps]
    last = max((machine.last for machine in profile.machines), default=None)
    rhythm = median([m.interval_seconds for m in profile.machines if m.interval_seconds] or [0.0])
    for sensor in profile.sensors:
        found += _about_sensor(sensor)
        if last is not None:
            found += _about_absence(sensor, last, rhythm, is_held=sensor.sensor in held)
    found += _about_machines(profile)
    return in_order(found)


def find_left_out_doubts(sensors: Sequence[SensorProfile]) -> tuple[Doubt, ...]:
    """Return what to say of columns that a run does not read."""
    found = []
    for sensor in sensors:
        key = toml_key(sensor.sensor)
        values: dict[str, object] = {"sensor": sensor.sensor, "key": key, "value": sensor.lowest}
        if sensor.kind == "constant":
            found.append(Doubt("left_out_constant", sensor.sensor, sensor.n_values, values))
        elif sensor.kind in ("binary", "states"):
            values |= {"n": sensor.n_changes, "last": sensor.last_change_at, "low": sensor.lowest}
            values |= {"high": sensor.highest, "name": toml_value(sensor.sensor)}
            found.append(Doubt("left_out_changed", sensor.sensor, sensor.n_values, values))
        elif sensor.kind in ("measurement", "zero_inflated", "angle"):
            values |= {"low": sensor.lowest, "high": sensor.highest}
            found.append(Doubt("left_out", sensor.sensor, sensor.n_values, values))
    return in_order(found)


def in_order(doubts: Sequence[Doubt]) -> tuple[Doubt, ...]:
    """Return doubts with the most doubtful kind first, in each the largest."""
    return tuple(sorted(doubts, key=lambda doubt: (DOUBTS.index(doubt.kind), -doubt.size, doubt.about)))


def _refusals(profile: DataProfile, missing_words: Sequence[str]) -> Iterator[Doubt]:
    told = set()
    by_sensor: dict[tuple[str, str], list[RepeatedRefusal]] = {}
    for refusal in profile.repeated_refusals:
        by_sensor.setdefault((refusal.sensor, refusal.reason), []).append(refusal)
    for (sensor, reason), repeated in by_sensor.items():
        worst = repeated[0]
        values: dict[str, object] = {"sensor": sensor, "key": toml_key(sensor), "value": worst.value}
        values |= {"n": worst.n_values}
        if reason == "not_a_number":
            words = list(dict.fromkeys([*missing_words, *(one.value for one in repeated[:_MOST_WORDS])]))
            yield Doubt("refused_word", sensor, worst.n_values, values | {"words": toml_value(words)})
            told.add((sensor, reason))
        elif (number := _number(worst.value)) is not None:
            yield Doubt("refused_number", sensor, worst.n_values, values | {"missing": toml_value([number])}, reason)
            told.add((sensor, reason))
    for row in profile.rejections:
        if row.sensor is None:
            yield _row_refused(row, profile.n_rows)
        elif (row.sensor, row.reason) not in told:
            values = {"sensor": row.sensor, "n": row.n_values, "example": row.example or ""}
            yield Doubt("value_refused", row.sensor, row.n_values, values, row.reason)


def _row_refused(row: Rejection, n_rows: int) -> Doubt:
    values: dict[str, object] = {"n": row.n_values, "example": row.example or "", "detail": row.detail or ""}
    values["share"] = row.n_values / n_rows if n_rows else 0.0
    return Doubt("row_refused", row.reason, row.n_values, values, row.reason)


def _unit(jump: UnitJump) -> Doubt:
    values: dict[str, object] = {
        "sensor": jump.sensor,
        "machine": jump.machine_id,
        "smaller": jump.smaller,
        "larger": jump.larger,
        "usual": jump.usual,
        "there": jump.there,
    }
    if jump.since is None:
        return Doubt("unit_between", jump.sensor, 0, values)
    return Doubt("unit_in_time", jump.sensor, 0, values | {"since": jump.since})


def _about_sensor(sensor: SensorProfile) -> Iterator[Doubt]:
    name, key = sensor.sensor, toml_key(sensor.sensor)
    values: dict[str, object] = {"sensor": name, "key": key, "unit": sensor.unit}
    if marks := sensor.suspected_missing:
        about = values | {"marks": [mark.value for mark in marks], "n": sum(mark.n_values for mark in marks)}
        about |= {"missing": toml_value([_as_whole(mark.value) for mark in marks]), "median": sensor.median}
        yield Doubt("sentinel", name, sum(mark.n_values for mark in marks), about)
    if sensor.is_state:
        return
    if sensor.kind == "constant":
        yield Doubt("constant", name, sensor.n_values, values | {"value": sensor.lowest})
    elif sensor.kind in ("binary", "states"):
        about = values | {"n": sensor.n_changes, "last": sensor.last_change_at, "name": toml_value(name)}
        yield Doubt(sensor.kind, name, sensor.n_values, about | {"n_values": sensor.n_distinct})
    elif sensor.kind == "totaliser":
        yield Doubt("totaliser", name, sensor.n_values, values | {"low": sensor.lowest, "high": sensor.highest})
    elif sensor.kind == "measurement" and sensor.n_distinct <= _COARSE_LEVELS and sensor.n_values >= _FEWEST_VALUES:
        yield Doubt("coarse", name, sensor.n_values, values | {"step": sensor.step, "n": sensor.n_distinct})


def _about_absence(sensor: SensorProfile, last: datetime, rhythm: float, *, is_held: bool) -> Iterator[Doubt]:
    """Say that values of a sensor are missing: all, all since a time, those between its own times, or some."""
    key = toml_key(sensor.sensor)
    values: dict[str, object] = {"sensor": sensor.sensor, "key": key, "share": sensor.share_missing, "others": last}
    size = sensor.share_missing * sensor.n_values
    if sensor.last_at is None:
        yield Doubt("empty", sensor.sensor, 0, values)
        return
    if last - sensor.last_at >= _SILENT:
        yield Doubt("silent_sensor", sensor.sensor, size, values | {"last": sensor.last_at})
        return
    if sensor.share_missing < _OFTEN_MISSING or is_held:
        return
    if sensor.interval_seconds and sensor.interval_seconds > _SLOWER * rhythm:
        values |= {"interval": sensor.interval_seconds, "hold": f"{hold_of(sensor.interval_seconds):g}"}
        yield Doubt("slow", sensor.sensor, size, values)
    else:
        yield Doubt("missing", sensor.sensor, size, values)


def _about_machines(profile: DataProfile) -> Iterator[Doubt]:
    last = max((machine.last for machine in profile.machines), default=datetime.min)  # noqa: DTZ901 - UTC, naive
    for machine in profile.machines:
        if last - machine.last >= _SILENT:
            yield Doubt(
                "silent_machine",
                machine.machine_id,
                (last - machine.last).total_seconds(),
                {"machine": machine.machine_id, "last": machine.last, "others": last},
            )
    gappy = sorted((m for m in profile.machines if m.n_gaps), key=lambda machine: -len(machine.gap_days))
    for machine in gappy[:_MOST_MACHINES]:
        yield Doubt(
            "gaps",
            machine.machine_id,
            len(machine.gap_days),
            {
                "machine": machine.machine_id,
                "n": machine.n_gaps,
                "limit": machine.gap_seconds or 0.0,
                "n_days": len(machine.gap_days),
                "n_all": machine.n_days,
                "longest": machine.longest_gap_seconds or 0.0,
                "at": machine.longest_gap_at,
            },
        )
    if (n_more := len(gappy) - _MOST_MACHINES) > 0:
        yield Doubt("more_gaps", "", n_more, {"n": n_more})


def _number(text: str) -> int | float | None:
    try:
        return _as_whole(float(text))
    except ValueError:
        return None


def _as_whole(number: float) -> int | float:
    return int(number) if abs(number) < 1e15 and number == int(number) else number
