"""Formats of times as patterns: what a whole text must look like before it is parsed.

A fraction of a second is peeled off and added again, and what follows the time is handed out as the zone: both
may be there in some texts of a column and lack in others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from pwflow_core.marks import HALVES, MONTH_WORD, MONTHS
from pwflow_core.warehouse import quote_literal

__all__ = ["Pattern", "parse_format"]

_TWELVE = "(?:0?[1-9]|1[0-2])"
_DIRECTIVES = {
    "Y": r"\d{4}", "m": r"\d{1,2}", "d": r"\d{1,2}", "y": r"\d{2}", "H": r"\d{1,2}", "I": _TWELVE, "M": r"\d{1,2}",
    "S": r"\d{1,2}", "b": "[A-Za-z]{3}", "B": "[A-Za-z]{3,9}", "a": "[A-Za-z]{3}", "A": "[A-Za-z]{6,9}",
    "j": r"\d{1,3}", "p": "[AaPp][Mm]", "%": "%", "-d": r"\d{1,2}", "-m": r"\d{1,2}", "-H": r"\d{1,2}",
    "-I": _TWELVE, "-M": r"\d{1,2}", "-S": r"\d{1,2}", "-j": r"\d{1,3}",
}  # fmt: skip
_PACKED = {name: r"\d{2}" for name in ("m", "d", "H", "I", "M", "S")} | {"j": r"\d{3}"}
"""Without a separator beside them, digits have to be counted."""
_ENGLISH = {
    "b": "(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)",
    "B": "(?i:january|february|march|april|may|june|july|august|september|october|november|december)",
}
"""Names of months that DuckDB knows; others are translated."""
_ABBREVIATED = ", ".join(f"{quote_literal(word)}: {quote_literal(month)}" for word, month in MONTHS.items())
_TOKEN = re.compile(r"%(-?[A-Za-z%])|(\s+)|([^%\s])", re.DOTALL)
_ZONE_END = re.compile(r"\s*%[zZ]\s*$")
_HALF_END = re.compile(r"\s*%p\s*$")
_FRACTION_END = re.compile(r"(?<=%S)([.,:]?)%[fgn]$")
_HALF = r"\s*([AaPp]\.?\s?[Mm]\.?)"
_ZONE = r"((?:\s*[A-Za-z\[(+-].*)?)"
_NOTHING = "()"
_MIDNIGHT = r"(^|[^0-9:.])24:00(:00)?($|[^0-9:])"
_ISO_DATE, _ISO_CLOCK = r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}", r"[T ]\s*\d{1,2}:\d{2}"
_PLAIN_DATE, _PLAIN_CLOCK = r"\d{4}-\d{2}-\d{2}", r"[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,12})?)?"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A format, taken apart.

    Attributes:
        exact: Pattern of texts that `parse` reads as they stand, without a zone.
        shapes: Patterns of all texts; each has the groups date and time, fraction, half of the day, and zone.
        core: strptime format of date, time and half of the day; None for ISO 8601.
        has_half: Whether the format has AM and PM.
        translated: The format of a text whose month is abbreviated in English; None without names of months.
    """

    exact: str
    shapes: tuple[str, ...]
    core: str | None
    has_half: bool = False
    translated: str | None = None

    def parse(self, text: str) -> str:
        """Return the SQL of a text that `exact` accepts, as TIMESTAMP."""
        return f"TRY_CAST({text} AS TIMESTAMP)" if self.core is None else self._strptime(text, self.core)

    def zone_word(self, text: str) -> str:
        """Return the SQL of what follows the time, empty for nothing; NULL where the text is not a time."""
        return self._by_shape(text, lambda plain, shape: f"trim({_group(plain, shape, 4)})")

    def wall(self, text: str) -> str:
        """Return the SQL of the date and time of a text, as TIMESTAMP; NULL where it is not a time."""

        def value(plain: str, shape: str) -> str:
            main, fraction, half = (_group(plain, shape, i) for i in (1, 2, 3))
            core = self.translated or self.core
            if self.translated:
                word = f"regexp_extract({main}, {quote_literal(MONTH_WORD)})"
                english = f"coalesce(MAP {{{_ABBREVIATED}}}[lower({word})], {word})"
                main = f"replace({main}, {word}, {english})"
            if core is None:
                time = f"TRY_CAST(translate({main}, '/.T', '-- ') AS TIMESTAMP)"
            elif self.has_half:
                time = self._strptime(f"{main} || ' ' || translate({half}, '. ', '')", core)
            else:
                time = self._strptime(main, core)
            micros = f"coalesce(TRY_CAST(rpad(left({fraction}, 6), 6, '0') AS BIGINT), 0)"
            return f"{time} + to_microseconds({micros})"

        return self._by_shape(text, value)

    def _by_shape(self, text: str, value: Callable[[str, str], str]) -> str:
        for written, plain in HALVES if self.has_half else ():
            text = f"regexp_replace({text}, {quote_literal(written)}, {quote_literal(plain)})"
        cases = [
            f"WHEN regexp_full_match({text}, {quote_literal(shape)}) THEN {value(text, shape)}" for shape in self.shapes
        ]
        return f"CASE {' '.join(cases)} END"

    def _strptime(self, text: str, format: str) -> str:
        """Return the SQL of a text in a format; 24:00 is the end of its day."""
        core = quote_literal(format)
        time = f"TRY_CAST(try_strptime({text}, {core}) AS TIMESTAMP)"
        if "%H:%M" not in format:
            return time
        earlier = f"regexp_replace({text}, {quote_literal(_MIDNIGHT)}, '\\100:00\\2\\3')"
        midnight = f"TRY_CAST(try_strptime({earlier}, {core}) AS TIMESTAMP) + INTERVAL 1 DAY"
        late = f"CASE WHEN {time} IS NULL AND regexp_matches({text}, {quote_literal(_MIDNIGHT)}) THEN {midnight} END"
        return f"CASE WHEN contains({text}, '24:00') THEN coalesce({time}, {late}) ELSE {time} END"


