"""Which column says when, in which format, and whether it names its time zone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pwflow_core.errors import SourceError, list_few
from pwflow_core.marks import EXCEL_DAYS
from pwflow_core.onboarding.names import has_word, words
from pwflow_core.onboarding.sampling import Sample, SampledColumn
from pwflow_core.onboarding.time_formats import find_formats
from pwflow_core.onboarding.vocabulary import EPOCHS, SURE_TIMES, TIMES
from pwflow_core.spelling import NUMERIC_FORMATS, InstantSpelling, read_zones

__all__ = [
    "WELL_READ",
    "TimeColumn",
    "choose_timestamp",
    "find_time_columns",
    "read_time_column",
]

_EARLIEST, _LATEST = datetime(1980, 1, 1), datetime(2100, 1, 1)  # noqa: DTZ001 - compared inside DuckDB
_EARLIEST_EPOCH = 315_532_800
_EARLIEST_NS = 978_307_200_000_000_000
"""Smaller numbers, such as ticks since the year 1, are not nanoseconds since 1970 of this century."""
_USUAL_SECONDS = {"unix_s": (_EARLIEST_EPOCH, 2_524_608_000), "labview_s": (2_713_996_800, 4_607_452_800)}
"""1980 to 2050 and 1990 to 2050, so that no number of seconds is both."""
_FIRST_DAY, _LAST_DAY = 29_221, 73_050
_UTC = frozenset({"utc", "gmt", "zulu"})
WELL_READ = 0.9
"""A column holds times if this part of its values are."""


@dataclass(frozen=True, slots=True)
class TimeColumn:
    """A column that holds points in time.

    Attributes:
        column: The column.
        format: strptime format, a number format such as `unix_s`, or None for ISO 8601 and typed columns.
        is_naive: Whether some of its values carry no offset.
        instant: SQL that gives a value as TIMESTAMP, in UTC where it carries an offset.
        share: Part of the values that are read.
        ordered: Part of the neighbouring rows whose times do not go back.
        has_time_of_day: Whether there is more than a date.
        first: Earliest value.
        last: Latest value.
        is_ambiguous: Whether day and month could be the other way round.
        remark: What to know of how it is read, or empty.
        parts: The columns that it is made of.
        zone: Name of the column among these that says the time zone, or empty.
        milliseconds: Name of the column among these that holds the milliseconds, or empty.
    """

    column: SampledColumn
    format: str | None
    is_naive: bool
    instant: str
    share: float
    ordered: float
    has_time_of_day: bool
    first: datetime | None
    last: datetime | None
    is_ambiguous: bool = False
    remark: str = ""
    parts: tuple[SampledColumn, ...] = ()
    zone: str = ""
    milliseconds: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that it is made of."""
        return tuple(part.name for part in self.parts)

    @property
    def source(self) -> str | tuple[str, ...]:
        """The column, or the columns, as `source.timestamp` has them."""
        names = tuple(name for name in self.names if name != self.milliseconds)
        return names if len(names) > 1 else self.column.name


def find_time_columns(sample: Sample, timezone: str | None = None) -> list[TimeColumn]:
    """Return the columns that hold points in time, as far as their types and values tell.

    Arguments:
        sample: The sample.
        timezone: Zone of times that carry none, where it is known.
    """
    found = []
    for column in sample.columns:
        if column.is_time or column.is_text or (column.is_number and _could_be_count(sample, column)):
            best = _best_reading(sample, column, timezone)
            if best and best.share >= WELL_READ and (best.format not in NUMERIC_FORMATS or _is_count(best)):
                found.append(best)
    return found


