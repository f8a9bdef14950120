"""The time zone that the name of a time column tells, as in `Time (UTC+9)`, `Timestamp [CET]` and `time_utc`."""

from __future__ import annotations

import re

from pwflow_core.errors import SourceError
from pwflow_core.onboarding.names import words
from pwflow_core.spelling.zones import AMBIGUOUS, resolve_zone

__all__ = ["find_named_zone"]

_BRACKETS = re.compile(r"[(\[（［]([^()\[\]（）［］]+)[)\]）］]")
_LAST_WORDS = frozenset({"utc", "gmt", "jst", "kst", "cet", "cest", "mez", "mesz"})
_HALF_HOURS = {
    16_200: "Asia/Kabul", 19_800: "Asia/Kolkata", 20_700: "Asia/Kathmandu", 23_400: "Asia/Yangon",
    31_500: "Australia/Eucla", 34_200: "Australia/Darwin",
}  # fmt: skip
"""Zones whose clocks are not changed, by seconds east of UTC."""


def find_named_zone(timestamp: str | tuple[str, ...]) -> str | None:
    """Return the IANA time zone that the name of a time column tells, or None.

    An offset or an abbreviation is a zone whose clocks are never changed, such as Etc/GMT-9 for UTC+9.

    Raises:
        SourceError: It tells one that has several meanings, or no name.
    """
    for name in (timestamp,) if isinstance(timestamp, str) else timestamp:
        told = _BRACKETS.findall(name) + [word for word in words(name)[-1:] if word in _LAST_WORDS]
        for word in told:
            zone = resolve_zone(word, None)
            if isinstance(zone, str):
                return zone
            if zone is not None and zone % 3600 == 0:
                return f"Etc/GMT{-zone // 3600:+d}" if zone else "UTC"
            if zone in _HALF_HOURS:
                return _HALF_HOURS[zone]
            if zone is not None or word.strip().upper() in AMBIGUOUS:
                raise SourceError(
                    f"Expected a time zone that is certain in the name of column {name!r}, got {word.strip()!r}: name "
                    "the zone of the plant with --timezone, such as America/Chicago."
                )
    return None
