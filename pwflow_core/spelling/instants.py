"""Text to time, in SQL: the one reading that `pwflow init` and the runs share.

DuckDB's cast to TIMESTAMP drops any word behind the time. So nothing is cast before a pattern has accepted the whole
text, and what follows the time of day is a zone that `zones` knows, or the text is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import duckdb

from pwflow_core.marks import (
    EPOCH_MICROSECONDS,
    EXCEL_DAYS,
    FIRST_EXCEL_DAY,
    FIRST_SECOND,
    ISO_OFFSET,
    LAST_EXCEL_DAY,
    UNIX_NUMBER,
)
from pwflow_core.spelling.formats import Pattern, parse_format
from pwflow_core.spelling.numbers import clean_text
from pwflow_core.spelling.zones import Zone, resolve_zone
from pwflow_core.warehouse import quote_literal

__all__ = ["EPOCH_FORMATS", "NUMERIC_FORMATS", "InstantSpelling", "in_utc_sql", "read_zones"]

EPOCH_FORMATS = tuple(EPOCH_MICROSECONDS)
"""Seconds, milliseconds, microseconds and nanoseconds since 1970 in UTC; seconds since 1904 in UTC."""
NUMERIC_FORMATS = (*EPOCH_FORMATS, EXCEL_DAYS)


@dataclass(frozen=True, slots=True)
class InstantSpelling:
    """How times are written in a column of text.

    Attributes:
        format: strptime format, one of `NUMERIC_FORMATS`, or None for ISO 8601. Fractions of a second and a zone
            behind the time may be there in some texts and lack in others, whatever the format says of them.
        timezone: Zone of times that carry none, or None.
        zones: What the words behind the times mean, from `read_zones`.
    """

    format: str | None
    timezone: str | None = None
    zones: Mapping[str, Zone | None] = field(default_factory=dict)

    def wall(self, text: str) -> str:
        """Return the SQL of what the clock showed, as TIMESTAMP, whatever its zone; NULL where a text is not a time."""
        if self.format in EPOCH_MICROSECONDS:
            return _from_epoch(text, EPOCH_MICROSECONDS[self.format], FIRST_SECOND.get(self.format, 0))
        if self.format == EXCEL_DAYS:
            return _from_excel(text)
        pattern = self._pattern
        return self._cases(text, pattern.parse(text), None, pattern.wall(clean_text(text)))

    def instant(self, text: str) -> str:
        """Return the SQL of the time in UTC; NULL where a text is not a time, or its zone is not known.

        An hour that a clock shows twice is taken as the second one; `clocks` tells them apart.
        """
        if self.format in NUMERIC_FORMATS:
            return in_utc_sql(self.wall(text), "UTC" if self.format in EPOCH_FORMATS else self.timezone)
        cleaned = clean_text(text)
        wall = self._pattern.wall(cleaned)
        by_word = {"": self.timezone} | {word: zone for word, zone in self.zones.items() if word}
        cases = [
            f"WHEN {quote_literal(word)} THEN {in_utc_sql(wall, zone)}"
            for word, zone in by_word.items()
            if zone is not None
        ]
        general = f"CASE {self._pattern.zone_word(cleaned)} {' '.join(cases)} END" if cases else "NULL::TIMESTAMP"
        with_offset = f"TRY_CAST({text} AS TIMESTAMPTZ) AT TIME ZONE 'UTC'" if self.format is None else None
        return self._cases(text, in_utc_sql(self._pattern.parse(text), self.timezone), with_offset, general)

    def zone(self, text: str) -> str:
        """Return the SQL of the zone whose clock showed the time; NULL where the text says how far from UTC it is."""
        own = quote_literal(self.timezone) if self.timezone else "NULL::VARCHAR"
        if self.format in NUMERIC_FORMATS:
            return own if self.format == EXCEL_DAYS else "NULL::VARCHAR"
        named = {word: zone for word, zone in self.zones.items() if word and isinstance(zone, str)}
        cases = [f"WHEN {quote_literal(word)} THEN {quote_literal(zone)}" for word, zone in named.items()]
        general = f"CASE {self._pattern.zone_word(clean_text(text))} WHEN '' THEN {own} {' '.join(cases)} END"
        return self._cases(text, own, "NULL::VARCHAR" if self.format is None else None, general)

    def zone_word(self, text: str) -> str:
        """Return the SQL of what follows the time, empty for nothing; NULL where a text is not a time."""
        if self.format in NUMERIC_FORMATS:
            return f"CASE WHEN {self.wall(text)} IS NOT NULL THEN '' END"
        return self._pattern.zone_word(clean_text(text))

    def is_naive(self, text: str) -> str:
        """Return the SQL that tells whether a text is a time without a word on its zone."""
        if self.format in EPOCH_FORMATS:
            return "false"
        return f"coalesce({self.zone_word(text)} = '' AND {self.wall(text)} IS NOT NULL, false)"

    def is_usual(self, text: str) -> str:
        """Return the SQL that tells whether a text is written so that no word behind it has to be looked up."""
        if self.format in NUMERIC_FORMATS:
            return "true"
        shape = self._pattern.exact + (f"(?:{ISO_OFFSET})?" if self.format is None else "")
        return f"coalesce(regexp_full_match({text}, {quote_literal(shape)}), true)"

    @property
    def _pattern(self) -> Pattern:
        return parse_format(self.format)

    def _cases(self, text: str, exact: str, with_offset: str | None, general: str) -> str:
        """Return the SQL of a value that is quick to get for texts of the usual shapes, which most are."""
        shape = self._pattern.exact
        cases = f"WHEN regexp_full_match({text}, {quote_literal(shape)}) THEN {exact} "
        if with_offset is not None:
            cases += f"WHEN regexp_full_match({text}, {quote_literal(shape + ISO_OFFSET)}) THEN {with_offset} "
        return f"CASE {cases}ELSE {general} END"


def read_zones(
    connection: duckdb.DuckDBPyConnection, rows: str, text: str, spelling: InstantSpelling
) -> dict[str, Zone | None]:
    """Return what the words behind the times in a column mean; None for those that mean nothing, or several things.

    Arguments:
        connection: Where the rows are.
        rows: Table, or query in parentheses.
        text: SQL of the text of a row.
        spelling: How times are written.
    """
    if spelling.format in NUMERIC_FORMATS:
        return {}
    words = connection.execute(
        f"SELECT DISTINCT {spelling.zone_word(text)} AS word FROM {rows} WHERE NOT {spelling.is_usual(text)} "
        "ORDER BY word"
    ).fetchall()
    return {word: resolve_zone(word, spelling.timezone) for (word,) in words if word is not None}


def in_utc_sql(wall: str, zone: Zone | None) -> str:
    """Return the SQL of a time of a clock in UTC; NULL where nobody knows its zone."""
    if zone is None:
        return "NULL::TIMESTAMP"
    if zone in (0, "UTC"):
        return f"({wall})"
    if isinstance(zone, int):
        return f"(({wall}) - to_seconds({zone}))"
    return f"((({wall}) AT TIME ZONE {quote_literal(zone)}) AT TIME ZONE 'UTC')"


def _from_epoch(text: str, microseconds: float, first: int) -> str:
    """Return the SQL of a count since `first`; whole numbers are never counted as floats, which end at 15 digits."""
    number = f"replace(trim({text}), ',', '.')"
    whole = f"TRY_CAST({number} AS BIGINT)"
    counted = f"{whole} // 1000" if microseconds < 1 else f"{whole}::HUGEINT * {microseconds:.0f}"
    parts = f"round(TRY_CAST({number} AS DOUBLE) * {microseconds!r})"
    value = (
        f"CASE WHEN contains({number}, '.') OR contains(lower({number}), 'e') "
        f"THEN TRY_CAST({parts} AS BIGINT) ELSE TRY_CAST({counted} AS BIGINT) END"
    )
    time = f"try(make_timestamp({value}{f' + {first * 1_000_000}' if first else ''}))"
    return f"CASE WHEN regexp_full_match(trim({text}), {quote_literal(UNIX_NUMBER)}) THEN {time} END"


def _from_excel(text: str) -> str:
    """Return the SQL of a day of a spreadsheet, to the millisecond that its digits reach."""
    number = f"TRY_CAST(replace(trim({text}), ',', '.') AS DOUBLE)"
    day = f"TIMESTAMP '1899-12-30' + to_milliseconds(round({number} * 86400000)::BIGINT)"
    return (
        f"CASE WHEN regexp_full_match(trim({text}), {quote_literal(UNIX_NUMBER)}) "
        f"AND {number} BETWEEN {FIRST_EXCEL_DAY} AND {LAST_EXCEL_DAY} THEN {day} END"
    )
