"""Lines of JSON or CSV as readings, by what the source of the plant says of them.

A line is read as the nightly job reads a row, or refused with a reason. How a text becomes a time or a number belongs
to `texts`.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwflow_core.edge.texts import NumberReader, RefusedError, TimeReader
from pwflow_core.errors import SourceError
from pwflow_core.marks import FILE_NAME_COLUMN, NO_SEGMENT, NO_SEGMENT_VALUE, ONLY_MACHINE, SEGMENT_JOINT

__all__ = ["LineReader", "Readings"]

_LONGEST_LINE = 1_000_000
_DELIMITERS = ",;\t|"
_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, eq=False)
class Readings:
    """Readings as `EdgeScorer.score` takes them."""

    machine: list[str]
    at: NDArray[np.int64]
    values: NDArray[np.float64]
    segment: list[str]
    not_numbers: NDArray[np.bool_]


class LineReader:
    """Reads lines with the columns of the source; a line that cannot be read is counted with a reason.

    Arguments:
        source: The part `source` of the rules of a bundle.
        is_csv: Whether lines are CSV, the first one with the names of the columns; else each is a JSON object.

    Attributes:
        refused: Lines that are not readings, by reason.
        examples: What was refused first, by reason.

    Raises:
        SourceError: Rows of the source are readings by more than what a line holds.

    """

    def __init__(self, source: Mapping[str, Any], *, is_csv: bool = False) -> None:
        _check(source)
        self.refused: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self._source, self._is_csv = source, is_csv
        self._header: list[str] | None = None
        self._delimiter: str | None = source["delimiter"]
        self._time_columns = [source["timestamp"]] if isinstance(source["timestamp"], str) else source["timestamp"]
        self._times = TimeReader(source["timestamp_format"], source["timezone"], source["times"])
        words = source.get("missing_words", ())
        self._numbers = [
            NumberReader(source["decimal"], source.get("thousands"), sensor.get("unit", ""), words)
            for sensor in source["sensors"]
        ]

    def with_source(self, source: Mapping[str, Any]) -> LineReader:
        """Return a reader of the lines behind those that were read, by the source of a newer bundle.

        Raises:
            SourceError: The header lacks a column of that source, or see `LineReader`.

        """
        reader = LineReader(source, is_csv=self._is_csv)
        if self._header is not None:
            reader._delimiter = self._delimiter
            reader._take_header(self._header)
        reader.examples = self.examples
        return reader

    def read(self, lines: Sequence[str]) -> Readings:
        """Return the readings of some lines.

        Raises:
            SourceError: The first line of CSV lacks a column.

        """
        machine, at, values, segment, wrong = [], [], [], [], []
        for line in lines:
            row = self._parse(line.removeprefix(_BYTE_ORDER_MARK).strip("\r\n"))
            if row is None:
                continue
            texts = [_text(row.get(column)) for column in self._time_columns]
            try:
                moment = self._times.read(texts)
            except RefusedError as error:
                self._refuse(str(error), " ".join(texts))
                continue
            numbers = [
                reader.read(row.get(sensor["column"]))
                for sensor, reader in zip(self._source["sensors"], self._numbers, strict=True)
            ]
            machine.append(_text(row.get(self._source["machine"])) if self._source["machine"] else ONLY_MACHINE)
            at.append(moment)
            values.append([np.nan if number is None else number for number in numbers])
            wrong.append([number is None for number in numbers])
            parts = [_text(row.get(column)) or NO_SEGMENT_VALUE for column in self._source["segments"]]
            segment.append(SEGMENT_JOINT.join(parts) if parts else NO_SEGMENT)
        shape = len(machine), len(self._source["sensors"])
        return Readings(
            machine,
            np.array(at, dtype=np.int64),
            np.array(values, dtype=np.float64).reshape(shape),
            segment,
            np.array(wrong, dtype=np.bool_).reshape(shape),
        )

    def _parse(self, line: str) -> Mapping[str, Any] | None:
        """Return a line as columns; None where it is empty, a header or cannot be read."""
        if not line.strip(" "):
            return None
        if len(line) <= _LONGEST_LINE and _is_text(line):
            if self._is_csv:
                if self._header is None:
                    self._take_header(self._split(line, self._delimiter or self._find_delimiter(line)))
                    return None
                cells = self._split(line, self._delimiter)
                if cells == self._header:  # of a file behind the first one
                    return None
                if len(cells) == len(self._header):
                    return dict(zip(reversed(self._header), reversed(cells), strict=True))  # of two alike, the first
            else:
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    row = None
                if isinstance(row, dict):
                    return row
        self._refuse("malformed_line", line)
        return None

    def _refuse(self, reason: str, text: str) -> None:
        self.refused[reason] += 1
        self.examples.setdefault(reason, text[:60])

    def _split(self, line: str, delimiter: str | None) -> list[str]:
        """Return the cells of a line of CSV, none where it cannot be split."""
        try:
            return next(csv.reader([line], delimiter=delimiter or ","), [])
        except csv.Error:
            return []

    def _find_delimiter(self, line: str) -> str:
        """Return the delimiter by which the first line has the most columns of the source."""
        self._delimiter = max(_DELIMITERS, key=lambda sign: len(self._needed & {*self._split(line, sign)}))
        return self._delimiter

    def _take_header(self, header: list[str]) -> None:
        if lacking := sorted(self._needed - {*header}):
            raise SourceError(
                f"Expected a first line with the names of the columns, but {lacking[0]!r} is not in it "
                f"({len(lacking)} of {len(self._needed)} are not): {', '.join(header)[:200]!r}. Send the header of the "
                "export first, with the columns and the delimiter of pwflow.toml."
            )
        self._header = header

    @property
    def _needed(self) -> set[str]:
        source = self._source
        machine = [source["machine"]] if source["machine"] else []
        return {*self._time_columns, *machine, *source["segments"], *(sensor["column"] for sensor in source["sensors"])}


def _check(source: Mapping[str, Any]) -> None:
    """Raise where a line does not hold all that makes a reading in the night."""
    if source.get("layout", "wide") != "wide" or any(sensor.get("timestamp") for sensor in source["sensors"]):
        raise SourceError(
            "Expected a source with one row per reading, got one whose rows hold single values: put the values of "
            "a moment together before they are scored here."
        )
    uses = {
        "the name of a file (filename)": FILE_NAME_COLUMN in (source["machine"], *source["segments"]),
        "the path of a file (source.path_columns)": source.get("path_columns"),
        "columns that say whether a value is good (quality)": source.get("quality")
        or any(sensor.get("quality") for sensor in source["sensors"]),
        "a column of milliseconds (source.milliseconds)": source.get("milliseconds"),
        "a column of nanoseconds (source.nanoseconds)": source.get("nanoseconds"),
    }
    if used := next((what for what, is_used in uses.items() if is_used), None):
        raise SourceError(
            f"Expected a source whose lines are readings by themselves, got one that takes {used} too: make readings "
            "of its rows yourself, and score them with pwflow_core.edge.EdgeScorer."
        )


def _text(value: object) -> str:
    """Return a value as the night has it as a text."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value).strip(" ")


def _is_text(line: str) -> bool:
    """Whether every byte of a line could be read; the others came as halves of pairs."""
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True
