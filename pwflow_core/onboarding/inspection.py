"""Look at exports and decide what their columns mean.

`pwflow init` writes the result down; the ingest uses it for what a configuration leaves open. How files are
opened is in `sampling`, how single columns are judged in `timestamps` and `roles`.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from pwflow_core.errors import SourceError
from pwflow_core.marks import FILE_NAME_COLUMN
from pwflow_core.onboarding.assigning import Roles
from pwflow_core.onboarding.columns import ColumnProfile, measure_steps, profile_columns
from pwflow_core.onboarding.findings import FoundSensor, Inspection
from pwflow_core.onboarding.long_inspection import (
    about_channels,
    about_holding,
    about_quality,
    about_states,
    inspect_long,
    only_value,
    share_times,
)
from pwflow_core.onboarding.number_style import NumberStyle, find_number_style
from pwflow_core.onboarding.paths import find_path_columns
from pwflow_core.onboarding.roles import find_machine
from pwflow_core.onboarding.sampling import Sample, SampledColumn, draw_sample
from pwflow_core.onboarding.shapes import LongShape, Quality, find_channels, find_long, find_quality
from pwflow_core.onboarding.time_parts import (
    find_milliseconds,
    find_time_of_day,
    find_zone_column,
    join_milliseconds,
    join_time_of_day,
    join_zone,
)
from pwflow_core.onboarding.timestamps import TimeColumn, choose_timestamp, find_time_columns, read_time_column

__all__ = ["FoundSensor", "Inspection", "inspect_source"]

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
        roles = Roles(sample, profiles, steps, time, times, machine_column, named, quality, channels, style)
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
            milliseconds=time.milliseconds or None,
            path_columns=path.pattern if path else None,
            encoding=sample.encoding,
            header=sample.files[0].has_header,
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
    if clock is not None:
        time = join_time_of_day(sample, time.column, clock, format, timezone)
    milliseconds = find_milliseconds(sample, time)
    if milliseconds is not None and milliseconds.name not in left_out:
        return join_milliseconds(sample, time, milliseconds, format, timezone) or time
    zone = find_zone_column(sample, time, timezone)
    if zone is None or zone.name in left_out:
        return time
    return join_zone(sample, time, zone, format, timezone)


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
        if len(time.names) > 1 + bool(time.zone) + bool(time.milliseconds):
            which = f"Columns {time.names[0]!r} and {time.names[1]!r} are the date and the time of the reading"
        sentences.append(f"{which}{beside}.")
    if time.milliseconds:
        sentences.append(f"Column {time.milliseconds!r} holds the milliseconds of the times.")
    if time.zone:
        sentences.append(f"Column {time.zone!r} is the time zone of the times.")
    if time.is_ambiguous:
        sentences.append(f"{name!r} is read as {time.format!r}, but day and month could be swapped: check this.")
    if time.remark:
        sentences.append(f"{name!r} is read as {time.format!r}; {time.remark}.")
    if time.share < 1:
        part = max(1 - time.share, 0.0001)
        sentences.append(
            f"{part:.2%} of the values of {name!r} are not times from 1980 to 2100: rows without a time, or with one "
            "in the future, will be refused; earlier ones are read as they are."
        )
    return sentences


def _about_sensors(
    sensors: tuple[FoundSensor, ...], ignored: dict[str, str], profiles: dict[str, ColumnProfile]
) -> list[str]:
    measured = [sensor for sensor in sensors if not sensor.is_state]
    sentences = [f"{len(measured)} numeric column(s) are sensors.", *about_states(sensors)]
    sentences += [f"Sensor {sensor.column!r}: {sensor.remark}." for sensor in measured if sensor.remark]
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
