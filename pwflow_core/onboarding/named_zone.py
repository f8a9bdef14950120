"""The time zone that the name of a time column tells, as in `Time (UTC+9)`, `Zeit [MEZ/MESZ]` and `time_utc`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pwflow_core.errors import SourceError
from pwflow_core.onboarding.names import words
from pwflow_core.spelling.zones import AMBIGUOUS, Zone, is_abbreviation_of, resolve_zone

__all__ = ["find_named_zone"]

_BRACKETS = re.compile(r"[(\[（［]([^()\[\]（）［］]+)[)\]）］]")
_BEHIND = re.compile(r"(?:^|[\s,;_-])((?:UTC|GMT)\s*[+−-]\s*\d{1,2}(?::?\d{2})?)\s*$", re.I)
_BETWEEN = re.compile(r"[/,;|]")
_LAST_WORDS = frozenset({"utc", "gmt", "jst", "kst", "cet", "cest", "mez", "mesz"})
_HALF_HOURS = {
    16_200: "Asia/Kabul", 19_800: "Asia/Kolkata", 20_700: "Asia/Kathmandu", 23_400: "Asia/Yangon",
    31_500: "Australia/Eucla", 34_200: "Australia/Darwin",
}  # fmt: skip
"""Zones whose clocks are not changed, by seconds east of UTC."""
_SEASONS = {
    frozenset(pair.split()): region
    for pair, region in {
        "CET CEST": "Europe/Berlin", "WET WEST": "Europe/Lisbon", "EET EEST": "Europe/Helsinki",
        "GMT BST": "Europe/London", "EST EDT": "America/New_York", "CST CDT": "America/Chicago",
        "MST MDT": "America/Denver", "PST PDT": "America/Los_Angeles", "AKST AKDT": "America/Anchorage",
        "AEST AEDT": "Australia/Sydney", "ACST ACDT": "Australia/Adelaide", "NZST NZDT": "Pacific/Auckland",
    }.items()
}  # fmt: skip
"""Regions whose clocks are changed, by their abbreviations in winter and in summer."""
_GERMAN = {"MEZ": "CET", "MESZ": "CEST"}
_ABBREVIATIONS = AMBIGUOUS.union(_GERMAN, *_SEASONS)


def find_named_zone(timestamp: str | tuple[str, ...]) -> str | None:
    """Return the IANA time zone that the name of a time column tells, or None.

    An offset or one abbreviation is a zone whose clocks are never changed, such as Etc/GMT-9 for UTC+9. Winter and
    summer time together, such as MEZ/MESZ, are their region.

    Raises:
        SourceError: It tells one that has several meanings, or no name, or it tells several.
    """
    names = (timestamp,) if isinstance(timestamp, str) else timestamp
    told = {word.upper(): (word, name) for name in names for word in _told(name)}
    if (region := _SEASONS.get(frozenset(map(_in_english, told)))) is not None:
        return region
    zones = {word: _to_region(word, name) for word, name in told.values()}
    regions = {zone for zone in zones.values() if not zone.startswith(("Etc/", "UTC"))}
    if len(regions) == 1:
        [region] = regions
        if all(zone == region or is_abbreviation_of(_in_english(word), region) for word, zone in zones.items()):
            return region
    if len(set(zones.values())) > 1:
        raise SourceError(
            f"Expected one time zone in the name of column {' and '.join(map(repr, names))}, got "
            f"{' and '.join(map(repr, zones))}: name the zone of the plant with --timezone, such as Europe/Berlin."
        )
    return next(iter(zones.values()), None)


def _told(name: str) -> Iterator[str]:
    """Yield the words of a name that are meant as time zones: in brackets, an offset at the end, or the last ones."""
    for word in (inside.strip() for inside in _BRACKETS.findall(name)):
        parts = [part.strip() for part in _BETWEEN.split(word)]
        if _is_zone(word):
            yield word
        elif all(map(_is_zone, parts)):
            yield from parts
    rest = _BRACKETS.sub(" ", name)
    if behind := _BEHIND.search(rest):
        yield re.sub(r"\s", "", behind[1])
    for word in reversed(words(rest)):
        if word not in _LAST_WORDS:
            break
        yield word.upper()


def _is_zone(word: str) -> bool:
    return resolve_zone(word, None) is not None or word.upper() in _ABBREVIATIONS


def _in_english(word: str) -> str:
    return _GERMAN.get(word.upper(), word.upper())


def _to_region(word: str, name: str) -> str:
    """Return the IANA time zone of a word.

    Raises:
        SourceError: It has several meanings, or no name.
    """
    zone: Zone | None = resolve_zone(word, None)
    if isinstance(zone, str):
        return zone
    if zone is not None and zone % 3600 == 0:
        return f"Etc/GMT{-zone // 3600:+d}" if zone else "UTC"
    if zone in _HALF_HOURS:
        return _HALF_HOURS[zone]
    raise SourceError(
        f"Expected a time zone that is certain in the name of column {name!r}, got {word!r}: name the zone of the "
        "plant with --timezone, such as America/Chicago."
    )
