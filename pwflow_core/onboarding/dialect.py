"""How a CSV file is laid out: its delimiter, where its header is, and whether it has one.

Only the first lines count: a single line with too few fields, far below, must not change how the rest is read.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from statistics import mode

from pwflow_core.errors import SourceError
from pwflow_core.marks import MISSING_WORDS
from pwflow_core.onboarding.content import Content
from pwflow_core.onboarding.layout import is_named

__all__ = ["find_dialect", "find_header", "has_header"]

_DELIMITERS = (";", "\t", "|", ",")
_SNIFFED_LINES = 100
_DATA = re.compile(r"[+-]?\d[\d.,:/ T+-]*(_\d+)?")
_CLOCK = re.compile(r"\d{1,2}:\d{2}")
_NUMBER = re.compile(r"[+-]?[\d.,' \u00a0\u202f]*\d([eE][+-]?\d+)?")
_DATE = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}(?!\d)")


def find_dialect(content: Content) -> tuple[str, int]:
    """Return the delimiter and the lines before the header: the layout that most lines share."""
    scores = []
    for rank, delimiter in enumerate(_DELIMITERS):
        counts = [n for _, n in _field_counts(content, delimiter)]
        usual = mode(counts) if counts else 1
        if usual > 1:
            first = 1 < counts[0] <= usual
            scores.append((round(counts.count(usual) / len(counts), 2), first, -rank, delimiter))
    delimiter = max(scores)[-1] if scores else ","
    return delimiter, find_header(content, delimiter)


def find_header(content: Content, delimiter: str) -> int:
    """Return the number of lines before the header.

    Rows may end with a delimiter that the header lacks, and lines that begin with # are remarks.
    """
    records = _records(content, delimiter)
    usual = mode([len(fields) for _, fields in records]) if records else 1
    if usual <= 1:
        return 0
    for place, (line, fields) in enumerate(records):
        following = [others for _, others in records[place + 1 :] if len(others) == usual]
        is_short = len(fields) < usual and following and not any(any(others[len(fields) :]) for others in following)
        if len(fields) != usual and not (is_short and is_named(fields)):
            continue
        if fields[0].startswith("#") and (named := _named_below(records[place + 1 :], usual)) is not None:
            return named
        return line
    return 0


def _named_below(records: list[tuple[int, list[str]]], usual: int) -> int | None:
    """Return the line of the first record that is not a remark, if it could be a header."""
    for line, fields in records:
        if not fields[0].startswith("#") and len(fields) == usual:
            return line if is_named(fields) else None
    return None


def _field_counts(content: Content, delimiter: str) -> list[tuple[int, int]]:
    """Return (line where the record starts, number of fields) of the first records."""
    return [(line, len(fields)) for line, fields in _records(content, delimiter)]


def _records(content: Content, delimiter: str) -> list[tuple[int, list[str]]]:
    """Return (line where the record starts, its fields) of the first records."""
    reader = csv.reader(io.StringIO(content.text(_SNIFFED_LINES), newline=""), delimiter=delimiter)
    records, line = [], 0
    try:
        for record in reader:
            if record:
                records.append((line, record))
            line = reader.line_num
    except csv.Error:
        pass
    return records


def has_header(path: Path, names: list[str], content: Content, delimiter: str) -> bool:
    """Whether the first line has the names of the columns; if not, it is a row like all others.

    Columns that are merely numbered (0, 1, 2) are names.

    Raises:
        SourceError: There are values in the place of names, but not every column holds times, numbers or text from the
            first row on, so that nobody can tell which of them is the time.
    """
    data = [name for name in names if _DATA.fullmatch(name)]
    counted = {name for name in data if name.isdigit()} >= {str(i) for i in range(1, len(data))}
    if not ((2 * len(data) > len(names) and not counted) or any(_DATE.match(name) for name in names)):
        return True
    rows = [fields for _, fields in _records(content, delimiter)]
    if len(rows) > 1 and len(set(map(len, rows))) == 1:
        columns = [{kind for kind in map(_kind, column) if kind} for column in zip(*rows, strict=True)]
        if all(len(kinds) <= 1 for kinds in columns) and columns.count({"date"}) == 1 and {"number"} in columns:
            return False
    raise SourceError(
        f"Expected a first line with column names in {path}, got values ({', '.join(names[:4])}): add a "
        "header line to the export."
    )


def _kind(field: str) -> str:
    """Return what a field looks like; nothing for one that is missing."""
    field = field.strip()
    if field.lower() in MISSING_WORDS:
        return ""
    if _DATE.match(field):
        return "date"
    if _CLOCK.match(field):
        return "clock"
    return "number" if _NUMBER.fullmatch(field) else "text" if field else ""
