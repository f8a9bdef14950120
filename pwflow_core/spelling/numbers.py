"""Text to number, in SQL: the one reading that `pwflow init` and the runs share.

A text is read as a whole or not at all. Separators of thousands count only where they stand between groups of three
digits; spaces and apostrophes are always such separators, comma and point only where the export is known to use them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pwflow_core.marks import MISSING_WORDS, ODD_SIGNS, PLAIN_SIGNS, number_shape, thousands_marks
from pwflow_core.warehouse import quote_literal

__all__ = ["NumberSpelling", "clean_text", "finite"]


def clean_text(text: str) -> str:
    """Return the SQL of a text with plain spaces, apostrophes and signs, and none around it."""
    return f"trim(translate({text}, {quote_literal(ODD_SIGNS)}, {quote_literal(PLAIN_SIGNS)}))"


def finite(value: str) -> str:
    """Return the SQL of a number that is NULL where it is not finite."""
    return f"CASE WHEN isfinite({value}) THEN {value} END"


@dataclass(frozen=True, slots=True)
class NumberSpelling:
    """How numbers are written in a column.

    Attributes:
        decimal: Decimal separator, `.` or `,`.
        thousands: Comma or point between thousands, or None if there is neither.
        unit: Unit that may stand behind the number.
        missing_words: Further words that stand for a missing value.
    """

    decimal: str = "."
    thousands: str | None = None
    unit: str = ""
    missing_words: Sequence[str] = ()

    def value(self, text: str) -> str:
        """Return the SQL of the number that a text is, as DOUBLE; NULL where it is none.

        Infinity and not-a-number are read as such.
        """
        test = f"NOT contains({text}, '_') AND NOT contains({text}, '+-')"  # a cast reads 1_000, and +-1 as -1
        number = text
        if self.decimal == ",":
            test, number = f"{test} AND NOT contains({text}, '.')", f"replace({text}, ',', '.')"
        plain = f"CASE WHEN {test} THEN TRY_CAST({number} AS DOUBLE) END"
        # not coalesce: DuckDB would compute both sides of all rows, which takes ten times as long
        return f"CASE WHEN {plain} IS NOT NULL THEN {plain} ELSE {self._written_out(text)} END"

    def is_missing(self, text: str) -> str:
        """Return the SQL that tells whether a text stands for a missing value; NULL counts as one."""
        words = ["", *MISSING_WORDS, *(word.strip().lower() for word in self.missing_words)]
        return f"coalesce(lower({clean_text(text)}) IN ({', '.join(map(quote_literal, words))}), true)"

    def refused(self, text: str) -> str:
        """Return the SQL of a text that is not a number and does not stand for a missing value, else NULL."""
        # one CASE within the other: both sides of AND would be computed, of all rows
        unread = f"CASE WHEN NOT {self.is_missing(text)} THEN trim({text}) END"
        return f"CASE WHEN {self.value(text)} IS NULL THEN {unread} END"

    def _written_out(self, text: str) -> str:
        """Return the SQL of numbers that a cast does not know: grouped digits, other signs, a unit behind."""
        cleaned = clean_text(text)
        if self.unit:
            unit = self.unit.strip().translate(str.maketrans(ODD_SIGNS, PLAIN_SIGNS))
            end = f"{re.escape(unit).replace(chr(92) + ' ', ' ')}$"
            cleaned = f"rtrim(regexp_replace({cleaned}, {quote_literal(end)}, ''))"
        shape = number_shape(self.decimal, self.thousands)
        digits = f"translate({cleaned}, {quote_literal(''.join(thousands_marks(self.thousands)))}, '')"
        number = f"TRY_CAST(replace({digits}, {quote_literal(self.decimal)}, '.') AS DOUBLE)"
        return f"CASE WHEN regexp_full_match({cleaned}, {quote_literal(shape)}) THEN {number} END"
