"""Where the rows of a CSV file begin: lines above the header, a row of units below it, a delimiter too many.

The ingest finds the header of each file by the columns that it needs, so that the lines above it may differ in number
from file to file.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

__all__ = ["EMPTY_COLUMN", "CsvLayout", "find_layout", "has_values", "is_named", "layout_without_header"]

EMPTY_COLUMN = "_empty_"
"""Beginning of the name of a column that is nothing but a delimiter at the end of every row."""
_LINES = 200
_HEAD_BYTES = 1 << 18
_VALUE = re.compile(r"[+-]?(\d|\.\d)")
_MOST_UNIT_ROWS = 3


@dataclass(frozen=True, slots=True)
class CsvLayout:
    """How the lines of a CSV file become rows.

    Attributes:
        skip_lines: Lines before the first row, with the header and a row of units.
        names: Names of the columns, one for each field of a row.
    """

    skip_lines: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Record:
    first_line: int
    after: int
    fields: tuple[str, ...]


def find_layout(head: bytes, delimiter: str, is_header: Collection[str] | int) -> CsvLayout | None:
    """Return the layout of a file whose first line is not an ordinary header; None if it is one.

    Arguments:
        head: The first bytes of the file, UTF-8.
        delimiter: Between the fields.
        is_header: The columns that the header has to name, or the line that it is in.
    """
    records = _read_records(head, delimiter)
    if isinstance(is_header, int):
        place = next((i for i, record in enumerate(records) if record.first_line >= is_header), None)
    else:
        wanted = set(is_header)
        place = next((i for i, record in enumerate(records) if wanted <= set(_unique(_clean(record.fields)))), None)
    if place is None:
        return None
    header, following = records[place], records[place + 1 :]
    n_units = 0
    while n_units < min(_MOST_UNIT_ROWS, len(following) - 1) and not has_values(following[n_units].fields):
        n_units += 1
    rows = following[n_units:]
    n_extra = _extra_fields(header, rows)
    if header.first_line == 0 and not n_units and not n_extra:
        return None
    names = _unique(_clean(header.fields)) if n_extra >= 0 else _unique(_clean(header.fields)[:n_extra])
    names += tuple(f"{EMPTY_COLUMN}{i}" for i in range(n_extra))
    return CsvLayout(following[n_units - 1].after if n_units else header.after, names)


def layout_without_header(head: bytes, delimiter: str) -> CsvLayout:
    """Return the layout of a file whose first line is a row: its columns are called column_1, column_2 and so on."""
    records = _read_records(head, delimiter)
    counts = [len(record.fields) for record in records]
    n = max(set(counts), key=counts.count) if counts else 0
    rows = [record.fields for record in records if len(record.fields) == n]
    n_filled = n
    while n_filled and not any(row[n_filled - 1].strip() for row in rows):
        n_filled -= 1
    return CsvLayout(0, tuple(f"column_{i + 1}" if i < n_filled else f"{EMPTY_COLUMN}{i - n_filled}" for i in range(n)))


def has_values(fields: Sequence[str]) -> bool:
    """Whether a row has a number or a time in it; a row of units or of types has none."""
    return any(_VALUE.match(field.strip()) for field in fields)


def is_named(fields: Sequence[str]) -> bool:
    """Whether a record could be a header: most of its fields are there, and few begin like a value."""
    filled = [field for field in fields if field.strip()]
    return bool(filled) and 2 * sum(bool(_VALUE.match(field.strip())) for field in filled) < len(filled)


def _extra_fields(header: _Record, rows: Sequence[_Record]) -> int:
    """Return how many fields a row has more than the header, if these are all empty, as behind a last delimiter."""
    if not rows:
        return 0
    counts = [len(row.fields) - len(header.fields) for row in rows]
    usual = max(set(counts), key=counts.count)
    if usual > 0 and all(
        not any(row.fields[len(header.fields) :]) for row in rows if len(row.fields) > len(header.fields)
    ):
        return usual
    if usual == -1 and not header.fields[-1].strip():
        return usual
    return 0


def _read_records(head: bytes, delimiter: str) -> list[_Record]:
    lines = head[:_HEAD_BYTES].splitlines(keepends=True)[:_LINES]
    text = b"".join(lines).decode("utf-8", errors="replace").removeprefix("\ufeff")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    records, line = [], 0
    try:
        for fields in reader:
            if fields:
                records.append(_Record(line, reader.line_num, tuple(fields)))
            line = reader.line_num
    except csv.Error:
        pass
    return records


def _clean(fields: Sequence[str]) -> tuple[str, ...]:
    return tuple(field.strip() for field in fields)


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names as DuckDB makes them of a header: an empty one is its position, one that repeats is numbered."""
    seen: dict[str, int] = {}
    found = []
    for position, name in enumerate(names):
        wanted = name or f"column{position}"
        number = seen.get(wanted.lower(), 0)
        seen[wanted.lower()] = number + 1
        found.append(f"{wanted}_{number}" if number else wanted)
    return tuple(found)
