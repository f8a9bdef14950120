"""The words of the report, one file per language, and how numbers and times are written there."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from importlib import resources
from typing import Any, get_args
from zoneinfo import ZoneInfo

from pwflow_core.config import Language
from pwflow_core.errors import ConfigurationError

__all__ = ["LANGUAGES", "Language", "Texts"]

LANGUAGES: tuple[Language, ...] = get_args(Language)

_NONE = "–"
_MOST_DECIMALS = 7
_SMALL = 0.001
"""Smaller numbers are written with an exponent where they need more decimals."""


class Texts:
    """The words of one language.

    Attributes:
        language: Its code, for the page.
        zone: The time zone in which times are written.
    """

    def __init__(self, language: str, *packages: str, timezone: str = "UTC") -> None:
        """Read the words.

        Arguments:
            language: Code of the language.
            packages: Packages with words of their own, which are read too.
            timezone: In which times are written.

        Raises:
            ConfigurationError: The language is not known.
        """
        if language not in LANGUAGES:
            raise ConfigurationError(
                f"Expected a language of the report ({', '.join(LANGUAGES)}), got {language[:80]!r}: choose one."
            )
        self.language = language
        self.zone = ZoneInfo(timezone)
        self._texts: dict[str, str] = {}
        for package in (__package__, *packages):
            text = resources.files(package).joinpath(f"texts_{language}.toml").read_text(encoding="utf-8")
            self._texts |= _flatten(tomllib.loads(text))

    @property
    def keys(self) -> frozenset[str]:
        """All keys that have a text."""
        return frozenset(self._texts)

    def __call__(self, key: str, /, **values: object) -> str:
        """Return the text of a key, placeholders filled in."""
        text = self._texts[key]
        return text.format(**values) if values else text

    def label(self, group: str, code: object) -> str:
        """Return the text for a code that comes from a table, or the code itself where it is a new one."""
        return self._texts.get(f"{group}.{code}", str(code))

    def number(self, value: object) -> str:
        """Write a number with three significant digits, whole ones in full."""
        number = _as_number(value)
        if number is None:
            return _NONE
        if number == int(number) or abs(number) >= 100:
            return f"{number:,.0f}".replace("-", "−")
        return f"{number:.3g}".replace("-", "−")

    def figure(self, value: object, width: object) -> str:
        """Write a reading as finely as the width of what was expected asks for."""
        number, scale = _as_number(value), _as_number(width)
        if number is None:
            return _NONE
        if not scale:
            return self.number(number)
        decimals = max(0, math.ceil(1 - math.log10(abs(scale))))
        if decimals > _MOST_DECIMALS and 0 < abs(number) < _SMALL:
            digits = min(max(1, decimals + math.floor(math.log10(abs(number)))), 5)
            return f"{number:.{digits}e}".replace("-", "−")
        decimals = min(decimals, _MOST_DECIMALS)
        return f"{number:,.{decimals}f}".replace("-", "−")

    def percent(self, share: object) -> str:
        """Write a share as a percentage."""
        number = _as_number(share)
        if number is None:
            return _NONE
        percent = 100 * number
        if 0 < percent < 0.01:
            return "<0.01%"
        if 99 <= percent < 100:
            return f"{min(percent, 99.99):.2f}%"
        return f"{percent:.0f}%" if percent >= 10 or percent == 0 else f"{percent:.2g}%"

    def night(self, day: object) -> str:
        """Write a calendar day."""
        found = _as_moment(day)
        return _NONE if found is None else self._date("date.full", found)

    def short_day(self, day: date) -> str:
        """Write a calendar day without its year, for an axis."""
        return self._date("date.short", day)

    def moment(self, time: object) -> str:
        """Write a time, UTC, to the minute, as the clock of the plant shows it."""
        found = _as_moment(time)
        if isinstance(found, datetime):
            found = self.local(found)
        return _NONE if found is None else f"{self._date('date.full', found)} {found:%H:%M}"

    def local(self, time: datetime) -> datetime:
        """Return what the clock of the plant shows at a time, UTC."""
        return time.replace(tzinfo=UTC).astimezone(self.zone).replace(tzinfo=None)

    def duration(self, seconds: float) -> str:
        """Write how long something lasted, in its largest sensible unit."""
        for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
            if seconds >= 2 * length:
                return self(f"duration.{unit}", n=self.number(round(seconds / length)))
        return self("duration.seconds", n=self.number(round(seconds)))

    def _date(self, key: str, day: date) -> str:
        month = self._texts["date.months"].split()[day.month - 1]
        return self(key, year=day.year, month=month, day=day.day)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, str(value)


def _as_number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _as_moment(value: object) -> datetime | date | None:
    """Return a date or time; None for what pandas makes of NULL."""
    return value if isinstance(value, date) and value == value else None
