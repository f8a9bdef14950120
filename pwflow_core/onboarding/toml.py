"""Values, keys and comments as TOML text; no name from the data can end its quotes or its line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

__all__ = ["toml_comment", "toml_key", "toml_table", "toml_value"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


def toml_value(value: object) -> str:
    """Return a string, number, boolean, time or sequence of these as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + "".join(_escape(letter) for letter in value) + '"'
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    raise TypeError(f"Expected a string, number, boolean, time or list, got {type(value).__name__}.")


def toml_key(key: str) -> str:
    """Return a key, quoted where it has to be."""
    return key if _BARE.fullmatch(key) else toml_value(key)


def toml_table(values: Mapping[str, object]) -> str:
    """Return an inline table."""
    inside = ", ".join(f"{toml_key(key)} = {toml_value(value)}" for key, value in values.items())
    return f"{{ {inside} }}" if inside else "{}"


def toml_comment(text: str) -> str:
    """Return text on one line, without characters that TOML forbids in comments."""
    return "".join(letter if letter.isprintable() else _escape(letter) for letter in text)


def _escape(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    if letter.isprintable():
        return letter
    code = ord(letter)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
