"""Names from data, made fit to be shown: a sensor may be called anything."""

from __future__ import annotations

import unicodedata

__all__ = ["clean_name", "fit_name", "shorten_name"]

_WIDE, _NARROW = 1.0, 0.64
"""Widths of letters, in times the font's size; a little more than most fonts have."""
_UNSHOWABLE = {"Cc", "Cs", "Cn"}
"""Control characters, lone surrogates and code points that are no characters: neither HTML nor SVG may hold them."""


def clean_name(name: object) -> str:
    """Return a name with each character that no page may hold replaced by a visible one."""
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in _UNSHOWABLE else c for c in str(name))


def shorten_name(name: object, most: int = 40) -> str:
    """Return a clean name of at most `most` characters; what is left out of a long one is its middle."""
    text = clean_name(name)
    if len(text) <= most:
        return text
    tail = (most - 1) // 3
    return f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"


def fit_name(name: object, room: float) -> str:
    """Return a clean name that is at most `room` wide, in times the font's size."""
    text = clean_name(name)
    most = len(text)
    while most > 3 and _width(shorten_name(text, most)) > room:
        most -= 1 + (most - int(room)) // 4 if most > room / _NARROW else 1
    return shorten_name(text, max(most, 3))


def _width(text: str) -> float:
    return sum(
        _WIDE if unicodedata.east_asian_width(c) in "WF" or c in "mw@%" or c.isupper() else _NARROW for c in text
    )
