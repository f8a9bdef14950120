"""What texts of an export mean, for everything that reads them: in SQL each night, and line by line at the edge.

With the standard library alone. How the SQL is made belongs to `spelling`, what a column means to `onboarding`.
"""

from __future__ import annotations

import re

__all__ = [
    "EPOCH_MICROSECONDS",
    "EXCEL_DAYS",
    "FILE_NAME_COLUMN",
    "FIRST_EXCEL_DAY",
    "FIRST_SECOND",
    "FIRST_TIME",
    "HALVES",
    "ISO_OFFSET",
    "LARGEST_PHYSICAL",
    "LAST_EXCEL_DAY",
    "LAST_TIME",
    "MISSING_WORDS",
    "MONTHS",
    "MONTH_WORD",
    "NO_SEGMENT",
    "NO_SEGMENT_VALUE",
    "ODD_SIGNS",
    "ONLY_MACHINE",
    "PLAIN_SIGNS",
    "SEGMENT_JOINT",
    "UNIX_NUMBER",
    "number_shape",
    "plain_half",
    "thousands_marks",
]

SEGMENT_JOINT = " / "
"""Between the process conditions of a segment."""
NO_SEGMENT = "all"
"""The segment of a plant without process conditions."""
NO_SEGMENT_VALUE = "unknown"
"""A process condition that is empty."""
ONLY_MACHINE = "machine"
"""The machine of a plant that has one only."""
FILE_NAME_COLUMN = "filename"
"""A "column" that stands for the name of the file."""

MISSING_WORDS = (
    "nan", "-nan", "null", "(null)", "nil", "na", "n/a", "n.a.", "<na>", "nat", "none", "-", "--", "---", "#n/a", "#na",
    "#nv", "#n/v", "\\n", "1.#qnan", "-1.#ind", "1.#ind", "-nan(ind)", "nan(ind)", "nan(snan)",
)  # fmt: skip
"""Words that stand for a missing value, in lower case; empty text is one too."""

LARGEST_PHYSICAL = 1e100
"""No sensor reads more: a larger number is a mark, such as the largest double."""

_SPACES = "\u00a0\u202f\u2007\u2009\u2008\u200a\t\ufeff"
_APOSTROPHES = "’‘ʼ´`"
_MINUSES = "−﹣－–—"
ODD_SIGNS = _SPACES + _APOSTROPHES + _MINUSES + "＋"
"""Spaces, apostrophes, minus and plus signs that stand for plain ones."""
PLAIN_SIGNS = " " * len(_SPACES) + "'" * len(_APOSTROPHES) + "-" * len(_MINUSES) + "+"
"""The plain sign for each of them."""

EPOCH_MICROSECONDS = {
    "unix_s": 1_000_000.0,
    "unix_ms": 1_000.0,
    "unix_us": 1.0,
    "unix_ns": 0.001,
    "labview_s": 1_000_000.0,
}
"""Microseconds in one of what each format counts."""
FIRST_SECOND = {"labview_s": -2_082_844_800}
"""Where a count begins, in seconds since 1970, where it is not then."""
EXCEL_DAYS = "excel_days"
"""Days since 1899-12-30 as spreadsheets count them, by the clock on the wall."""
FIRST_EXCEL_DAY, LAST_EXCEL_DAY = 61, 2_958_465
"""Before day 61 spreadsheets count a day that never was."""
FIRST_TIME, LAST_TIME = -62_135_596_800_000_000, 253_402_300_799_000_000
"""The years 1 to 9999, in microseconds since 1970: no reading is of another time."""
UNIX_NUMBER = r"[+-]?\d+(?:[.,]\d*)?|\d[.,]\d{9,}[eE][+]?\d+|\d(?:\.\d+)?e[+]?1[6-9]"
"""Shape of a time that is a count. An exponent is read where all digits are there: of 1.77232E+12 a spreadsheet has
rounded the minutes away."""
ISO_OFFSET = r"(?:Z|[+-](?:0\d|1[0-3])(?::?[0-5]\d)?)"
"""Shape of a distance from UTC behind a time."""


_MONTHS = {
    "Jan": "jan january januar jän jänner janv janvier ene enero gen gennaio janeiro januari",
    "Feb": "feb february februar fév févr février febrero febbraio fev fevereiro februari",
    "Mar": "mar march mär märz mrz mars marzo março maart mrt",
    "Apr": "apr april avr avril abr abril aprile",
    "May": "may mai mayo mag maggio maio mei maj",
    "Jun": "jun june juni juin junio giu giugno junho",
    "Jul": "jul july juli juil juillet julio lug luglio julho",
    "Aug": "aug august août aoû aou ago agosto augustus",
    "Sep": "sep sept september septembre septiembre set settembre setembro",
    "Oct": "oct october okt oktober octobre octubre ott ottobre out outubro",
    "Nov": "nov november novembre noviembre novembro",
    "Dec": "dec december dez dezember déc décembre dic diciembre dicembre dezembro",
}
MONTHS = {word: month for month, words in _MONTHS.items() for word in words.split()}
"""English abbreviation of a month, by its names in lower case."""
MONTH_WORD = r"[A-Za-zÀ-ÿ]{3,10}"
"""Shape of the name of a month."""

_CLOCK = r"[:時时시点][0-9:.,分분秒초]*"
HALVES = (
    ("午前|上午|오전", "AM"),
    ("午後|下午|오후", "PM"),
    (rf" ?([AaPp]\.?[Mm]\.?) ?(\d{{1,2}}{_CLOCK})", r" \2 \1"),
    (rf" 00?({_CLOCK} ?[AaPp])", r" 12\1"),
)
"""What to replace in a time with a half of the day, and by what: then that half is English and stands behind, and the
first hour is 12."""


def plain_half(text: str) -> str:
    """Return a time of twelve hours with AM or PM behind it."""
    for written, plain in HALVES:
        text = re.sub(written, plain, text, count=1)
    return text


def thousands_marks(thousands: str | None) -> tuple[str, ...]:
    """Return what may stand between groups of three digits: spaces and apostrophes always may."""
    return (" ", "'", *([thousands] if thousands else []))


def number_shape(decimal: str, thousands: str | None) -> str:
    """Return the pattern of a number whose digits may be in groups of three."""
    groups = "|".join(rf"[1-9]\d{{0,2}}(?:{re.escape(mark)}\d{{3}})+" for mark in thousands_marks(thousands))
    point = re.escape(decimal)
    return rf"[+-]?(?:(?:{groups}|\d+)(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?"