def _group(text: str, shape: str, number: int) -> str:
    return f"regexp_extract({text}, {quote_literal(shape)}, {number})"


@lru_cache(maxsize=256)
def parse_format(format: str | None) -> Pattern:
    """Take a strptime format apart; None is ISO 8601.

    Raises:
        ValueError: It has a directive that times are not read by, or lacks a day.
    """
    if format is None:
        clock = rf"({_ISO_DATE}{_ISO_CLOCK}:\d{{2}})(?:[.,:](\d{{1,12}}))?{_NOTHING}{_ZONE}"
        short = rf"({_ISO_DATE}{_ISO_CLOCK}){_NOTHING}{_NOTHING}{_ZONE}"
        date = rf"({_ISO_DATE}){_NOTHING}{_NOTHING}{_NOTHING}"
        return Pattern(_PLAIN_DATE + _PLAIN_CLOCK, (clock, short, date), None)
    rest = _ZONE_END.sub("", format)
    has_half = bool(_HALF_END.search(rest))
    rest = _HALF_END.sub("", rest)
    sign = match[1] if (match := _FRACTION_END.search(rest)) else "."
    rest = _FRACTION_END.sub("", rest)
    exact = _to_pattern(rest, _ENGLISH)
    has_month = bool(re.search("%[bB]", rest)) and not re.search("%[aA]", rest)
    main = _to_pattern(rest, {"b": MONTH_WORD, "B": MONTH_WORD}) if has_month else exact
    fraction = _NOTHING
    if re.search(r"%-?S$", rest):
        fraction = rf"(?:[.,{sign}](\d{{1,12}}))?" if sign else r"(\d{0,12})"
    half = _HALF if has_half else _NOTHING
    zone = _ZONE if re.search(r"%-?[HI]", rest) else _NOTHING
    core = f"{rest} %p" if has_half else rest
    exact += " [AaPp][Mm]" if has_half else ""
    translated = core.replace("%B", "%b") if has_month else None
    return Pattern(exact, (f"({main}){fraction}{half}{zone}",), core, has_half, translated)


def _to_pattern(format: str, months: Mapping[str, str]) -> str:
    tokens = list(_TOKEN.finditer(format))
    directives = {token[1].removeprefix("-") for token in tokens if token[1]}
    if not directives & {"d", "j"}:
        raise ValueError(f"expected a format with a day, such as '%d.%m.%Y %H:%M:%S', got {format!r}")
    parts = []
    for position, token in enumerate(tokens):
        directive, space, letter = token.groups()
        if space:
            parts.append(r"\s+")
        elif letter:
            parts.append(re.escape(letter))
        elif directive not in _DIRECTIVES:
            known = ", ".join(f"%{name}" for name in _DIRECTIVES if len(name) == 1)
            raise ValueError(f"expected only {known}, %f behind %S, and %z at the end, got %{directive} in {format!r}")
        else:
            beside = [other[1] for other in tokens[max(position - 1, 0) : position + 2] if other is not token]
            is_packed = directive in _PACKED and any(beside)
            parts.append(_PACKED[directive] if is_packed else months.get(directive) or _DIRECTIVES[directive])
    return "".join(parts)
