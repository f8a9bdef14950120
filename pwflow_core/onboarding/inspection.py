"""Look at exports and decide what their columns mean.

`pwflow init` writes the result down; the ingest uses it for what a configuration leaves open. How files are
opened is in `sampling`, how single columns are judged in `timestamps` and `roles`.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pwflow_core.errors import SourceError
from pwflow_core.onboarding.angles import find_period, is_totaliser, wrap_of
from pwflow_core.onboarding.columns import ColumnProfile, Steps, measure_steps, profile_columns
from pwflow_core.onboarding.findings import FILE_NAME_COLUMN, FoundSensor, Inspection
from pwflow_core.onboarding.long_inspection import (
    about_channels,
    about_holding,
    about_quality,
    find_holds,
    inspect_long,
    only_value,
    share_times,
)
from pwflow_core.onboarding.names import guess_unit, name_sensors
from pwflow_core.onboarding.number_style import NumberStyle, find_number_style
from pwflow_core.onboarding.paths import find_path_columns
from pwflow_core.onboarding.roles import find_machine, is_segment, why_not_a_sensor
from pwflow_core.onboarding.sampling import Sample, SampledColumn, draw_sample
from pwflow_core.onboarding.shapes import LongShape, Quality, find_channels, find_long, find_quality
from pwflow_core.onboarding.timestamps import (
    TimeColumn,
    choose_timestamp,
    find_time_columns,
    find_time_of_day,
    join_time_of_day,
    read_time_column,
)

__all__ = ["FILE_NAME_COLUMN", "FoundSensor", "Inspection", "inspect_source"]

_MOST_SENTENCES = 12


def inspect_source(
    files: Sequence[Path],
    *,
    delimiter: str | None = None,
    decimal: str | None = None,
    thousands: str | None = None,
    timestamp: str | Sequence[str] | None = None,
    timestamp_format: str | None = None,
    timezone: str | None = None,
    machine: str | None = None,
    segments: Sequence[str] = (),
    ignore: Sequence[str] = (),
    guess_segments: bool = True,
    encoding: str | None = None,
) -> Inspection:
    """Look at a sample of the files and decide what their columns mean; what is given is not guessed.

    Arguments:
        files: The exports, CSV or Parquet.
        delimiter: CSV delimiter.
        decimal: Decimal separator in CSV files.
        thousands: Comma or point between thousands in CSV files.
        timestamp: Timestamp column, or those with the date and the time of day.
        timestamp_format: strptime format, or a number format such as `unix_s`.
        timezone: Zone of times that carry none; it decides what an abbreviation such as CST means.
        machine: Machine column; `filename` if every file is a machine of its own.
        segments: Columns of known process conditions; `filename` stands for the name of the file.
        ignore: Columns to leave out.
        guess_segments: Whether to look for process conditions where none are given.
        encoding: Encoding of text that is not UTF-8.

    Raises:
        SourceError: A file cannot be read or is empty, a given column does not exist, or there is no
            timestamp or no numeric column.
    """
    with draw_sample(files, delimiter, encoding) as sample:
        if len(sample.columns) == 1:
            raise SourceError(
                f"Expected several columns in {sample.files[0].path}, got one, {sample.columns[0].name!r}: export "
                "it with one column per sensor, separated by comma, semicolon, tab or |."
            )
        given = {
            "timestamp": [timestamp] if isinstance(timestamp, str) else list(timestamp or ()),
            "machine": [machine] if machine and machine != FILE_NAME_COLUMN else [],
            "segments": [name for name in segments if name != FILE_NAME_COLUMN],
            "ignore": list(ignore),
        }
        named = {option: [_column(sample, n, option) for n in names] for option, names in given.items()}
        times = find_time_columns(sample, timezone)
        time = _time(sample, times, named, timestamp_format, timezone)
        style = find_number_style(sample, decimal, thousands, [*time.names, *(t.column.name for t in times)])
        profiles = profile_columns(sample, style)
        by_file = machine == FILE_NAME_COLUMN
        left_out = {column.name for column in named["ignore"]}
        quality = find_quality(sample, profiles, {t.column.name for t in times} | left_out)
        channels = find_channels(sample, times, profiles)
        path = None if machine else find_path_columns(files, lambda places: share_times(sample, files, places))
        shape = None if channels else find_long(sample, profiles, time, times, quality, machine)
        if shape is None and path is not None and (value := only_value(profiles, time, times, quality, left_out)):
            shape, path = LongShape("tag", (value,), None, None), path.called("tag")
        if path is not None and path.name == "part":
            path = path.called("machine")
        if shape is not None:
            return inspect_long(sample, files, time, shape, quality, path, style, left_out)
        if path is not None:
            machine_column, about_machine = None, [path.sentence]
        elif by_file:
            machine_column, about_machine = None, ["Every file is a machine of its own."]
        else:
            machine_column, about_machine = _machine(sample, profiles, time, times, named, quality)
        newest_first = time.ordered < 0.5
        steps = measure_steps(sample, list(profiles.values()), machine_column, newest_first=newest_first)
        roles = _Roles(sample, profiles, steps, time, times, machine_column, named, quality, channels, style)
        if segments:
            chosen_segments = tuple(
                FILE_NAME_COLUMN if name == FILE_NAME_COLUMN else _column(sample, name, "segments").name
                for name in segments
            )
        else:
            chosen_segments = roles.sure_segments if guess_segments else ()
        sensors, ignored, optional = roles.assign(chosen_segments)
        if not sensors:
            raise SourceError(_explain_no_sensor(sample, ignored, style))
        return Inspection(
            delimiter=sample.delimiter,
            skip_lines=sample.files[0].skip_lines,
            decimal=style.decimal,
            thousands=style.thousands,
            timestamp=time.source,
            timestamp_format=time.format,
            is_naive=time.is_naive,
            machine=FILE_NAME_COLUMN if by_file else path.name if path else _name_of(machine_column),
            segments=chosen_segments,
            segment_candidates=roles.segment_candidates(chosen_segments),
            sensors=sensors,
            ignored=ignored,
            optional=optional,
            interval_seconds=_interval(sample, time, machine_column),
            first=time.first,
            last=time.last,
            n_files=len(files),
            n_files_read=len(sample.files),
            n_rows_read=sample.n_rows,
            assumptions=(
                *sample.assumptions,
                *(["The newest reading comes first in the files."] * newest_first),
                *_about_time(time, times, is_given=timestamp is not None),
                *about_machine,
                *style.sentences,
                *(roles.about_segments(chosen_segments) if not segments else ()),
                *about_channels(channels),
                *about_holding([sensor for sensor in sensors if sensor.hold_seconds], len(sensors)),
                *about_quality(quality),
                *_about_sensors(sensors, ignored, profiles),
            ),
            good_quality=quality.good,
            path_columns=path.pattern if path else None,
            encoding=sample.encoding,
        )


def _time(
    sample: Sample,
    times: list[TimeColumn],
    named: dict[str, list[SampledColumn]],
    format: str | None,
    timezone: str | None,
) -> TimeColumn:
    """Return the time of the readings: a given column or the likeliest one, with its time of day from another."""
    given = named["timestamp"]
    if len(given) == 2:
        return join_time_of_day(sample, given[0], given[1], format, timezone)
    if given:
        return read_time_column(sample, given[0], format, timezone)
    left_out = {column.name for column in named["ignore"]}
    time = choose_timestamp(sample, [t for t in times if t.column.name not in left_out], timezone)
    clock = find_time_of_day(sample, time)
    return time if clock is None else join_time_of_day(sample, time.column, clock, format, timezone)


def _column(sample: Sample, name: str, option: str) -> SampledColumn:
    column = sample.column(name)
    if column is None:
        names = [c.name for c in sample.columns]
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise SourceError(
            f"Expected a column {name!r} (given as {option}) in {sample.files[0].path}, but it has only "
            f"{', '.join(map(repr, names))}: {hint}Give one of these."
        )
    return column


def _name_of(column: SampledColumn | None) -> str | None:
    return None if column is None else column.name


def _machine(
    sample: Sample,
    profiles: dict[str, ColumnProfile],
    time: TimeColumn,
    times: list[TimeColumn],
    named: dict[str, list[SampledColumn]],
    quality: Quality,
) -> tuple[SampledColumn | None, list[str]]:
    if named["machine"]:
        return named["machine"][0], []
    taken = {c.name for columns in named.values() for c in columns} | {t.column.name for t in times} | quality.columns
    found = find_machine(sample, profiles, time, taken | {time.column.name})
    return found.column, list(found.assumptions)


@dataclass(frozen=True, slots=True)
class _Roles:
    """The columns with all that is known about them, to be given their roles."""

    sample: Sample
    profiles: dict[str, ColumnProfile]
    steps: dict[str, Steps]
    time: TimeColumn
    times: list[TimeColumn]
    machine: SampledColumn | None
    named: dict[str, list[SampledColumn]]
    quality: Quality
    channels: dict[str, str]
    style: NumberStyle

    @property
    def _reserved(self) -> set[str]:
        reserved = {self.time.column.name, *self.time.names, *(column.name for column in self.named["ignore"])}
        reserved |= set(self.quality.columns)
        return reserved | {self.machine.name} if self.machine else reserved

    @property
    def sure_segments(self) -> tuple[str, ...]:
        """Return the columns that are process conditions for sure."""
        return tuple(
            name
            for name, profile in self.profiles.items()
            if name not in self._reserved and is_segment(profile, self.steps[name], self.sample.n_rows)[0]
        )

    def segment_candidates(self, chosen: tuple[str, ...]) -> dict[str, str]:
        """Return the columns that may be process conditions, with what they hold."""
        return {
            name: _values(profile)
            for name, profile in self.profiles.items()
            if name not in self._reserved
            and name not in chosen
            and profile.column.n_absent == 0
            and is_segment(profile, self.steps[name], self.sample.n_rows)[1]
        }

    def about_segments(self, chosen: tuple[str, ...]) -> list[str]:
        """Return what was assumed about process conditions."""
        sentences = [
            f"Column {name!r} is a process condition ({_values(self.profiles[name])}): it splits readings."
            for name in chosen
        ]
        if others := self.segment_candidates(chosen):
            shown = ", ".join(map(repr, list(others)[:6]))
            sentences.append(f"Could be process conditions, but are not used as such: {shown}.")
        return sentences

    def assign(self, segments: tuple[str, ...]) -> tuple[tuple[FoundSensor, ...], dict[str, str], frozenset[str]]:
        """Return the sensors, the columns left out with the reason, and which of those could be sensors."""
        left_out = {column.name for column in self.named["ignore"]}
        other_times = {t.column.name for t in self.times}
        kept: list[ColumnProfile] = []
        ignored: dict[str, str] = {}
        optional: set[str] = set()
        for column in self.sample.columns:
            name = column.name
            if name in left_out:
                ignored[name] = "is left out on request"
            elif name in segments or name in self._reserved or name in self.channels.values():
                continue
            elif name in other_times or (column.type.startswith("TIME") and name not in self.profiles):
                ignored[name] = "holds times"
            elif name not in self.profiles:
                ignored[name] = f"holds {column.type}, not single numbers"
            else:
                profile = self.profiles[name]
                reason, is_optional = why_not_a_sensor(
                    profile, self.steps[name], self.sample.n_rows, self.sample.n_headers
                )
                if reason is None:
                    kept.append(profile)
                else:
                    ignored[name] = reason
                    optional |= {name} if is_optional else set()
        totalisers = [profile for profile in kept if is_totaliser(self.steps[profile.name])]
        if len(totalisers) < len(kept):
            kept = [profile for profile in kept if profile not in totalisers]
            ignored |= {p.name: "never goes down in the sample, as a totaliser" for p in totalisers}
            optional |= {profile.name for profile in totalisers}
        names = name_sensors(profile.name for profile in kept)
        holds = find_holds(self.sample, self.time, self.machine, kept, self.channels, self.times)
        sensors = tuple(self._sensor(profile, names[profile.name], holds) for profile in kept)
        return sensors, ignored, frozenset(optional)

    def _sensor(self, profile: ColumnProfile, name: str, holds: dict[str, float]) -> FoundSensor:
        steps = self.steps[profile.name]
        remark = ""
        if profile.n_numbers < profile.n:
            share = profile.refused_share
            remark = f"{max(100 * share, 0.01):.2g}% of the values are no numbers ({profile.other!r})"
            remark += " and will be refused; if they stand for a missing value, list them in source.missing_words"
        elif steps.n >= 100 and steps.down == 0 and steps.up > 0:
            remark = "never goes down in the sample: take it out if it is a totaliser"
        elif period := find_period(profile, steps):
            remark = f"is an angle: {period:g} is the same as 0, and the jump between them does not count"
        elif profile.n_distinct <= 5 and steps.n >= 100 and steps.changed <= 0.1:
            remark = f"takes only {profile.n_distinct} values ({_values(profile)}): perhaps a segment"
        if profile.missing:
            marks = ", ".join(f"{value:.10g} ({count:,} times)" for value, count in profile.missing.items())
            taken = f"{marks} is taken for a missing value, far from all else: check `missing`"
            remark = f"{taken}; {remark}" if remark else taken
        own_time = self.channels.get(profile.name)
        return FoundSensor(
            name,
            profile.name,
            self.style.units.get(profile.name) or guess_unit(profile.name),
            profile.low or 0.0,
            profile.high or 0.0,
            remark,
            None if own_time == self.time.column.name else own_time,
            self.quality.of.get(profile.name, self.quality.of.get("")),
            holds.get(profile.name),
            **wrap_of(self.sample, profile, steps),
            missing=tuple(profile.missing),
        )


def _values(profile: ColumnProfile) -> str:
    if not profile.values:
        return f"{profile.n_distinct} values"
    shown = [value if len(value) <= 24 else value[:23] + "…" for value in profile.values[:5]]
    more = len(profile.values) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _interval(sample: Sample, time: TimeColumn, machine: SampledColumn | None) -> float | None:
    apart = f"file, block, {machine.key}" if machine else "file, block"
    gap = f"epoch(instant - lag(instant) OVER (PARTITION BY {apart} ORDER BY instant)) AS gap"
    rows = (
        sample.connection.table("sample")
        .project(f"*, {time.instant} AS instant")
        .project(gap)
        .filter("gap > 0")
        .aggregate("median(gap)")
        .fetchall()
    )
    return None if rows[0][0] is None else float(rows[0][0])


def _about_time(time: TimeColumn, times: list[TimeColumn], *, is_given: bool) -> list[str]:
    sentences = []
    name = time.column.name
    others = [t.column.name for t in times if t.column.name not in (name, *time.names)]
    if not is_given:
        beside = f"; {', '.join(map(repr, others))} hold times too" if others else ""
        which = f"Column {name!r} is the time of the reading"
        if len(time.names) > 1:
            which = f"Columns {time.names[0]!r} and {time.names[1]!r} are the date and the time of the reading"
        sentences.append(f"{which}{beside}.")
    if time.is_ambiguous:
        sentences.append(f"{name!r} is read as {time.format!r}, but day and month could be swapped: check this.")
    if time.remark:
        sentences.append(f"{name!r} is read as {time.format!r}; {time.remark}.")
    if time.share < 1:
        part = max(1 - time.share, 0.0001)
        sentences.append(f"{part:.2%} of the values of {name!r} are no times; those rows will be refused.")
    return sentences


def _about_sensors(
    sensors: tuple[FoundSensor, ...], ignored: dict[str, str], profiles: dict[str, ColumnProfile]
) -> list[str]:
    sentences = [f"{len(sensors)} numeric column(s) are sensors."]
    sentences += [f"Sensor {sensor.column!r}: {sensor.remark}." for sensor in sensors if sensor.remark]
    sentences += [
        f"Column {sensor.column!r} becomes sensor {sensor.name!r}, because its own name is reserved or taken."
        for sensor in sensors
        if sensor.name != sensor.column
    ]
    if len(ignored) > _MOST_SENTENCES:
        shown = ", ".join(map(repr, list(ignored)[:_MOST_SENTENCES]))
        sentences.append(f"Leaves out {len(ignored)} columns, for reasons given in the file: {shown}, ….")
    else:
        sentences += [f"Leaves out {name!r}: it {reason}." for name, reason in ignored.items()]
    return sentences


def _explain_no_sensor(sample: Sample, ignored: dict[str, str], style: NumberStyle) -> str:
    path = sample.files[0].path
    likely = find_number_style(sample, None, None).decimal
    if style.decimal != likely:
        return (
            f"Expected numeric columns in {path}, got numbers with a decimal {likely!r}: set "
            f"source.decimal = '{likely}' in pwflow.toml."
        )
    why = "; ".join(f"{name!r} {reason}" for name, reason in list(ignored.items())[:4])
    return (
        f"Expected at least one numeric column in {path}, got none ({why or 'all are named already'}): "
        "export the measurements as numbers, or name the columns under [sensors] in pwflow.toml."
    )
