"""The text of a `pwflow.toml`: what was found as settings, everything else as comments to choose from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, timedelta

from pwflow_core.marks import FILE_NAME_COLUMN
from pwflow_core.onboarding.findings import FoundSensor, Inspection
from pwflow_core.onboarding.toml import toml_comment, toml_key, toml_table, toml_value
from pwflow_core.onboarding.tour import render_tour

__all__ = ["write_config"]

_WIDTH = 34
_SENSOR_WIDTH = 44
_LINE_WIDTH = 108


def write_config(
    inspection: Inspection,
    *,
    patterns: Sequence[str],
    name: str = "plant",
    timezone: str | None = None,
) -> str:
    """Return the text of a commented `pwflow.toml`.

    Arguments:
        inspection: What was found in the exports.
        patterns: Paths or globs of the exports.
        name: Name of the plant.
        timezone: Time zone of timestamps that carry none. UTC is written, and marked as assumed, where one is
            needed and not given.
    """
    sections = [
        _head(inspection),
        f"[plant]\n{_setting('name', name, 'prefix of its assets in Dagster: letters, digits, underscores')}",
        _source(inspection, patterns, timezone),
        _sensors(inspection),
        _schedule(timezone),
        "# " + "-" * 76 + "\n# Everything below is optional and shows the defaults: remove the # to change one.",
        render_tour(_examples(inspection)),
    ]
    return "\n\n".join(sections) + "\n"


def _head(inspection: Inspection) -> str:
    rows = f"{inspection.n_rows_read:,} rows of {inspection.n_files_read} of {inspection.n_files:,} file(s)"
    lines = [f"# Written by `pwflow init` after a look at {rows}. It runs as it is."]
    if inspection.first and inspection.last:
        zone = "" if inspection.is_naive else " UTC"
        lines.append(f"# Times seen: {inspection.first:%Y-%m-%d %H:%M} to {inspection.last:%Y-%m-%d %H:%M}{zone}.")
    if inspection.interval_seconds:
        lines.append(f"# One reading every {_duration(inspection.interval_seconds)} per machine (median).")
    return "\n".join(lines)


def _source(inspection: Inspection, patterns: Sequence[str], timezone: str | None) -> str:
    path = patterns[0] if len(patterns) == 1 else list(patterns)
    lines = [
        "[source]",
        _setting("path", path, "path or glob, or a list, relative to this file"),
        _setting("timestamp", inspection.timestamp, "column with the time of the reading"),
    ]
    format_ = inspection.timestamp_format
    if format_:
        lines.append(_setting("timestamp_format", format_, "how times are written"))
    else:
        example = "%d.%m.%Y %H:%M:%S"
        lines.append(_setting("timestamp_format", example, "only if times are not ISO 8601", off=True))
    if timezone:
        lines.append(_setting("timezone", timezone, "zone of times that carry no offset"))
    elif inspection.is_naive:
        lines.append(_setting("timezone", "UTC", 'ASSUMED: the times name no zone; check, e.g. "Europe/Berlin"'))
    else:
        lines.append(_setting("timezone", "UTC", "only if times carry no offset; these do", off=True))
    if inspection.machine is not None:
        lines.append(_setting("machine", inspection.machine, "column that tells machines apart"))
    else:
        lines.append(_setting("machine", "COLUMN", "the column that tells machines apart, if any", off=True))
    if inspection.path_columns:
        lines.append(_setting("path_columns", inspection.path_columns, "what is found in the path of a file"))
    lines += _shape(inspection)
    lines += _segments(inspection)
    if inspection.encoding:
        lines.append(_setting("encoding", inspection.encoding, "of the CSV files"))
    if not inspection.header:
        lines.append(_setting("header", False, "the first line is a row; columns are column_1, column_2, ..."))
    if inspection.delimiter is not None:
        lines.append(_setting("delimiter", inspection.delimiter, "between the columns of the CSV files"))
        lines.append(_setting("decimal", inspection.decimal, "decimal separator in the CSV files"))
        if inspection.thousands:
            lines.append(_setting("thousands", inspection.thousands, "between thousands in the CSV files"))
    lines += [
        "# Instead of `path`, any query that DuckDB runs:",
        "# sql = \"SELECT * FROM read_csv('exports/*.csv')\"",
        "# Instead of `path`, the bundled simulated plant:",
        "# simulated_days = 60",
    ]
    return "\n".join(lines)


def _shape(inspection: Inspection) -> list[str]:
    lines = []
    if inspection.layout == "long":
        value = inspection.value[0] if len(inspection.value) == 1 else list(inspection.value)
        lines += [
            _setting("layout", "long", "a row per value, not a column per sensor"),
            _setting("tag", inspection.tag, "column that names the sensor"),
            _setting("value", value, "column of the value"),
        ]
        if inspection.quality:
            lines.append(_setting("quality", inspection.quality, "column that says whether the value is good"))
    if inspection.good_quality:
        lines.append(_setting("good_quality", list(inspection.good_quality), "any other quality makes a value missing"))
    for fraction in ("milliseconds", "nanoseconds"):
        if column := getattr(inspection, fraction):
            lines.append(_setting(fraction, column, "belong to the time"))
    return lines


def _segments(inspection: Inspection) -> list[str]:
    meaning = "process conditions: readings are split by these columns"
    if inspection.segments:
        lines = [_setting("segments", list(inspection.segments), meaning)]
    else:
        example = list(inspection.segment_candidates)[:1] or [FILE_NAME_COLUMN]
        lines = [_setting("segments", example, meaning, off=True)]
    if inspection.segment_candidates:
        lines.append("# Columns that could be process conditions too (remove those from [sensors]):")
        lines += [
            toml_comment(f"#   {toml_value(name)}: {values}") for name, values in inspection.segment_candidates.items()
        ]
    return lines


def _sensors(inspection: Inspection) -> str:
    lines = [
        "# One line per sensor. `unit` is for the reader; readings below `low` or above `high` are refused",
        "# as physically impossible. The limits in the comments are examples, far outside of what was seen.",
        "[sensors]",
        *(_sensor(sensor) for sensor in inspection.sensors if not sensor.is_state),
    ]
    if states := [sensor for sensor in inspection.sensors if sensor.is_state]:
        lines.append("# States: no model learns their values; a value or a company that is new is an alarm.")
        lines += [_sensor(sensor) for sensor in states]
    if inspection.ignored:
        lines.append("# Left out; a line with `= {}` becomes a sensor when its first # is removed:")
    for name, reason in inspection.ignored.items():
        if name in inspection.optional:
            lines.append(toml_comment(f"# {toml_key(name)} = {{}}  # {reason}"))
        else:
            lines.append(toml_comment(f"#   {toml_value(name)} {reason}"))
    return "\n".join(lines)


def _sensor(sensor: FoundSensor) -> str:
    values: dict[str, object] = {}
    if sensor.column != sensor.name:
        values["column"] = sensor.column
    if sensor.unit:
        values["unit"] = sensor.unit
    for key in ("timestamp", "quality", "hold_seconds", "period", "cut"):
        if getattr(sensor, key) is not None:
            values[key] = getattr(sensor, key)
    if sensor.missing:
        values["missing"] = [int(mark) if mark == int(mark) and abs(mark) < 1e15 else mark for mark in sensor.missing]
    if sensor.is_state:
        values["state"] = True
    setting = f"{toml_key(sensor.name)} = {toml_table(values)}"
    if sensor.is_state:
        return toml_comment(f"{setting:<{_SENSOR_WIDTH}} # {sensor.remark}")
    low, high = _wide(sensor.low_seen, sensor.high_seen)
    unit = f" {sensor.unit}" if sensor.unit else ""
    seen = f"seen {sensor.low_seen:.4g} to {sensor.high_seen:.4g}{unit}"
    seen += f"; limits e.g. low = {low:g}, high = {high:g}"
    remark = f"; {sensor.remark}" if sensor.remark else ""
    return toml_comment(f"{setting:<{_SENSOR_WIDTH}} # {seen}{remark}")


def _wide(low: float, high: float) -> tuple[float, float]:
    """Return limits one range away on both sides, rounded outwards, without a change of sign."""
    span = (high - low) or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(span)) / 5
    places = max(0, -math.floor(math.log10(step)))
    below = math.floor((low - span) / step) * step
    above = math.ceil((high + span) / step) * step
    below = 0.0 if low >= 0 > below else below
    above = 0.0 if high <= 0 < above else above
    return round(below, places), round(above, places)


def _schedule(timezone: str | None) -> str:
    return "\n".join(
        [
            "# When the nightly job runs.",
            "[schedule]",
            _setting("cron", "0 2 * * *", "minute, hour, day of month, month, day of week"),
            _setting("timezone", timezone or "UTC", "zone of the cron times"),
        ]
    )


def _examples(inspection: Inspection) -> Mapping[str, object]:
    examples: dict[str, object] = {
        "events.max_gap_minutes": 10.0,
        "features.sensors": [sensor.name for sensor in inspection.sensors[:1]],  # states are last
    }
    if inspection.first and inspection.last:
        start, until = (time.replace(microsecond=0, tzinfo=UTC) for time in (inspection.first, inspection.last))
        examples |= {"training.start": start, "training.until": until + timedelta(seconds=1)}
    return examples


def _setting(key: str, value: object, explanation: str, *, off: bool = False) -> str:
    setting = f"{'# ' if off else ''}{key} = {toml_value(value)}"
    return f"{setting:<{_WIDTH}}  # {explanation}"


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} s"
