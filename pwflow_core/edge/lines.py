"""Lines of JSON or CSV as readings: times and numbers as text, by what the source of the plant says of them."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from pwflow_core.errors import SourceError

__all__ = ["LineReader", "Readings"]

_EPOCHS = {"unix_s": 1_000_000, "unix_ms": 1_000, "unix_us": 1, "unix_ns": 0.001}
_LATEST = 253_402_300_799_999_999  # µs, the end of the year 9999
_MISSING = frozenset(("", "nan", "null", "na", "n/a", "none", "-"))
_JOINT, _NO_VALUE, _NO_SEGMENT, _ONLY_MACHINE = " / ", "unknown", "all", "machine"
_LONGEST_LINE = 1_000_000
_BEGIN = datetime(1970, 1, 1, tzinfo=UTC)


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

    Raises:
        SourceError: The source has a layout that lines of readings do not have.

    """

    def __init__(self, source: Mapping[str, Any], *, is_csv: bool = False) -> None:
        if source.get("layout", "wide") != "wide" or any(s.get("timestamp") for s in source["sensors"]):
            raise SourceError(
                "Expected a source with one row per reading, got one whose rows hold single values: put the values of "
                "a moment together before they are scored here."
            )
        self.refused: Counter[str] = Counter()
        self._source, self._is_csv = source, is_csv
        self._header: list[str] | None = None
        time = source["timestamp"]
        self._time = [time] if isinstance(time, str) else list(time)
        self._zone = ZoneInfo(source["timezone"]) if source["timezone"] else None
        self._missing = _MISSING | {word.strip().lower() for word in source.get("missing_words", ())}

    def read(self, lines: Sequence[str]) -> Readings:
        """Return the readings of some lines."""
        machine, at, values, segment, wrong = [], [], [], [], []
        for line in lines:
            row = self._parse(line.strip())
            if row is None:
                continue
            try:
                moment = self._instant(row)
            except _RefusedError as error:
                self.refused[str(error)] += 1
                continue
            numbers = [self._number(row.get(sensor["column"])) for sensor in self._source["sensors"]]
            machine.append(_text(row.get(self._source["machine"])) if self._source["machine"] else _ONLY_MACHINE)
            at.append(moment)
            values.append([np.nan if number is None else number for number in numbers])
            wrong.append([number is None for number in numbers])
            parts = [_text(row.get(column)) or _NO_VALUE for column in self._source["segments"]]
            segment.append(_JOINT.join(parts) if parts else _NO_SEGMENT)
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
        if not line:
            return None
        if len(line) <= _LONGEST_LINE:
            if self._is_csv:
                cells = next(csv.reader([line], delimiter=self._source["delimiter"] or ","), [])
                if self._header is None:
                    self._header = cells
                    return None
                if len(cells) == len(self._header):
                    return dict(zip(self._header, cells, strict=True))
            else:
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    row = None
                if isinstance(row, dict):
                    return row
        self.refused["malformed_line"] += 1
        return None

    def _instant(self, row: Mapping[str, Any]) -> int:
        """Return the time of a row, µs since 1970."""
        texts = [_text(row.get(column)) for column in self._time]
        if not all(texts):
            raise _RefusedError("missing_timestamp")
        text, kind = " ".join(texts), self._source["timestamp_format"]
        try:
            if kind in _EPOCHS:
                return _in_range(text, _EPOCHS[kind])
            moment = datetime.fromisoformat(text) if kind is None else datetime.strptime(text, kind)  # noqa: DTZ007
            if moment.tzinfo is None:
                if self._zone is None:
                    raise _RefusedError("naive_timestamp")
                moment = moment.replace(tzinfo=self._zone)
            since = moment.astimezone(UTC) - _BEGIN
        except (ValueError, OverflowError) as error:
            raise _RefusedError("unreadable_timestamp") from error
        return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds

    def _number(self, value: object) -> float | None:
        """Return a value as a number, NaN where there is none; None where it is something else."""
        if value is None:
            return np.nan
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return None
        try:
            if not isinstance(value, str):
                return float(value)
            text = value.strip()
            if text.lower() in self._missing:
                return np.nan
            return None if "_" in text else float(text.replace(",", ".") if self._source["decimal"] == "," else text)
        except (ValueError, OverflowError):
            return None


class _RefusedError(Exception):
    """Why a row is not a reading."""


def _in_range(text: str, microseconds: float) -> int:
    """Return a Unix time in µs; whole numbers are not counted as floats, which end at 15 digits."""
    if text.lstrip("+-").isdigit():
        moment = int(text) // 1000 if microseconds < 1 else int(text) * int(microseconds)
    else:
        moment = round(float(text) * microseconds)
    if abs(moment) > _LATEST:
        raise ValueError(f"expected a time before the year 10000, got {text[:40]}")
    return moment


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()
