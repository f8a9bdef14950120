"""Tables for a terminal: columns side by side, cut to its width; the less important ones go first."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Column", "fit_table", "shorten", "text_width"]

_GAP = "  "
_NARROWEST = 8


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: Its head.
        cells: One text per row.
        is_number: Whether cells are set to the right.
        rank: Columns with the highest rank are left out first where the width does not suffice; 0 stays.
        shrinks: Whether its cells may be cut.
    """

    title: str
    cells: Sequence[str]
    is_number: bool = False
    rank: int = 0
    shrinks: bool = False


def fit_table(columns: Sequence[Column], width: int, indent: int = 0) -> list[str]:
    """Return the lines of a table, head first, each of at most `width` characters on the screen.

    Arguments:
        columns: The columns; one without a text in any cell is left out.
        width: Of the terminal.
        indent: Spaces before each line.
    """
    kept = [column for column in columns if column.rank == 0 or any(column.cells)]
    room = width - indent
    while _least(kept) > room and (ranked := [column for column in kept if column.rank]):
        kept.remove(max(ranked, key=lambda column: column.rank))
    widths = [_natural(column) for column in kept]
    while sum(widths) + len(_GAP) * (len(kept) - 1) > room:
        able = [place for place, column in enumerate(kept) if column.shrinks and widths[place] > _NARROWEST]
        if not able:
            break
        widths[max(able, key=lambda place: widths[place])] -= 1
    n_rows = len(kept[0].cells) if kept else 0
    rows = [[column.title for column in kept], *([column.cells[i] for column in kept] for i in range(n_rows))]
    return [
        " " * indent
        + _GAP.join(
            _pad(shorten(cell, widths[place]) if kept[place].shrinks else cell, widths[place], kept[place].is_number)
            for place, cell in enumerate(row)
        ).rstrip()
        for row in rows
    ]


def text_width(text: str) -> int:
    """Return how many places a text takes on a screen; letters of East Asia take two."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def shorten(text: str, width: int) -> str:
    """Return a text in at most `width` places, on one line."""
    text = " ".join(text.split())
    if text_width(text) <= width:
        return text
    while text and text_width(text) > width - 1:
        text = text[:-1]
    return f"{text}…"


def _natural(column: Column) -> int:
    return max(map(text_width, (column.title, *column.cells)))


def _least(columns: Sequence[Column]) -> int:
    """Return the width below which columns have to go: what is cut is not cut to less than is readable."""
    widths = [min(_natural(column), 2 * _NARROWEST) if column.shrinks else _natural(column) for column in columns]
    return sum(widths) + len(_GAP) * (len(columns) - 1)


def _pad(cell: str, width: int, is_number: bool) -> str:
    space = " " * max(0, width - text_width(cell))
    return space + cell if is_number else cell + space
