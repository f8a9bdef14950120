"""Which column says when, in which format, and whether it names its time zone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product

from pwflow_core.errors import SourceError, list_few
from pwflow_core.files import HAS_OFFSET
from pwflow_core.onboarding.names import has_word, words
from pwflow_core.onboarding.sampling import Sample, SampledColumn
from pwflow_core.onboarding.vocabulary import EPOCHS, SURE_TIMES, TIMES
from pwflow_core.warehouse import quote_literal

__all__ = ["TimeColumn", "check_split_time", "choose_timestamp", "find_time_columns", "read_time_column"]

_EARLIEST, _LATEST = datetime(1980, 1, 1), datetime(2100, 1, 1)  # noqa: DTZ001 - compared inside DuckDB
_EARLIEST_EPOCH = 315_532_800
_FACTORS = {"unix_s": 1_000_000, "unix_ms": 1_000}
_TIME_OF_DAY = r"^\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?[AaPp][Mm])?$"
_SHAPE = re.compile(
    r"(?P<a>\d{1,4})(?P<d1>[-./ ])(?P<b>\d{1,2}|[A-Za-z]{3,9})(?P<d2>[-./ ])(?P<c>\d{2,4})"
    r"((?P<gap>[ T,]+)(?P<hour>\d{1,2}:\d{2})(?P<seconds>:\d{2})?(?P<fraction>[.,]\d+)?"
    r"(?P<half> ?[AaPp][Mm])?(?P<offset> ?[+-]\d{2}:?\d{2})?)?"
)
_COMPACT = re.compile(r"\d{8}(?P<gap>[T _-]?)(?P<time>\d{4}|\d{6})?(?P<offset>[+-]\d{4})?")
_WELL_READ = 0.9


@dataclass(frozen=True, slots=True)
class TimeColumn:
    """A column that holds points in time.

    Attributes:
        column: The column.
        format: strptime format, `unix_s`, `unix_ms`, or None for ISO 8601 and typed columns.
        is_naive: Whether some of its values carry no offset.
        instant: SQL that gives a value as TIMESTAMP, in UTC where it carries an offset.
        share: Part of the values that are read.
        ordered: Part of the neighbouring rows whose times do not go back.
        has_time_of_day: Whether there is more than a date.
        first: Earliest value.
        last: Latest value.
        is_ambiguous: Whether day and month could be the other way round.
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


def find_time_columns(sample: Sample) -> list[TimeColumn]:
    """Return the columns that hold points in time, as far as their types and values tell."""
    found = []
    for column in sample.columns:
        if column.is_time or column.is_text or (column.is_number and _could_be_epoch(sample, column)):
            best = _best_reading(sample, column)
            if best and best.share >= _WELL_READ and (best.format not in _FACTORS or _is_epoch(best)):
                found.append(best)
    return found


def choose_timestamp(sample: Sample, found: Sequence[TimeColumn]) -> TimeColumn:
    """Return the column that most looks like the time of the reading.

    Raises:
        SourceError: There is none; the message shows the values of the column that is called like one.
    """
    if not found:
        named = [c for c in sample.columns if has_word(c.name, TIMES)]
        if named:
            read_time_column(sample, named[0], None)
        shown = list_few([repr(column.name) for column in sample.columns], 12)
        raise SourceError(
            f"Expected a timestamp column in {sample.files[0].path}, got none among {shown}: name it "
            "with --timestamp, or make one with source.sql in pwflow.toml."
        )
    return max(found, key=lambda c: (_rank(c), -sample.columns.index(c.column)))


def read_time_column(sample: Sample, column: SampledColumn, format: str | None) -> TimeColumn:
    """Return a column that is known to be the timestamp.

    Arguments:
        sample: The sample.
        column: The column.
        format: strptime format, `unix_s` or `unix_ms`, or None to find it.

    Raises:
        SourceError: Fewer than half of its values are times; the message shows the first that is none.
    """
    best = _measure(sample, column, format) if format else _best_reading(sample, column)
    if best is None or best.share < 0.5:
        tried = f"the format {format!r}" if format else "ISO 8601, day.month.year or Unix time"
        instant = best.instant if best and best.share > 0 else "NULL::TIMESTAMP"
        rows = (
            sample.connection.table("sample")
            .filter(f"{column.key} IS NOT NULL AND {instant} IS NULL")
            .order("file, block, row")
            .project(f"{column.key}::VARCHAR")
            .limit(1)
            .fetchall()
        )
        got = repr(rows[0][0]) if rows else "only empty values"
        raise SourceError(
            f"Expected times in column {column.name!r} of {sample.files[0].path} ({tried}), got {got}: set "
            "source.timestamp_format in pwflow.toml, or name another column with --timestamp."
        )
    return best