def choose_timestamp(sample: Sample, found: Sequence[TimeColumn], timezone: str | None = None) -> TimeColumn:
    """Return the column that most looks like the time of the reading.

    Raises:
        SourceError: There is none; the message shows the values of the column that is called like one.
    """
    if not found:
        named = [c for c in sample.columns if has_word(c.name, TIMES)]
        if named:
            return read_time_column(sample, named[0], None, timezone, enough=WELL_READ)
        shown = list_few([repr(column.name) for column in sample.columns], 12)
        raise SourceError(
            f"Expected a timestamp column in {sample.files[0].path}, got none among {shown}: name it "
            "with --timestamp, or make one with source.sql in pwflow.toml."
        )
    is_utc = timezone in (None, "UTC")  # of a local time and one in UTC, the one that this zone is right for
    chosen = max(
        found,
        key=lambda c: (_rank(c) + (is_utc and bool(_UTC & {*words(c.column.name)})), -sample.columns.index(c.column)),
    )
    _check_half(sample, chosen)
    return chosen


def read_time_column(
    sample: Sample, column: SampledColumn, format: str | None, timezone: str | None = None, *, enough: float = 0.5
) -> TimeColumn:
    """Return a column that is known to be the timestamp.

    Arguments:
        sample: The sample.
        column: The column.
        format: strptime format, a number format such as `unix_s`, or None to find it.
        timezone: Zone of times that carry none, where it is known.
        enough: Part of the values that have to be times.

    Raises:
        SourceError: Fewer of its values are times; the message shows some that are none.
    """
    readings = [_measure(sample, column, format, timezone)] if format else _readings(sample, column, timezone)
    best = _best(sample, readings)
    if best is not None:
        _check_half(sample, best)
    if best is None or best.share < enough:
        raise SourceError(_explain_unread(sample, column, format, best, readings, timezone))
    rival = next((r for r in readings if r is not best and best.share + r.share >= 0.98 and r.share > 0.05), None)
    if rival and best.share < WELL_READ:
        raise SourceError(_explain_two(sample, column, best, rival))
    return best


def _check_half(sample: Sample, time: TimeColumn) -> None:
    """Raise if times are of a clock with twelve hours that does not say which half of the day it is.

    Raises:
        SourceError: Every hour from 1 to 12 is there, no other one is, and times go back again and again.
    """
    if time.format in NUMERIC_FORMATS or "%I" in (time.format or "") or time.column.type != "VARCHAR":
        return
    text = time.column.key
    hour = f"TRY_CAST(regexp_extract({text}, '(\\d{{1,2}}):\\d{{2}}', 1) AS INTEGER)"
    low, high, n_hours = sample.aggregate(f"min({hour}), max({hour}), count(DISTINCT {hour})")
    if (low, high, n_hours) == (1, 12, 12) and 1 - time.ordered > 0:
        shown = _first_value(sample, time.column, f"{hour} = 12")
        raise SourceError(
            f"Expected times of day from 0 to 23 or with AM and PM in column {time.column.name!r} of "
            f"{sample.files[0].path}, got only 1 to 12, such as {shown!r}: export it with a clock of 24 hours."
        )


def _could_be_count(sample: Sample, column: SampledColumn) -> bool:
    low, high = sample.aggregate(f"min({column.key}::DOUBLE), max({column.key}::DOUBLE)")
    if low is None:
        return False
    return bool(low >= _EARLIEST_EPOCH or (has_word(column.name, TIMES) and low >= _FIRST_DAY and high <= _LAST_DAY))


def _rank(time: TimeColumn) -> float:
    name = words(time.column.name)
    named = 2.0 if SURE_TIMES.intersection(name) else 1.5 if TIMES.intersection(name) else 0.0
    return named + 2 * time.share + 2 * time.ordered + time.has_time_of_day + 0.5 * time.column.is_time


def _is_count(time: TimeColumn) -> bool:
    if time.format == EXCEL_DAYS:
        return time.first != time.last and has_word(time.column.name, TIMES) and time.ordered >= WELL_READ
    named = has_word(time.column.name, EPOCHS)
    return time.first != time.last and (named or time.ordered == 1.0)


def _best_reading(sample: Sample, column: SampledColumn, timezone: str | None) -> TimeColumn | None:
    return _best(sample, _readings(sample, column, timezone))


