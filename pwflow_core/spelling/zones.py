"""The words behind a time that say how far it is from UTC: offsets, abbreviations and names of time zones.

A word is read as a whole or refused. What an abbreviation means is certain if it has one meaning in the world, or if
the configured time zone itself is abbreviated so.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

__all__ = ["AMBIGUOUS", "Zone", "is_abbreviation_of", "resolve_zone"]

Zone = int | str
"""Seconds east of UTC, or the name of a time zone whose clocks may change."""

_HOUR = 3600
_ABBREVIATIONS = {
    "UTC": 0, "GMT": 0, "UT": 0, "Z": 0, "WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "MEZ": 1, "MESZ": 2, "EET": 2,
    "EEST": 3, "MSK": 3, "JST": 9, "KST": 9, "HKT": 8, "SGT": 8, "AWST": 8, "ACST": 9.5, "ACDT": 10.5, "AEST": 10,
    "AEDT": 11, "NZST": 12, "NZDT": 13, "EST": -5, "EDT": -4, "MDT": -6, "PDT": -7, "AKST": -9, "AKDT": -8,
    "HST": -10, "NST": -3.5, "NDT": -2.5, "SAST": 2, "CAT": 2, "EAT": 3, "WAT": 1, "PKT": 5, "WIB": 7, "WITA": 8,
    "WIT": 9,
}  # fmt: skip
"""Hours east of UTC of abbreviations with one usual meaning."""
AMBIGUOUS = frozenset({"IST", "CST", "PST", "BST", "AST", "MST"})
"""Abbreviations with several meanings."""
_OF_AUSTRALIA_TOO = ("EST", "EDT")

_OFFSET = re.compile(r"(?:UTC|GMT|UT)?\s*(?P<sign>[+-])(?P<hours>\d{1,2})(?::?(?P<minutes>[0-5]\d)(?::00)?)?", re.I)
_REMARK = re.compile(r"\s*(?:\[(?P<region>[^\[\]]+)\]|\((?P<note>[^()]+)\)|(?P<short>[A-Z]{1,5}))", re.I)
_MINUSES = str.maketrans("−﹣－–", "----")
_FARTHEST = 14 * _HOUR
_YEARS = range(1990, 2036)


def resolve_zone(word: str, timezone: str | None) -> Zone | None:
    """Return what the word behind a time means, or None if that is not certain.

    Arguments:
        word: All that stands behind the time of day; empty if there is nothing.
        timezone: Zone of times that carry none, or None.
    """
    word = word.strip().translate(_MINUSES)
    if not word:
        return timezone
    if word[0] + word[-1] in ("()", "[]"):
        word = word[1:-1].strip()
    if match := _OFFSET.match(word):
        return _checked(_seconds(match), word[match.end() :], timezone)
    return _named(word, timezone)


def is_abbreviation_of(word: str, timezone: str) -> bool:
    """Whether the clocks of a time zone are abbreviated so, in winter or in summer."""
    return word.upper() in _abbreviated(timezone)


def _seconds(match: re.Match[str]) -> int | None:
    hours, minutes = match["hours"], match["minutes"]
    seconds = int(hours) * _HOUR + int(minutes or 0) * 60
    if seconds > _FARTHEST:
        return None
    return -seconds if match["sign"] == "-" else seconds


def _checked(seconds: int | None, rest: str, timezone: str | None) -> int | None:
    """Return an offset, if what follows it is only a remark, such as `+0100 CET` and `+01:00[Europe/Berlin]`."""
    if seconds is None or not rest:
        return seconds
    remark = _REMARK.fullmatch(rest)
    if remark is None:
        return None
    if remark["short"]:
        return seconds if _named(remark["short"], timezone) == seconds else None
    if remark["region"] and _region(remark["region"]) is None:
        return None
    return seconds


def _named(word: str, timezone: str | None) -> Zone | None:
    upper = word.upper()
    if timezone and (own := _abbreviated(timezone).get(upper)):
        return next(iter(own)) if len(own) == 1 else timezone
    if upper in _ABBREVIATIONS and not (timezone and timezone.startswith("Australia/") and upper in _OF_AUSTRALIA_TOO):
        return int(_ABBREVIATIONS[upper] * _HOUR)
    return _region(word)


def _region(name: str) -> str | None:
    if "/" not in name:  # names such as `Japan`, `EST5EDT` and `CST6CDT` are not words that an export writes
        return None
    return _regions().get(name.casefold())


@lru_cache(maxsize=1)
def _regions() -> dict[str, str]:
    return {name.casefold(): name for name in available_timezones()}


@lru_cache(maxsize=64)
def _abbreviated(timezone: str) -> dict[str, frozenset[int]]:
    """Return the abbreviations of a time zone, each with the offsets that it stood for."""
    zone, found = ZoneInfo(timezone), dict[str, set[int]]()
    for year in _YEARS:
        for month in range(1, 13):
            local = datetime(year, month, 15, tzinfo=UTC).astimezone(zone)
            offset = local.utcoffset() or timedelta()
            found.setdefault((local.tzname() or "").upper(), set()).add(int(offset.total_seconds()))
    return {name: frozenset(offsets) for name, offsets in found.items() if name.isalpha()}
