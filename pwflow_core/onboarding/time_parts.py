"""Times that several columns make together: a date, a time of day, milliseconds, and a time zone."""

from __future__ import annotations

from dataclasses import replace

from pwflow_core.errors import SourceError
from pwflow_core.marks import HALVES
from pwflow_core.onboarding.names import has_word, words
from pwflow_core.onboarding.sampling import Sample, SampledColumn
from pwflow_core.onboarding.timestamps import WELL_READ, TimeColumn, read_time_column
from pwflow_core.onboarding.vocabulary import TIMES, ZONES
from pwflow_core.spelling.zones import resolve_zone
from pwflow_core.warehouse import quote_literal

__all__ = [
    "find_milliseconds",
    "find_time_of_day",
    "find_zone_column",
    "join_milliseconds",
    "join_time_of_day",
    "join_zone",
]

_TIME_OF_DAY = (
    rf"(({HALVES[0][0]}|{HALVES[1][0]}|[AaPp]\.?[Mm]\.?) ?)?"
    r"(\d{1,2}[時时시点] ?\d{1,2}[分분]( ?\d{1,2}[秒초])?|"
    r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?[AaPp]\.?[Mm]\.?)?([ ]?[A-Za-z(+-][^,;]*)?)"
)
_PACKED_TIME_OF_DAY = r"([01]\d|2[0-3])[0-5]\d([0-5]\d)?"
_CLOCKS = frozenset({"clock", "hhmmss", "hhmm"})
_MILLISECONDS = frozenset(
    {"ms", "msec", "msecs", "milli", "millis", "millitm", "millisec", "millisecond", "milliseconds", "millisekunden"}
)
_MOST_ZONES = 100


def find_time_of_day(sample: Sample, chosen: TimeColumn) -> SampledColumn | None:
    """Return the column with the time of day, if the chosen one holds dates only and there is one such column."""
    if chosen.has_time_of_day:
        return None
    for column in sample.columns:
        if column.name == chosen.column.name:
            continue
        if column.type.startswith("TIME") and not column.is_time:
            return column
        if column.is_text:
            test = f"regexp_full_match({column.key}, {quote_literal(_TIME_OF_DAY)})"
            packed = f"regexp_full_match({column.key}, {quote_literal(_PACKED_TIME_OF_DAY)})"
            is_named = has_word(column.name, TIMES) or has_word(column.name, _CLOCKS)
            if _share(sample, column, f"{test} OR {packed}" if is_named else test) >= WELL_READ:
                return column
    return None


def join_time_of_day(
    sample: Sample, date: SampledColumn, clock: SampledColumn, format: str | None, timezone: str | None
) -> TimeColumn:
    """Return the time that a column of dates and one of times of day make together.

    Raises:
        SourceError: They make none.
    """
    day = f"{date.key}::DATE" if date.type.startswith("TIMESTAMP") else date.key
    joined = f"({day}::VARCHAR || ' ' || {clock.key}::VARCHAR)"
    column = SampledColumn(date.name, joined, "VARCHAR", max(date.n_absent, clock.n_absent))
    time = read_time_column(sample, column, format, timezone, enough=WELL_READ)
    return replace(time, column=date, parts=(date, clock))


def find_zone_column(sample: Sample, time: TimeColumn, timezone: str | None) -> SampledColumn | None:
    """Return the column of text that says the time zone of times that carry none, such as +0900 or CET, or None."""
    if not time.is_naive or not all(part.is_text for part in time.parts):
        return None
    for column in sample.columns:
        if column.name in time.names or not column.is_text or not has_word(column.name, ZONES):
            continue
        rows = sample.connection.table("sample").filter(f"{column.key} IS NOT NULL").project(f"trim({column.key})")
        words = {str(row[0]) for row in rows.distinct().limit(_MOST_ZONES + 1).fetchall()}
        if 0 < len(words) <= _MOST_ZONES and all(resolve_zone(word, timezone) is not None for word in words):
            return column
    return None


def join_zone(
    sample: Sample, time: TimeColumn, zone: SampledColumn, format: str | None, timezone: str | None
) -> TimeColumn:
    """Return the time that columns of local times and one of their time zone make together.

    Raises:
        SourceError: They make none.
    """
    parts = (*time.parts, zone)
    joined = " || ' ' || ".join(f"trim({part.key})" for part in parts)
    column = SampledColumn(time.column.name, f"({joined})", "VARCHAR", max(part.n_absent for part in parts))
    whole = read_time_column(sample, column, format, timezone, enough=WELL_READ)
    return replace(whole, column=time.column, parts=parts, zone=zone.name)


def find_milliseconds(sample: Sample, time: TimeColumn) -> SampledColumn | None:
    """Return the column with the milliseconds of times in whole seconds: called so, and 0 to 999."""
    for column in sample.columns:
        if column.name in time.names or not {*words(column.name)} <= _MILLISECONDS:
            continue
        value = f"TRY_CAST({column.key}::VARCHAR AS DOUBLE)"
        is_one = f"coalesce({value} = floor({value}) AND {value} BETWEEN 0 AND 999, {column.key} IS NULL)"
        if sample.aggregate(f"bool_and({is_one}), count({column.key}) > 0") == (True, True):
            return column
    return None


def join_milliseconds(
    sample: Sample, time: TimeColumn, milliseconds: SampledColumn, format: str | None, timezone: str | None
) -> TimeColumn | None:
    """Return times with their milliseconds, which another column holds; None if they have a fraction already."""
    text = " || ' ' || ".join(f"trim({part.key}::VARCHAR)" for part in time.parts)
    (seconds,) = sample.aggregate(f"coalesce(bool_and({time.instant} = date_trunc('second', {time.instant})), false)")
    if not seconds:
        return None
    parts = (*time.parts, milliseconds)
    digits = f"lpad(coalesce({milliseconds.key}::BIGINT, 0)::VARCHAR, 3, '0')"
    joined = f"(regexp_replace({text}, '[.]0*$', '') || '.' || {digits})"
    column = SampledColumn(time.column.name, joined, "VARCHAR", max(part.n_absent for part in parts))
    try:
        whole = read_time_column(sample, column, format, timezone, enough=WELL_READ)
    except SourceError:
        return None
    return replace(whole, column=time.column, parts=parts, milliseconds=milliseconds.name)


def _share(sample: Sample, column: SampledColumn, test: str) -> float:
    return float(sample.aggregate(f"coalesce(avg(({test})::INT), 0.0)")[0])