def check_split_time(sample: Sample, chosen: TimeColumn) -> None:
    """Raise if the date is in the chosen column and the time of day in another.

    Raises:
        SourceError: So it is; the message gives the SQL that joins them.
    """
    if chosen.has_time_of_day:
        return
    for column in sample.columns:
        if column.type.startswith("TIME") and not column.is_time:
            share = 1.0
        elif column.is_text:
            share = _share(sample, column, f"regexp_matches({column.key}, {quote_literal(_TIME_OF_DAY)})")
        else:
            continue
        if share >= _WELL_READ:
            date, time = (name.replace('"', '""') for name in (chosen.column.name, column.name))
            raise SourceError(
                f"Expected date and time in one column, but {sample.files[0].path} has the date in "
                f"{chosen.column.name!r} and the time in {column.name!r}: in pwflow.toml, set source.sql = "
                f"'''SELECT \"{date}\" || ' ' || \"{time}\" AS ts, * FROM read_csv('FILES')''' and "
                "source.timestamp = 'ts' instead of source.path."
            )


def _could_be_epoch(sample: Sample, column: SampledColumn) -> bool:
    low = sample.aggregate(f"min({column.key}::DOUBLE)")[0]
    return low is not None and low >= _EARLIEST_EPOCH


def _rank(time: TimeColumn) -> float:
    name = words(time.column.name)
    named = 2.0 if SURE_TIMES.intersection(name) else 1.5 if TIMES.intersection(name) else 0.0
    return named + 2 * time.share + 2 * time.ordered + time.has_time_of_day + 0.5 * time.column.is_time


def _is_epoch(time: TimeColumn) -> bool:
    named = has_word(time.column.name, EPOCHS)
    return time.first != time.last and (named or time.ordered == 1.0)


def _best_reading(sample: Sample, column: SampledColumn) -> TimeColumn | None:
    readings = [reading for f in _formats(sample, column) if (reading := _measure(sample, column, f)).share > 0]
    if not readings:
        return None
    best = max(readings, key=lambda r: (round(r.share, 3), round(r.ordered, 3), -_span(r)))
    rivals = [r for r in readings if r is not best and (r.share, r.ordered) == (best.share, best.ordered)]
    is_open = any(_span(r) == _span(best) and r.first != best.first for r in rivals)
    if not is_open:
        return best
    return TimeColumn(**{name: getattr(best, name) for name in best.__slots__} | {"is_ambiguous": True})


def _span(time: TimeColumn) -> float:
    return (time.last - time.first).total_seconds() if time.first and time.last else 0.0


