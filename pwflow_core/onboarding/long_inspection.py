"""A look at exports of other shapes: a row per value, a time per channel, quality beside the values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from pwflow_core.errors import SourceError, list_few
from pwflow_core.onboarding.columns import ColumnProfile
from pwflow_core.onboarding.findings import FoundSensor, Inspection
from pwflow_core.onboarding.names import guess_unit, has_word, name_sensors
from pwflow_core.onboarding.number_style import NumberStyle
from pwflow_core.onboarding.paths import PathColumns, label_paths
from pwflow_core.onboarding.roles import is_quantity
from pwflow_core.onboarding.sampling import Sample, SampledColumn, draw_sample
from pwflow_core.onboarding.shapes import LongShape, Quality, find_units
from pwflow_core.onboarding.tags import FoundTag, hold_of, scan_tags
from pwflow_core.onboarding.timestamps import TimeColumn, choose_timestamp, find_time_columns
from pwflow_core.onboarding.vocabulary import READ_VALUES

__all__ = [
    "about_channels",
    "about_holding",
    "about_marks",
    "about_quality",
    "find_holds",
    "inspect_long",
    "only_value",
    "share_times",
]

_MOST_INSTANTS = 5_000
_SHARED = 0.2
_COMPLETE = 0.9


def share_times(sample: Sample, files: Sequence[Path], places: Sequence[int]) -> bool:
    """Whether files hold readings of the same times: they then are about different machines or sensors."""
    spans, instants = [], []
    for place in places:
        with draw_sample([files[place]], sample.delimiter, sample.encoding) as one:
            times = find_time_columns(one)
            if not times:
                return False
            time = choose_timestamp(one, times)
            if time.first is None or time.last is None:
                return False
            spans.append((time.first, time.last))
            rows = one.connection.table("sample").project(f"{time.instant} AS instant").limit(_MOST_INSTANTS)
            instants.append({row[0] for row in rows.fetchall()} - {None})
    for (first, last), own in zip(spans[1:], instants[1:], strict=True):
        start, end = spans[0]
        shared = (min(last, end) - max(first, start)).total_seconds()
        shortest = min(last - first, end - start).total_seconds()
        few = min(len(own), len(instants[0]))
        if (shortest > 0 and shared > 0.5 * shortest) or (few and len(own & instants[0]) > _SHARED * few):
            return True
    return False


def only_value(
    profiles: Mapping[str, ColumnProfile],
    time: TimeColumn,
    times: Sequence[TimeColumn],
    quality: Quality,
    ignore: Collection[str],
) -> str | None:
    """Return the only column of numbers, if it is called like a value in general; then the path names the sensor."""
    taken = {time.column.name, *time.names, *(t.column.name for t in times), *quality.columns, *ignore}
    numbers = [p for n, p in profiles.items() if n not in taken and p.is_numeric]
    if len(numbers) == 1 and has_word(numbers[0].name, READ_VALUES):
        return numbers[0].name
    return None


def inspect_long(
    sample: Sample,
    files: Sequence[Path],
    time: TimeColumn,
    shape: LongShape,
    quality: Quality,
    path: PathColumns | None,
    style: NumberStyle,
    ignore: Collection[str],
) -> Inspection:
    """Return what a long export holds.

    Raises:
        SourceError: None of its tags has numbers.
    """
    by_path = path is not None and path.name == shape.tag
    tag = None if by_path else _known(sample, shape.tag)
    values = [_known(sample, name) for name in shape.value]
    machine = _known(sample, shape.machine) if shape.machine else None
    tags_of = [path.values[label] for label in label_paths(files)] if path is not None and by_path else []
    found, doubts = scan_tags(sample, files, time, tag, values, machine, tags_of, style)
    units = find_units(sample, shape)
    sensors, ignored = _sensors(found, ignore, units)
    if not sensors:
        raise SourceError(
            f"Expected numbers in column {shape.value[0]!r} of {sample.files[0].path}, got {found[0].text!r}: name the "
            "column of the values with source.value in pwflow.toml."
        )
    in_machine = path is not None and not by_path
    used = {time.column.name, *time.names, shape.tag, shape.machine, *shape.value, shape.nanoseconds}
    quality_column = quality.of.get(shape.value[0], quality.of.get(""))
    used |= {quality_column}
    held = [sensor for sensor in sensors if sensor.hold_seconds]
    sentences = [
        f"Every row holds one value; {'the path' if by_path else f'column {shape.tag!r}'} names the sensor, column "
        f"{', '.join(map(repr, shape.value))} holds the value: check this.",
        *doubts,
        *sample.assumptions,
        *([path.sentence] if path is not None else []),
        *([f"Column {shape.machine!r} tells the machines apart: check this."] if shape.machine else []),
        *([f"{shape.nanoseconds!r} belongs to the time {time.column.name!r}."] if shape.nanoseconds else []),
        *(
            ["No column tells machines apart: all readings belong to one machine."]
            * (not shape.machine and not in_machine)
        ),
        *style.sentences,
        *about_holding(held, len(sensors)),
        *about_quality(quality if quality_column else Quality()),
        f"{sum(not sensor.is_state for sensor in sensors)} of {len(found)} names are sensors.",
        *about_states(sensors),
        *(f"Sensor {s.column!r}: {s.remark}." for s in sensors if s.remark and not s.is_state),
        *(f"Leaves out {name!r}: it {reason}." for name, reason in list(ignored.items())[:12]),
        *(f"Does not read column {c.name!r}." for c in sample.columns if c.name not in used),
    ]
    rhythms = sorted(tag.interval_seconds for tag in found if tag.interval_seconds)
    return Inspection(
        delimiter=sample.delimiter,
        skip_lines=sample.files[0].skip_lines,
        decimal=style.decimal,
        thousands=style.thousands,
        timestamp=time.source,
        timestamp_format=time.format,
        is_naive=time.is_naive,
        machine=path.name if in_machine and path is not None else shape.machine,
        segments=(),
        segment_candidates={},
        sensors=sensors,
        ignored=ignored,
        optional=frozenset(
            tag.name for tag in found if tag.name in ignored and tag.is_numeric and tag.name not in ignore
        ),
        interval_seconds=rhythms[len(rhythms) // 2] if rhythms else None,
        first=time.first,
        last=time.last,
        n_files=len(files),
        n_files_read=len(files),
        n_rows_read=sum(tag.n for tag in found),
        assumptions=tuple(sentences),
        layout="long",
        tag=shape.tag,
        value=shape.value,
        quality=quality_column,
        good_quality=quality.good if quality_column else (),
        nanoseconds=shape.nanoseconds,
        path_columns=path.pattern if path is not None else None,
        encoding=sample.encoding,
        header=sample.files[0].has_header,
    )


def _known(sample: Sample, name: str) -> SampledColumn:
    column = sample.column(name)
    if column is None:
        raise SourceError(f"Expected a column {name!r} in {sample.files[0].path}, got none: correct its name.")
    return column


def _sensors(
    found: Sequence[FoundTag], ignore: Collection[str], units: Mapping[str, Sequence[str]]
) -> tuple[tuple[FoundSensor, ...], dict[str, str]]:
    kept, ignored = [], {}
    for tag in found:
        if tag.name in ignore:
            ignored[tag.name] = "is left out on request"
        elif not tag.is_numeric:
            ignored[tag.name] = f"is text, such as {tag.text!r}" if tag.text else "has no values"
        elif len(units.get(tag.name, ())) > 1:
            ignored[tag.name] = (
                f"has values in several units ({list_few(units[tag.name], 3)}): check how it was exported"
            )
        elif tag.name.startswith("$") and tag.low == tag.high:
            ignored[tag.name] = f"is always {tag.low:g}, as a mark of the system"
        else:
            kept.append(tag)
    kept.sort(key=lambda tag: _why_a_state(tag) is not None)
    if kept and _why_a_state(kept[0]):
        return (), ignored | {tag.name: _why_a_state(tag) or "" for tag in kept}
    names = name_sensors(tag.name for tag in kept)
    return tuple(
        FoundSensor(
            names[tag.name],
            tag.name,
            next(iter(units.get(tag.name, ())), "") or guess_unit(tag.name),
            tag.low or 0.0,
            tag.high or 0.0,
            _remark(tag),
            hold_seconds=tag.hold_seconds,
            missing=tuple(tag.missing),
            is_state=_why_a_state(tag) is not None,
        )
        for tag in kept
    ), ignored


def _why_a_state(tag: FoundTag) -> str | None:
    """Return why a tag is a state; None if it is a measurement."""
    if tag.low == tag.high:
        return f"is always {tag.low:g}"
    if tag.has_few_values and not is_quantity(tag.name):
        return f"takes only {tag.n_distinct} values ({tag.low:g} to {tag.high:g})"
    return None


def about_states(sensors: Sequence[FoundSensor]) -> list[str]:
    """Return what was assumed about states."""
    states = [sensor.column for sensor in sensors if sensor.is_state]
    if not states:
        return []
    shown = list_few([repr(name) for name in states], 6)
    return [f"{len(states)} column(s) with one or few values are states, where what is new is an alarm: {shown}."]


def _remark(tag: FoundTag) -> str:
    if state := _why_a_state(tag):
        return state
    if tag.missing:
        return about_marks(tag.missing)
    if tag.n_numbers < tag.n and tag.text:
        return f"{1 - tag.n_numbers / tag.n:.2g} of its values are not numbers ({tag.text!r}) and will be refused"
    if tag.rises and tag.n >= 100:
        return "begins with its lowest and ends with its highest value: take it out if it is a totaliser"
    return ""


def about_marks(marks: Mapping[float, int]) -> str:
    """Return what was assumed about numbers that stand for a missing value."""
    shown = ", ".join(f"{value:.10g} ({count:,} times)" for value, count in marks.items())
    return f"{shown} is taken for a missing value, far from all else: check `missing`"


def about_holding(held: Sequence[FoundSensor], n_sensors: int) -> list[str]:
    """Return what was assumed about sensors with times of their own."""
    if not held:
        return []
    longest = max(sensor.hold_seconds or 0.0 for sensor in held)
    return [
        f"{len(held)} of {n_sensors} sensors have times of their own: between them the last value holds, for at most "
        f"{longest:g} s. Check hold_seconds under [sensors]."
    ]


def about_quality(quality: Quality) -> list[str]:
    """Return what was assumed about columns of quality."""
    if not quality.columns:
        return []
    good = ", ".join(map(repr, quality.good))
    shown = list_few([repr(name) for name in sorted(quality.columns)], 5)
    return [f"Column(s) {shown} say how good values are: what is not {good} is missing. Check source.good_quality."]


def about_channels(channels: Mapping[str, str]) -> list[str]:
    """Return what was assumed about time columns of single sensors."""
    if not channels:
        return []
    shown = list_few([f"{name!r} by {time!r}" for name, time in channels.items()], 5)
    return [f"Every sensor has a time column of its own: {shown}."]


def find_holds(
    sample: Sample,
    time: TimeColumn,
    machine: SampledColumn | None,
    sensors: Sequence[ColumnProfile],
    channels: Mapping[str, str],
    times: Sequence[TimeColumn],
) -> dict[str, float]:
    """Return how long the last value of a sensor should hold, where most times have the values of some sensors only."""
    if len(sensors) < 2:
        return {}
    own = {t.column.name: t.instant for t in times}
    place = f"file, block{f', {machine.key}' if machine else ''}"
    parts = [
        f"SELECT {place}, {own[channels[p.name]] if channels else time.instant} AS instant, {i} AS sensor "
        f"FROM numbered WHERE n{p.column.key} IS NOT NULL"
        for i, p in enumerate(sensors)
    ]
    keys = ", ".join(["file", "block", *([machine.key] if machine else [])])
    rows = sample.connection.execute(
        f"""
        WITH given AS (
            SELECT DISTINCT * FROM ({" UNION ALL ".join(parts)}) WHERE instant IS NOT NULL
        ), moments AS (
            SELECT {keys}, instant, count(*) AS n FROM given GROUP BY ALL
        ), gaps AS (
            SELECT sensor, epoch(instant - lag(instant) OVER (PARTITION BY {keys}, sensor ORDER BY instant)) AS gap
            FROM given
        )
        SELECT sensor, avg(gap), count(*) / (SELECT count(*) FROM moments),
            (SELECT avg((n = {len(sensors)})::INT) FROM moments)
        FROM gaps GROUP BY sensor
        """
    ).fetchall()
    if not rows or rows[0][3] > 0.5:
        return {}
    held = {sensors[i].name: hold_of(gap) for i, gap, share, _ in rows if share < _COMPLETE}
    return {name: seconds for name, seconds in held.items() if seconds}