def _readings(sample: Sample, column: SampledColumn, timezone: str | None) -> list[TimeColumn]:
    """Return how a column can be read, in any of the formats that its values could have."""
    readings = [_measure(sample, column, format, timezone) for format in find_formats(sample, column)]
    return [reading for reading in readings if reading.share > 0]


def _best(sample: Sample, readings: Sequence[TimeColumn]) -> TimeColumn | None:
    """Return the reading of most values, then the one whose times go on from row to row, then the shortest.

    Raises:
        SourceError: Some values have the day first and others the month.
    """
    if not readings:
        return None
    best = max(readings, key=lambda r: (round(r.share, 3), round(r.ordered, 3), -_span(r)))
    rivals = [r for r in readings if r is not best and r.first != best.first]
    for rival in rivals:
        for other in readings:
            if rival.share < other.share and _is_mixture(sample, best, rival, other):
                raise SourceError(_explain_two(sample, best.column, other, rival))
    equal = [r for r in rivals if round(r.share, 3) == round(best.share, 3)]
    if any(r.ordered == best.ordered and _span(r) == _span(best) for r in equal):
        return replace(best, is_ambiguous=True)
    if equal:
        other = equal[0]
        why = "the times then go on from row to row"
        if round(other.ordered, 3) == round(best.ordered, 3):
            why = f"the times then span {_length(best)} instead of {_length(other)}"
        return replace(best, remark=f"{other.format!r} fits every value too, but {why}: check this")
    return best


def _is_mixture(sample: Sample, best: TimeColumn, rival: TimeColumn, other: TimeColumn) -> bool:
    """Whether times go on better if those that `rival` can read are read so, and the rest as `other`: two formats."""
    mixed = _measured(sample, best.column, f"coalesce({rival.instant}, {other.instant})")
    n_read, ordered, first, last = mixed[1:5]
    if first is None or n_read < round(best.share * mixed[0]):
        return False
    span, usual = (last - first).total_seconds(), _span(best)
    return bool((ordered > best.ordered and 2 * span < usual) or (ordered == best.ordered and 10 * span < usual))


def _explain_two(sample: Sample, column: SampledColumn, best: TimeColumn, rival: TimeColumn) -> str:
    """Return a message with a value of each of two formats."""
    only_best = _first_value(sample, column, f"{best.instant} IS NOT NULL AND {rival.instant} IS NULL")
    other = f"{rival.instant} IS NOT NULL AND {rival.instant} IS DISTINCT FROM {best.instant}"
    only_rival = _first_value(sample, column, other)
    return (
        f"Expected times of one format in column {column.name!r} of {sample.files[0].path}, got {only_rival!r} "
        f"({_spelled_out(rival.format)}) and {only_best!r} ({_spelled_out(best.format)}): no single format reads "
        "both, and a spreadsheet may have swapped days and months. Export the times again as text, such as "
        "2026-03-01 00:10:00."
    )


def _explain_unread(
    sample: Sample,
    column: SampledColumn,
    format: str | None,
    best: TimeColumn | None,
    readings: Sequence[TimeColumn],
    timezone: str | None,
) -> str:
    rivals = [r for r in readings if r is not best and best and r.share > 0]
    for rival in sorted(rivals, key=lambda r: -r.share):
        if best and _first_value(sample, column, f"{rival.instant} IS NOT NULL AND {best.instant} IS NULL"):
            return _explain_two(sample, column, best, rival)
    got = _first_value(sample, column, f"{best.instant} IS NULL" if best else "true")
    if got is not None and (word := _unknown_zone(sample, column, format, timezone)):
        return (
            f"Expected times in a known time zone in column {column.name!r} of {sample.files[0].path}, got {got!r}: "
            f"{word!r} is not known, or has several meanings. Name the zone of the plant with --timezone (such as "
            "America/Chicago) if that makes it certain, or export the times with their offset from UTC."
        )
    tried = f"the format {format!r}" if format else "ISO 8601, day.month.year, Unix time or days of a spreadsheet"
    return (
        f"Expected times in column {column.name!r} of {sample.files[0].path} ({tried}), got "
        f"{'only empty values' if got is None else repr(got)}: set source.timestamp_format in pwflow.toml (a strptime "
        f"format, or one of {', '.join(NUMERIC_FORMATS)}), or name another column with --timestamp."
    )


