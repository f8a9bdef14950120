"""Names from data, made fit to be shown: a sensor may be called anything."""

from __future__ import annotations

import unicodedata

__all__ = ["clean_name", "shorten_name"]

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
