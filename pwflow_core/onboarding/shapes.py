"""The shape of exports: a row per value, a time per channel, quality beside the values.

What is found here becomes `source.layout` and the keys beside it; what single columns mean is decided in `roles`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise

from pwflow_core.onboarding.columns import ColumnProfile
from pwflow_core.onboarding.names import has_word, only_words, words
from pwflow_core.onboarding.sampling import Sample
from pwflow_core.onboarding.timestamps import TimeColumn
from pwflow_core.onboarding.vocabulary import (
    BESIDE_MACHINE,
    COUNTERS,
    LABELS,
    MACHINES,
    POINTS,
    QUALITIES,
    QUALITY_VALUES,
    READ_VALUES,
    SURE_QUALITY_VALUES,
    TIMES,
)

__all__ = ["LongShape", "Quality", "find_channels", "find_long", "find_quality", "find_units", "repeated_share"]

_MOST_TAGS = 20_000
_REPEATED, _APART = 0.2, 0.02
"""Part of the rows whose time is not new: above the first, times repeat; up to the second, they do not."""
_MOST_QUALITIES = 30
_GOOD = re.compile(r"good|ok|valid|gut|gültig|正常|良|有効|true|g$|normal")
_LARGEST_CODE = 255
_MOST_CODES = 4
_OPC = (0, 4, 8, 12, 16, 20, 24, 28, 64, 68, 80, 84, 88, 192, 216)
_NANOSECONDS = frozenset({"nano", "nanos", "nanosecond", "nanoseconds", "ns", "nanosec"})
_NAMES = frozenset({"target", "class"})
"""Words for a label that a long export also has for the name of a sensor."""
_NAMELESS = re.compile(r"column_\d+")
_UNITS = frozenset({"unit", "units", "einheit", "uom", "engunits", "eu", "unité", "unidad", "単位", "单位", "단위"})
_TYPES = frozenset({"type", "datatype", "unit", "einheit", "format", "単位"})


@dataclass(frozen=True, slots=True)
class Quality:
    """The columns that say how good values are.

    Attributes:
        columns: All of them.
        of: The one that belongs to a column, by that column; the key "" is that of whole rows.
        good: What they say of good values.
    """

    columns: frozenset[str] = frozenset()
    of: Mapping[str, str] = field(default_factory=dict)
    good: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LongShape:
    """A row per value.

    Attributes:
        tag: Column that names the sensor.
        value: Columns that may hold the value.
        machine: Column that tells machines apart, or None.
        nanoseconds: Column of the nanoseconds that belong to the time, or None.
    """

    tag: str
    value: tuple[str, ...]
    machine: str | None
    nanoseconds: str | None


def repeated_share(sample: Sample, time: TimeColumn, keys: Sequence[str] = ()) -> float:
    """Return the part of the rows whose time (and further columns, by key) is not new inside their file."""
    key = f"(file, {', '.join([time.instant, *keys])})"
    timed = f"FILTER ({time.instant} IS NOT NULL)"
    n, n_distinct = sample.aggregate(f"count(*) {timed}, count(DISTINCT {key}) {timed}")
    return float(1 - n_distinct / n) if n else 0.0


def find_quality(sample: Sample, profiles: Mapping[str, ColumnProfile], taken: Collection[str]) -> Quality:
    """Find the columns that say how good the values of other columns are."""
    found = {
        name: profile
        for name, profile in profiles.items()
        if name not in taken and 0 < profile.n_distinct <= _MOST_QUALITIES and _is_quality(profile, profiles)
    }
    if not found:
        return Quality()
    others = [name for name in profiles if name not in found and name not in taken]
    owners = {name: _owner(name, others, list(profiles)) for name in found}
    rows = [name for name, owner in owners.items() if owner is None]
    of = {owner: name for name, owner in owners.items() if owner is not None}
    if rows:
        of[""] = max(rows, key=lambda name: _is_told(found[name]))
    used = set(of.values())
    good = dict.fromkeys(
        word for name, profile in found.items() if name in used for word in _good_words(sample, profile)
    )
    return Quality(frozenset(found), of, tuple(good))


def _is_quality(profile: ColumnProfile, profiles: Mapping[str, ColumnProfile]) -> bool:
    named = has_word(profile.name, QUALITIES)
    columns = {n.lower() for n in profiles}
    near = _stem(profile.name, ("q", "status", "state", "st", "flag", "ok")) in columns
    texts = [value.lower() for value in profile.values]
    said = {word for text in texts for word in (text, *words(text))}
    if not profile.is_numeric and said & SURE_QUALITY_VALUES and said <= QUALITY_VALUES:
        return True
    if texts and all(set(words(value)[:1]) & SURE_QUALITY_VALUES for value in profile.values):  # BadSensorFailure
        return True
    if profile.is_numeric and profile.is_whole and _stem(profile.name, ("q",)) in columns:
        return bool(profile.values) and min(_numbers(profile)) >= 0 and max(_numbers(profile)) <= _LARGEST_CODE
    if not (named or near or (profile.is_numeric and profile.name.lower() == "q")):
        return False
    if not profile.values:
        return named and (profile.is_whole or not profile.is_numeric)
    if profile.is_numeric:
        numbers = _numbers(profile)
        opc = set(numbers) <= set(map(float, _OPC))
        codes = profile.name.lower() == "q" and len(numbers) <= _MOST_CODES and 0 <= min(numbers) <= max(numbers) < 16
        return profile.is_whole and (named or opc or codes)
    return named or all(set(words(value)) & QUALITY_VALUES or value in QUALITY_VALUES for value in texts)


def _numbers(profile: ColumnProfile) -> list[float]:
    found = []
    for value in profile.values:
        try:
            found.append(float(value))
        except ValueError:
            continue
    return found


def _stem(name: str, endings: Collection[str]) -> str:
    """Return a name without a last word of `endings`, in lower case, else nothing."""
    match = re.fullmatch(rf"(.+?)[\s._\-/:]+({'|'.join(map(re.escape, endings))})", name.lower())
    return match[1] if match else ""


def _owner(name: str, others: Sequence[str], order: Sequence[str]) -> str | None:
    """Return the column whose values a quality column is about; None if it is about the whole row."""
    bare = [word for word in words(name) if word not in QUALITIES | {"q", "status", "state", "st", "flag", "ok"}]
    own = [other for other in others if bare and list(words(other))[: len(bare)] == bare]
    own = own or [other for other in others if bare and list(words(other)) == bare[-len(words(other)) :]]
    if own:
        return min(own, key=len)
    before = order[order.index(name) - 1] if order.index(name) else ""
    n_qualities = sum(has_word(column, QUALITIES) for column in order)
    return before if before in others and n_qualities > 1 and _alternate(order) else None


def _alternate(order: Sequence[str]) -> bool:
    """Whether every quality column stands behind a column of another kind."""
    kinds = [has_word(name, QUALITIES) for name in order]
    return not any(a and b for a, b in pairwise(kinds))


def _is_told(profile: ColumnProfile) -> tuple[bool, bool, int]:
    texts = [value.lower() for value in profile.values]
    return any(_GOOD.match(text) for text in texts), any(n >= 192 for n in _numbers(profile)), profile.n_distinct


def _good_words(sample: Sample, profile: ColumnProfile) -> list[str]:
    """Return what a quality column says of good values."""
    if profile.is_numeric:
        if (profile.high or 0) >= 192:
            return ["192"]
        usual = sample.aggregate(f"mode(n{profile.column.key})", "numbered")[0]
        return [f"{usual:g}"]
    values = profile.values or (str(sample.aggregate(f"mode({profile.column.key}::VARCHAR)")[0]),)
    good = [value for value in values if _GOOD.match(value.lower()) and not value.lower().startswith("invalid")]
    mixed = ["192"] if any(n >= 192 for n in _numbers(profile)) else []
    return good + mixed or [str(sample.aggregate(f"mode({profile.column.key}::VARCHAR)")[0])]


def find_long(
    sample: Sample,
    profiles: Mapping[str, ColumnProfile],
    time: TimeColumn,
    times: Sequence[TimeColumn],
    quality: Quality,
    machine: str | None = None,
) -> LongShape | None:
    """Find out whether every row holds one value of one sensor, and where.

    It does if a column is called like a name of sensors and there is one column of values, or if a column of another
    name tells apart rows of one time whose only number is called `value` or the like.
    """
    taken = {time.column.name, *time.names, *(t.column.name for t in times), *quality.columns}
    nanoseconds = next((n for n, p in profiles.items() if n not in taken and _is_nanoseconds(p, time)), None)
    taken |= {nanoseconds} if nanoseconds else set()
    numbers = [p for n, p in profiles.items() if n not in taken and p.is_numeric and not _is_beside(p)]
    values = [p for p in numbers if has_word(p.name, READ_VALUES)]
    names = [
        p
        for n, p in profiles.items()
        if n not in taken
        and p not in values
        and 1 <= p.n_distinct <= _MOST_TAGS
        and p.n >= 0.9 * sample.n_rows
        and (not p.is_numeric or p.is_whole)
        and not has_word(n, (LABELS - _NAMES) | _TYPES)
    ]
    tags = [p for p in names if has_word(p.name, POINTS)]
    numbers = [p for p in numbers if p not in tags and p not in values and p.name != machine]
    if not values:
        is_nameless = all(_NAMELESS.fullmatch(p.name) for p in numbers)
        values = [p for p in numbers if tags or is_nameless] if len(numbers) == 1 else []
        numbers = []
    if not values or any(p.n_distinct > 1 and not p.is_whole for p in numbers):
        return None
    tag = _choose_tag(sample, time, tags)
    others = [p for p in names if not _is_machine(p.name) and p.n_distinct > 1 and p is not tag]
    if tag is None or (tag.values and not set(words(tag.values[0])) - READ_VALUES and tag.n_distinct == 1):
        machines = [p.column.key for p in names if _is_machine(p.name)]
        tag = _telling(sample, time, others, machines) or tag
    if tag is None and not machine and (pair := _telling_together(sample, time, others, values[0])):
        tag, machine = pair
    if tag is None:
        return None
    found = machine or _machine_beside(sample, profiles, time, tag, taken | {p.name for p in values})
    return LongShape(tag.name, tuple(p.name for p in values), found, nanoseconds)


def find_units(sample: Sample, shape: LongShape) -> dict[str, list[str]]:
    """Return the units that a column of units beside the tags of a long export says, by tag."""
    used = (shape.tag, shape.machine, *shape.value)
    named = [c for c in sample.columns if has_word(c.name, _UNITS) and c.is_text and c.name not in used]
    name = sample.column(shape.tag)
    if not named or name is None:
        return {}
    rows = (
        sample.connection.table("sample")
        .filter(f"{named[0].key} IS NOT NULL AND {name.key} IS NOT NULL")
        .aggregate(f"{name.key}::VARCHAR AS tag, trim({named[0].key}) AS unit", f"{name.key}, trim({named[0].key})")
        .order("tag, unit")
        .fetchall()
    )
    units: dict[str, list[str]] = {}
    for found, unit in rows:
        units.setdefault(found, []).append(unit)
    return units


def _is_nanoseconds(profile: ColumnProfile, time: TimeColumn) -> bool:
    return (
        bool(set(words(profile.name)) & _NANOSECONDS)
        and profile.is_whole
        and time.format == "unix_s"
        and (profile.low or 0) >= 0
        and (profile.high or 0) < 1e9
    )


def _is_beside(profile: ColumnProfile) -> bool:
    """Whether a number stands beside the value: the number of a row, another form of the time, a constant."""
    counts = only_words(profile.name, COUNTERS, POINTS | BESIDE_MACHINE | {"numericid", "numeric"})
    return (
        counts
        or has_word(profile.name, TIMES)
        or has_word(profile.name, _TYPES)
        or (profile.low == profile.high and not has_word(profile.name, READ_VALUES))
        or profile.name.lower() in ("table", "result")
    )


def _is_machine(name: str) -> bool:
    return only_words(name, MACHINES, BESIDE_MACHINE)


def _choose_tag(sample: Sample, time: TimeColumn, tags: Sequence[ColumnProfile]) -> ColumnProfile | None:
    """Return the column that best tells apart the rows of one time, text before numbers."""
    if not tags:
        return None
    return min(
        tags,
        key=lambda p: (
            p.n_distinct == 1,
            round(repeated_share(sample, time, [p.column.key]), 2),
            _is_machine(p.name),
            p.is_numeric,
            -p.n_distinct,
        ),
    )


def _telling(
    sample: Sample, time: TimeColumn, names: Sequence[ColumnProfile], machines: Sequence[str]
) -> ColumnProfile | None:
    """Return the column without which times repeat, also of one machine, and with which they do not."""
    if repeated_share(sample, time, machines) <= _REPEATED:
        return None
    apart = [p for p in names if repeated_share(sample, time, [p.column.key, *machines]) <= _APART]
    return min(apart, key=lambda p: (p.is_numeric, p.n_distinct), default=None)


def _telling_together(
    sample: Sample, time: TimeColumn, names: Sequence[ColumnProfile], value: ColumnProfile
) -> tuple[ColumnProfile, str] | None:
    """Return two columns of text that tell the rows of one time apart only together: the sensor and the machine.

    The sensor is the one within whose rows the numbers differ far less.
    """
    texts = [p for p in names if not p.is_numeric]
    if repeated_share(sample, time) <= _REPEATED:
        return None
    for one, other in combinations(texts, 2):
        if repeated_share(sample, time, [one.column.key, other.column.key]) <= _APART:
            near, far = sorted((one, other), key=lambda p: _spread_within(sample, p, value))
            if 2 * _spread_within(sample, near, value) < _spread_within(sample, far, value):
                return near, far.name
    return None


def _spread_within(sample: Sample, names: ColumnProfile, value: ColumnProfile) -> float:
    """Return the usual standard deviation of the numbers that go with one name."""
    groups = sample.connection.table("numbered").aggregate(f"stddev_pop(n{value.column.key}) AS sd", names.column.key)
    return float(groups.aggregate("coalesce(median(sd), 0.0)").fetchall()[0][0])


def _machine_beside(
    sample: Sample,
    profiles: Mapping[str, ColumnProfile],
    time: TimeColumn,
    tag: ColumnProfile,
    taken: Collection[str],
) -> str | None:
    """Return the column that tells machines apart whose tags have the same names."""
    others = [
        p
        for n, p in profiles.items()
        if n not in taken and n != tag.name and 1 < p.n_distinct <= 1_000 and p.n == sample.n_rows
        and (not p.is_numeric or p.is_whole) and not has_word(n, LABELS)
    ]  # fmt: skip
    named = [p for p in others if _is_machine(p.name) and not has_word(p.name, _TYPES)]
    if named:
        return named[0].name
    if repeated_share(sample, time, [tag.column.key]) <= _APART:
        return None
    apart = [p for p in others if repeated_share(sample, time, [tag.column.key, p.column.key]) <= _APART]
    apart = [p for p in apart if not p.is_numeric] or apart
    return min(apart, key=lambda p: p.n_distinct).name if apart else None


def find_channels(sample: Sample, times: Sequence[TimeColumn], profiles: Mapping[str, ColumnProfile]) -> dict[str, str]:
    """Return the time column of each column of values, where every one has its own; empty if they share one.

    A time column belongs to the columns behind it, or to the one that its name contains.
    """
    if len(times) < 2:
        return {}
    one, *others = times
    apart = [
        float(sample.aggregate(f"coalesce(avg(({one.instant} IS DISTINCT FROM {t.instant})::INT), 0.0)")[0])
        for t in others
    ]
    if max(apart) < 0.2:
        return {}
    names = [column.name for column in sample.columns]
    own = {t.column.name for t in times}
    channels: dict[str, str] = {}
    current = None
    for name in names:
        if name in own:
            current = name
        elif name in profiles and profiles[name].is_numeric:
            said = [t for t in own if _says(t, name)]
            if said:
                channels[name] = max(said, key=len)
            elif current is not None:
                channels[name] = current
    return channels if own <= set(channels.values()) else {}


def _says(time: str, name: str) -> bool:
    """Whether the name of a time column contains that of a column of values."""
    bare = [word for word in words(time) if word not in TIMES]
    return bool(bare) and bare == list(words(name))[: len(bare)]