def _unknown_zone(sample: Sample, column: SampledColumn, format: str | None, timezone: str | None) -> str | None:
    """Return the first word behind the times of a column that is not a known zone."""
    if not column.is_text:
        return None
    for one in [format] if format else find_formats(sample, column):
        zones = read_zones(sample.connection, "sample", column.key, InstantSpelling(one, timezone))
        if unknown := [word for word, zone in zones.items() if word and zone is None]:
            return unknown[0]
    return None


def _first_value(sample: Sample, column: SampledColumn, test: str) -> str | None:
    rows = (
        sample.connection.table("sample")
        .filter(f"{column.key} IS NOT NULL AND {test}")
        .order("file, block, row")
        .project(f"{column.key}::VARCHAR")
        .limit(1)
        .fetchall()
    )
    return str(rows[0][0]) if rows else None


def _spelled_out(format: str | None) -> str:
    return "ISO 8601" if format is None else f"read as {format!r}"


def _length(time: TimeColumn) -> str:
    seconds = _span(time)
    return f"{seconds / 86400:.0f} days" if seconds >= 172_800 else f"{seconds / 3600:.0f} hours"


def _span(time: TimeColumn) -> float:
    return (time.last - time.first).total_seconds() if time.first and time.last else 0.0


def _measure(sample: Sample, column: SampledColumn, format: str | None, timezone: str | None) -> TimeColumn:
    text = column.key if column.is_text else f"{column.key}::VARCHAR"
    naive = "false"
    if column.type == "TIMESTAMP WITH TIME ZONE":
        instant = f"(try_cast({column.key} AS TIMESTAMPTZ) AT TIME ZONE 'UTC')"
    elif column.is_time and format is None:
        instant, naive = f"try_cast({column.key} AS TIMESTAMP)", "true"
    else:
        zones = read_zones(sample.connection, "sample", text, InstantSpelling(format, timezone))
        spelling = InstantSpelling(format, "UTC", zones)
        instant, naive = spelling.instant(text), spelling.is_naive(text)
    within = f"BETWEEN TIMESTAMP '{_EARLIEST}' AND TIMESTAMP '{_LATEST}'"
    if format in _USUAL_SECONDS:
        first, last = _USUAL_SECONDS[format]
        within += f" AND TRY_CAST(replace({text}, ',', '.') AS DOUBLE) BETWEEN {first} AND {last}"
    if format == "unix_ns":
        within += f" AND TRY_CAST({text} AS DOUBLE) >= {_EARLIEST_NS}"
    instant = f"(CASE WHEN {instant} {within} THEN {instant} END)"
    n, n_read, ordered, first, last, has_time = _measured(sample, column, instant)
    is_naive = bool(sample.aggregate(f"coalesce(bool_or({naive}) FILTER ({instant} IS NOT NULL), false)")[0])
    share = n_read / n if n else 0.0
    ordered, has_time = float(ordered), bool(has_time)
    return TimeColumn(column, format, is_naive, instant, share, ordered, has_time, first, last, parts=(column,))


def _measured(sample: Sample, column: SampledColumn, instant: str) -> tuple[Any, ...]:
    rows = sample.connection.table("sample").project(
        f"{column.key} AS value, {instant} AS instant, "
        f"lag({instant}) OVER (PARTITION BY file, block ORDER BY row) AS before"
    )
    measures = rows.aggregate(
        "count(value), count(instant), coalesce(avg((instant >= before)::INT), 1.0), min(instant), "
        "max(instant), coalesce(bool_or(instant::TIME <> TIME '00:00:00'), false)"
    )
    return tuple(measures.fetchall()[0])
