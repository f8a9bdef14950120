"""Texts as times and numbers, as `spelling` reads them in SQL: the same value, or none."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pwflow_core.errors import SourceError
from pwflow_core.marks import (
    EPOCH_MICROSECONDS,
    EXCEL_DAYS,
    FIRST_EXCEL_DAY,
    FIRST_SECOND,
    FIRST_TIME,
    ISO_OFFSET,
    LAST_EXCEL_DAY,
    LAST_TIME,
    MISSING_WORDS,
    MONTH_WORD,
    MONTHS,
    ODD_SIGNS,
    PLAIN_SIGNS,
    UNIX_NUMBER,
    number_shape,
    plain_half,
    thousands_marks,
)

__all__ = ["NumberReader", "RefusedError", "TimeReader"]

_PLAIN = str.maketrans(ODD_SIGNS, PLAIN_SIGNS)
_BEGIN, _BEGIN_OF_EXCEL = datetime(1970, 1, 1, tzinfo=UTC), datetime(1899, 12, 30)  # noqa: DTZ001 - of a clock
_COUNT = re.compile(UNIX_NUMBER, re.ASCII)
_OFFSET = re.compile(ISO_OFFSET, re.ASCII)
_MONTH = re.compile(MONTH_WORD)
_BETWEEN = re.compile(r"[-/.T :]+")
_LARGEST = 2**63
_MILLISECONDS_PER_DAY = 86_400_000


class RefusedError(Exception):
    """Why a row is not a reading."""


class TimeReader:
    """Reads the time of a row.

    Arguments:
        format: As `source.timestamp_format` says it.
        timezone: Zone of times that carry none; None to refuse them.
        times: Patterns of texts that are times, see `pipeline/using/bundling.py`; None where times are counts.

    Raises:
        SourceError: This machine does not know the time zone.

    """

    def __init__(self, format: str | None, timezone: str | None, times: Mapping[str, Any] | None) -> None:
        self._format = format
        try:
            self._zone = ZoneInfo(timezone) if timezone else None
        except ZoneInfoNotFoundError:
            raise SourceError(
                f"Expected the time zone {timezone!r} on this machine, but it has none of that name: install the "
                "package tzdata."
            ) from None
        if times is not None:
            self._shapes = [re.compile(shape, re.ASCII) for shape in times["shapes"]]
            self._core: str | None = times["core"] and times["core"].replace("%-", "%")
            self._has_half: bool = times["has_half"]

    def read(self, texts: Sequence[str]) -> int:
        """Return the time of a row, µs since 1970.

        Arguments:
            texts: What its timestamp columns hold.

        Raises:
            RefusedError: It cannot be read, or is not within the years 1 to 9999.

        """
        if not all(texts):
            raise RefusedError("missing_timestamp")
        text = " ".join(texts)
        try:
            moment = self._count(text) if self._format in EPOCH_MICROSECONDS else self._moment(text)
        except (ValueError, OverflowError) as error:
            raise RefusedError("unreadable_timestamp") from error
        if not FIRST_TIME <= moment <= LAST_TIME:
            raise RefusedError("unreadable_timestamp")
        return moment

    def _count(self, text: str) -> int:
        number, step = _as_count(text), EPOCH_MICROSECONDS[self._format or ""]
        if "." in number or "e" in number.lower():
            value = _rounded(float(number) * step)
        else:
            whole = int(number)
            if abs(whole) >= _LARGEST:
                raise ValueError(number)
            value = whole * int(step) if step >= 1 else abs(whole) // 1000 * (-1 if whole < 0 else 1)
        return value + FIRST_SECOND.get(self._format or "", 0) * 1_000_000

    def _moment(self, text: str) -> int:
        wall, zone = self._wall(text)
        if zone:
            if not _OFFSET.fullmatch(zone):
                raise RefusedError("unknown_time_zone")
            since = (wall - _offset(zone)).replace(tzinfo=UTC) - _BEGIN
        elif self._zone is None:
            raise RefusedError("naive_timestamp")
        else:
            first, second = (wall.replace(tzinfo=self._zone, fold=fold).utcoffset() for fold in (0, 1))
            if first is None or second is None or first < second:
                raise RefusedError("nonexistent_timestamp")
            if first > second:
                raise RefusedError("ambiguous_timestamp")
            since = (wall - first).replace(tzinfo=UTC) - _BEGIN
        return since // timedelta(microseconds=1)

    def _wall(self, text: str) -> tuple[datetime, str]:
        """Return what the clock showed, and what stands behind it."""
        if self._format == EXCEL_DAYS:
            days = float(_as_count(text))
            if not FIRST_EXCEL_DAY <= days <= LAST_EXCEL_DAY:
                raise ValueError(text)
            return _BEGIN_OF_EXCEL + timedelta(milliseconds=_rounded(days * _MILLISECONDS_PER_DAY)), ""
        cleaned = text.translate(_PLAIN).strip(" ")
        if self._has_half:
            cleaned = plain_half(cleaned)
        match = next(filter(None, (shape.fullmatch(cleaned) for shape in self._shapes)), None)
        if match is None:
            raise ValueError(text)
        main, fraction, half, zone = (group or "" for group in match.groups())
        if self._core is None:
            year, month, day, *clock = map(int, _BETWEEN.split(main))
            hour, minute, second = [*clock, 0, 0, 0][:3]
            wall = datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 - of a clock
        else:
            main += f" {half.translate({46: None, 32: None})}" if self._has_half else ""
            if "%b" in self._core and "%a" not in self._core.lower():
                main = _MONTH.sub(lambda word: MONTHS.get(word[0].lower(), word[0]), main, count=1)
            wall = datetime.strptime(main, self._core)  # noqa: DTZ007 - of a clock
        return wall + timedelta(microseconds=int(fraction[:6].ljust(6, "0"))), zone.strip(" ")


class NumberReader:
    """Reads the values of a sensor.

    Arguments:
        decimal: Decimal separator.
        thousands: Comma or point between thousands, or None.
        unit: Unit that may stand behind a number.
        missing_words: Further words that stand for a missing value.

    """

    def __init__(self, decimal: str, thousands: str | None, unit: str, missing_words: Sequence[str]) -> None:
        self._decimal = decimal
        self._shape = re.compile(number_shape(decimal, thousands), re.ASCII)
        self._marks = str.maketrans("", "", "".join(thousands_marks(thousands)))
        self._unit = unit.strip().translate(_PLAIN)
        self._missing = {"", *MISSING_WORDS, *(word.strip().lower() for word in missing_words)}

    def read(self, value: object) -> float | None:
        """Return a value as a number, NaN where there is none; None where it is something else."""
        if value is None:
            return math.nan
        if isinstance(value, int | float):  # a truth value counts as 0 or 1
            try:
                return float(value)
            except OverflowError:
                return None
        return self._parse(value) if isinstance(value, str) else None

    def _parse(self, text: str) -> float | None:
        if "_" not in text and "+-" not in text and not (self._decimal == "," and "." in text):
            plain = text.replace(",", ".") if self._decimal == "," else text
            try:
                if plain.isascii():
                    return float(plain)
            except ValueError:
                pass
        cleaned = text.translate(_PLAIN).strip(" ")
        bare = cleaned.removesuffix(self._unit).rstrip(" ")
        if self._shape.fullmatch(bare):
            return float(bare.translate(self._marks).replace(self._decimal, "."))
        return math.nan if cleaned.lower() in self._missing else None


def _as_count(text: str) -> str:
    text = text.strip(" ")
    if not _COUNT.fullmatch(text):
        raise ValueError(text)
    return text.replace(",", ".")


def _rounded(value: float) -> int:
    """Round half away from zero, as DuckDB does."""
    whole = math.floor(abs(value))
    whole += abs(value) - whole >= 0.5
    if whole >= _LARGEST:
        raise ValueError(value)
    return whole if value >= 0 else -whole


def _offset(word: str) -> timedelta:
    """Return how far a word such as `+0130` or `Z` is from UTC."""
    if word == "Z":
        return timedelta()
    hours, minutes = int(word[1:3]), int(word[3:].lstrip(":") or 0)
    return timedelta(hours=hours, minutes=minutes) * (-1 if word[0] == "-" else 1)
