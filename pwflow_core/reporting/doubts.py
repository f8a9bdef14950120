"""What is doubtful in the data, said in the language of the reader; the facts are in `pipeline.looking.data.doubts`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from pwflow_core.pipeline.looking.data.doubts import Doubt
from pwflow_core.reporting.texts import Texts

__all__ = ["SaidDoubt", "say_doubt", "say_interval"]

_SHARES = ("share",)
_DURATIONS = ("limit", "longest", "interval")
_MOST_LETTERS = 80
_MOST_ROUNDED = 10
_MOST_WHOLE = 1e12


@dataclass(frozen=True)
class SaidDoubt:
    """A doubt in words: what was seen, and what to do about it."""

    what: str
    next_step: str


def say_doubt(doubt: Doubt, texts: Texts) -> SaidDoubt:
    """Return a doubt in words."""
    values = {name: _say(name, value, texts) for name, value in doubt.values.items()}
    values.setdefault("key", doubt.about)
    if doubt.reason is not None:
        values["reason"] = texts.label("rejected", doubt.reason)
    group = {"row_refused": "doubt_rows", "value_refused": "doubt_values"}.get(doubt.kind, "doubt_next")
    step = texts.label(group, doubt.reason if group != "doubt_next" else doubt.kind)
    return SaidDoubt(texts.label("doubt", doubt.kind).format(**values), step.format(**values))


def say_interval(seconds: float | None, texts: Texts) -> str:
    """Return the time between two readings in words, also where it is less than a second."""
    if seconds is None:
        return texts("none")
    if seconds < _MOST_ROUNDED:
        return texts("duration.seconds", n=texts.number(seconds))
    return texts.duration(seconds)


def _say(name: str, value: object, texts: Texts) -> str:
    if value is None:
        return texts("none")
    if name in _SHARES:
        return texts.percent(value)
    if name in _DURATIONS and isinstance(value, int | float):
        return say_interval(value, texts)
    if isinstance(value, date):
        return texts.moment(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float) and abs(value) < _MOST_WHOLE and value == int(value):
        return f"{value:,.0f}".replace("-", "−")
    if isinstance(value, float):
        return f"{value:.6g}".replace("-", "−")
    if isinstance(value, str):
        return value if len(value) <= _MOST_LETTERS or name in _WHOLE else f"{value[: _MOST_LETTERS - 1]}…"
    if isinstance(value, Sequence):
        return texts("list.comma").join(_say(name, item, texts) for item in value)
    return str(value)


_WHOLE = ("why", "key", "words", "missing", "name")
"""What is written into pwflow.toml, or says what to do, is never cut."""
