"""What the name of a column tells: its words, its unit, and the name of the sensor."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from pwflow_core.config import RESERVED_COLUMNS
from pwflow_core.onboarding.vocabulary import UNIT_SUFFIXES, UNITS

__all__ = ["guess_unit", "has_word", "name_sensors", "only_words", "words"]

_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-zß-öø-ž]+|[A-Z]+|[^\W\d_]+|\d+")


def words(name: str) -> tuple[str, ...]:
    """Return the words of a name in lower case: `isAnomaly_2` has is, anomaly and 2."""
    return tuple(word.lower() for word in _WORD.findall(name))


def has_word(name: str, known: Collection[str]) -> bool:
    """Whether one of the words of a name, or all of them written together, is among `known`."""
    found = words(name)
    return "".join(found) in known or any(word in known for word in found)


def only_words(name: str, known: Collection[str], beside: Collection[str]) -> bool:
    """Whether a name has a word of `known` and otherwise only numbers and words of `beside`."""
    return has_word(name, known) and all(word in known or word in beside or word.isdigit() for word in words(name))


def guess_unit(name: str) -> str:
    """Return the unit that a name spells out, as in `Temp [°C]` or `pressure_bar`, else nothing."""
    if bracket := re.search(r"[\[(]\s*([^\[\]()]{1,10}?)\s*[\])]\s*$", name):
        return bracket[1] if bracket[1] in UNITS else ""
    if said := re.search(r"(?: in |,\s*|\s/\s)(\S{1,10})$", name):
        return said[1] if said[1] in UNITS else ""
    last = name.rpartition(" ")[2]
    if last != name and last in UNITS and not last.isalpha():  # `°C` or `%`: no word, as the A of `Pump A` may be
        return last
    lower = name.lower()
    for suffix in sorted(UNIT_SUFFIXES, key=len, reverse=True):
        if re.search(rf"[^\W_][_ .-]+{suffix.replace('_', '[_ ./-]')}$", lower):
            return UNIT_SUFFIXES[suffix]
    return ""


def name_sensors(columns: Iterable[str]) -> dict[str, str]:
    """Return a sensor name for every column: its own, unless that is taken, reserved or blank."""
    columns = list(columns)
    taken = set(RESERVED_COLUMNS)
    own = {c: c for c in columns if c.strip() and c.casefold() not in taken}
    names: dict[str, str] = {}
    for position, column in enumerate(columns, start=1):
        wanted = own.get(column, f"{column.strip()}_sensor" if column.strip() else f"column_{position}")
        name, number = wanted, 2
        while name.casefold() in taken:
            name, number = f"{wanted}_{number}", number + 1
        taken.add(name.casefold())
        names[column] = name
    return names