def _formats(sample: Sample, column: SampledColumn) -> list[str | None]:
    """Return the formats that the first values of a column could have; None stands for ISO 8601."""
    if column.is_time:
        return [None]
    if column.is_number:
        return list(_FACTORS)
    rows = (
        sample.connection.table("sample")
        .filter(f"{column.key} IS NOT NULL")
        .project(f"{column.key}, file, block, row")
        .order("file, block, row")
        .limit(40)
        .fetchall()
    )
    values = [str(row[0]) for row in rows]
    formats: dict[str | None, None] = {}
    for value in (values[len(values) // 2], values[-1]) if values else ():
        if re.fullmatch(r"\d{9,13}(\.\d+)?", value):
            formats |= dict.fromkeys(_FACTORS)
        elif re.match(r"\d{4}[-/]\d{1,2}[-/]\d{1,2}", value) and not re.search(r":\d{2},\d+$", value):
            formats[None] = None
        if match := _SHAPE.fullmatch(value):
            formats |= dict.fromkeys(_spelled(match))
        elif match := _COMPACT.fullmatch(value):
            clock = {None: "", 4: "%H%M", 6: "%H%M%S"}[len(match["time"]) if match["time"] else None]
            formats[f"%Y%m%d{match['gap']}{clock}{'%z' if match['offset'] else ''}"] = None
    if None in formats:
        return [None]
    return list(formats)


def _spelled(match: re.Match[str]) -> list[str]:
    """Return the strptime formats of a value with separate day, month and year, the likelier first."""
    b, d1, d2 = match["b"], match["d1"], match["d2"]
    year = "%Y" if len(match["c"]) == 4 else "%y"
    if len(match["a"]) == 4:
        dates = [f"%Y{d1}%m{d2}%d"]
    elif b.isalpha():
        dates = [f"%d{d1}{'%b' if len(b) == 3 else '%B'}{d2}{year}"]
    elif d1 == "/" and match["half"]:
        dates = [f"%m/%d/{year}", f"%d/%m/{year}"]
    else:
        dates = [f"%d{d1}%m{d2}{year}", *([f"%m{d1}%d{d2}{year}"] if d1 != "." else [])]
    if not match["hour"]:
        return dates
    clock = "%I:%M" if match["half"] else "%H:%M"
    clocks = [clock + (":%S" if match["seconds"] else "")]
    if match["fraction"]:
        clocks = [clocks[0] + match["fraction"][0] + "%f"]
    end = (" %p" if match["half"].startswith(" ") else "%p") if match["half"] else ""
    if match["offset"]:
        end += " %z" if match["offset"].startswith(" ") else "%z"
    return [f"{date}{match['gap']}{time}{end}" for date, time in product(dates, clocks)]


def _measure(sample: Sample, column: SampledColumn, format: str | None) -> TimeColumn:
    instant = _instant(column, format)
    within = f"BETWEEN TIMESTAMP '{_EARLIEST}' AND TIMESTAMP '{_LATEST}'"
    instant = f"(CASE WHEN {instant} {within} THEN {instant} END)"
    rows = sample.connection.table("sample").project(
        f"{column.key} AS value, {instant} AS instant, "
        f"lag({instant}) OVER (PARTITION BY file, block ORDER BY row) AS before"
    )
    measures = rows.aggregate(
        "count(value), count(instant), coalesce(avg((instant >= before)::INT), 1.0), min(instant), "
        "max(instant), coalesce(bool_or(instant::TIME <> TIME '00:00:00'), false)"
    ).fetchall()
    n, n_read, ordered, first, last, has_time = measures[0]
    if format in _FACTORS or column.type == "TIMESTAMP WITH TIME ZONE" or (format and "%z" in format):
        is_naive = False
    elif format is None and column.is_text:
        is_naive = _share(sample, column, f"regexp_matches({column.key}, {quote_literal(HAS_OFFSET)})") < 1.0
    else:
        is_naive = True
    share = n_read / n if n else 0.0
    return TimeColumn(column, format, is_naive, instant, share, float(ordered), bool(has_time), first, last)


def _instant(column: SampledColumn, format: str | None) -> str:
    key = column.key
    if format in _FACTORS:
        number = f"try_cast({key} AS DOUBLE)"
        top = _LATEST.timestamp() * 1_000_000 / _FACTORS[format]
        return (
            f"(CASE WHEN {number} BETWEEN 0 AND {top} THEN "
            f"make_timestamp(round({number} * {_FACTORS[format]})::BIGINT) END)"
        )
    if format and "%z" in format:
        return f"(try_strptime({key}, {quote_literal(format)}) AT TIME ZONE 'UTC')"
    if format:
        return f"try_strptime({key}::VARCHAR, {quote_literal(format)})"
    if column.is_text or column.type == "TIMESTAMP WITH TIME ZONE":
        return f"(try_cast({key} AS TIMESTAMPTZ) AT TIME ZONE 'UTC')"
    return f"try_cast({key} AS TIMESTAMP)"


def _share(sample: Sample, column: SampledColumn, test: str) -> float:
    return float(sample.aggregate(f"coalesce(avg(({test})::INT), 0.0)")[0])
