"""How an export writes numbers: decimal sign, sign between thousands, units behind them; and what decided it.

"1,014" is a thousand in one export and one in another. What the other values of the file show decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pwflow_core.onboarding.sampling import Sample, SampledColumn
from pwflow_core.spelling import NumberSpelling, clean_text
from pwflow_core.warehouse import quote_literal

__all__ = ["NumberStyle", "find_number_style"]

_SIGN = r"[+-]?"
_UNIT_BEHIND = r"^[+-]?[\d.,' ]*\d(?:[eE][+-]?\d+)?\s*([^\d\s.,'+-][^\d]{0,9}\d?)$"
_SHAPES = {
    # sure: only one reading makes a number of it
    "decimal": r"(?:0|\d{{4,}}){0}\d+|\d+{0}(?:\d{{1,2}}|\d{{4,}})|{0}\d+|\d+{0}\d+[eE][+-]?\d+",
    "thousands": r"[1-9]\d{{0,2}}(?:{0}\d{{3}}){{2,}}|[1-9]\d{{0,2}}(?:{0}\d{{3}})+{1}\d+",
    # open: three digits behind one sign
    "open": r"[1-9]\d{{0,2}}{0}\d{{3}}",
}
_APART = r"[+-]?[1-9]\d{0,2}(?:[ ']\d{3})+(?:[.,]\d*)?"
"""Thousands apart by spaces or apostrophes, which are never a decimal sign."""
_WHOLE = r"[1-9]\d{2}"
_BETWEEN = " '"
_OTHER = {".": ",", ",": "."}
_NAMES = {".": "point", ",": "comma"}
_MOST_UNITS = 0.5
_FEWEST_WHOLE = 100
_FEWEST_WHOLES = 3
_NEAR_THOUSAND = 500
"""Values that go over 1,000 come near it from both sides: some lie between this and 999, and some below 3,000."""


@dataclass(frozen=True, slots=True)
class NumberStyle:
    """How numbers are written.

    Attributes:
        decimal: Decimal sign, `.` or `,`.
        thousands: Sign between thousands, if it is the other one of these two.
        units: Unit behind the numbers of a column, by the name of the column.
        sentences: What was decided, and by what.
        doubtful: Columns that are written with another style than the others, and why no reading of them is right.
    """

    decimal: str
    thousands: str | None
    units: dict[str, str] = field(default_factory=dict)
    sentences: tuple[str, ...] = ()
    doubtful: dict[str, str] = field(default_factory=dict)

    def spelling(self, column: str) -> NumberSpelling:
        """Return how the numbers of a column are written."""
        return NumberSpelling(self.decimal, self.thousands, self.units.get(column, ""))


@dataclass(frozen=True, slots=True)
class _Counts:
    """How many texts of a column have each shape, by the sign in it."""

    column: str
    decimal: dict[str, int]
    thousands: dict[str, int]
    open: dict[str, int]
    n_whole: int
    """Whole numbers of three digits without any sign."""
    n_wholes: int
    """Different ones of these."""
    largest_whole: int
    smallest_group: dict[str, int]
    """What stands before the sign in the smallest open text."""

    def mixes_thousands(self, sign: str) -> bool:
        """Whether numbers like 1,014 stand beside ones like 948: read as 1.014 they would jump a thousandfold."""
        return (
            self.open[sign] > 0
            and not self.decimal[sign]
            and self.n_whole * _FEWEST_WHOLE >= self.open[sign]
            and self.n_wholes >= _FEWEST_WHOLES
            and self.largest_whole >= _NEAR_THOUSAND
            and self.smallest_group[sign] * _NEAR_THOUSAND <= 1000
        )


def find_number_style(
    sample: Sample, decimal: str | None, thousands: str | None, without: Sequence[str] = ()
) -> NumberStyle:
    """Find how numbers are written; what is given is not guessed.

    Arguments:
        sample: The sample.
        decimal: Decimal sign, or None to find it.
        thousands: Sign between thousands, or None to find it.
        without: Columns that hold times.
    """
    texts = [column for column in sample.columns if column.is_text and column.name not in without]
    units, said = _find_units(sample, texts)
    counts = _count(sample, texts, units)
    found = decimal or _decimal(counts, sample.delimiter)
    separator = thousands or _thousands(counts, found)
    sentences = _explain(counts, found, separator, sample.delimiter) if not (decimal and thousands) else []
    doubtful = {} if decimal else _doubtful(counts, found)
    return NumberStyle(found, separator, units, (*sentences, *said), doubtful)


def _find_units(sample: Sample, columns: list[SampledColumn]) -> tuple[dict[str, str], list[str]]:
    """Return the units behind the numbers of columns where most values have one, and what to say of them."""
    units: dict[str, str] = {}
    said = []
    for column in columns:
        text = clean_text(column.key)
        rows = (
            sample.connection.table("sample")
            .filter(f"{column.key} IS NOT NULL")
            .project(f"regexp_extract({text}, {quote_literal(_UNIT_BEHIND)}, 1) AS unit")
            .aggregate("trim(unit) AS unit, count(*) AS n", "trim(unit)")
            .order("n DESC, unit")
            .limit(12)
            .fetchall()
        )
        n = sum(count for _, count in rows)
        behind = [(unit, count) for unit, count in rows if unit]
        if not behind or sum(count for _, count in behind) <= _MOST_UNITS * n or not _is_unit(behind[0][0]):
            continue
        unit, *others = (unit for unit, _ in behind)
        units[column.name] = unit
        sentence = f"Column {column.name!r} has its unit behind the numbers: {unit!r}."
        if others:
            shown = ", ".join(map(repr, others[:3]))
            sentence = (
                f"Column {column.name!r} has several units behind its numbers: {unit!r} is read, values with {shown} "
                "will be refused: check this."
            )
        said.append(sentence)
    return units, said


def _is_unit(text: str) -> bool:
    return not any(letter in "/-:" for letter in text[:1]) and text.lower() not in ("am", "pm", "e", "t", "k", "g", "µ")


def _count(sample: Sample, columns: list[SampledColumn], units: dict[str, str]) -> list[_Counts]:
    found = []
    for column in columns:
        text = clean_text(column.key)
        if unit := units.get(column.name):
            text = f"trim(replace({text}, {quote_literal(unit)}, ''))"
        apart = f"regexp_full_match({text}, {quote_literal(_APART)})"
        text = f"CASE WHEN {apart} THEN translate({text}, {quote_literal(_BETWEEN)}, '') ELSE {text} END"
        kinds = [(kind, sign) for kind in _SHAPES for sign in ".,"]
        tests = [
            f"regexp_full_match({text}, {quote_literal(_SIGN + '(?:' + _shape(kind, sign) + ')')})"
            for kind, sign in kinds
        ]
        tests.append(f"regexp_full_match({text}, {quote_literal(_SIGN + _WHOLE)})")
        measures = [f"count(*) FILTER ({test})" for test in tests]
        whole = f"TRY_CAST({text} AS BIGINT)"
        measures += [
            f"{measure} FILTER ({tests[-1]})" for measure in (f"count(DISTINCT {whole})", f"max(abs({whole}))")
        ]
        measures += [
            f"min(TRY_CAST(regexp_extract({text}, '\\d+') AS BIGINT)) FILTER ({tests[kinds.index(('open', sign))]})"
            for sign in ".,"
        ]
        *row, n_whole, n_wholes, largest, point, comma = sample.aggregate(", ".join(measures))
        by_kind: dict[str, dict[str, int]] = {kind: {} for kind in _SHAPES}
        for (kind, sign), n in zip(kinds, row, strict=True):
            by_kind[kind][sign] = n
        groups = {".": point or 0, ",": comma or 0}
        decimal, thousands, in_doubt = (by_kind[kind] for kind in _SHAPES)
        found.append(_Counts(column.name, decimal, thousands, in_doubt, n_whole, n_wholes, largest or 0, groups))
    return found


def _shape(kind: str, sign: str) -> str:
    return _SHAPES[kind].format("\\" + sign, "\\" + _OTHER[sign])


def _evidence(counts: list[_Counts], sign: str) -> int:
    """Return the values that can be numbers only if `sign` is the decimal sign."""
    return sum(one.decimal[sign] + one.thousands[_OTHER[sign]] for one in counts)


def _mixes_thousands(counts: list[_Counts], sign: str) -> bool:
    """Whether a column shows that numbers like 1,014 are thousands; all are then, as an export has one style."""
    return any(one.mixes_thousands(sign) for one in counts)


def _decimal(counts: list[_Counts], delimiter: str | None) -> str:
    n_points, n_commas = (_evidence(counts, sign) for sign in ".,")
    if n_points != n_commas:
        return "." if n_points > n_commas else ","
    open_points, open_commas = (sum(one.open[sign] for one in counts) for sign in ".,")
    if open_commas and not open_points:
        if _mixes_thousands(counts, ","):
            return "."
        return "." if delimiter == "," else ","
    if open_points and not open_commas and _mixes_thousands(counts, "."):
        return ","
    return "."


def _doubtful(counts: list[_Counts], decimal: str) -> dict[str, str]:
    """Return the columns with thousands where the decimal sign of the other columns stands, and what is wrong."""
    return {
        one.column: f"has whole numbers such as {one.largest_whole} beside 1{decimal}014, which would be 1014, but "
        f"other columns have a decimal {_NAMES[decimal]}: check how it was exported"
        for one in counts
        if one.mixes_thousands(decimal)
    }


def _thousands(counts: list[_Counts], decimal: str) -> str | None:
    """Return the other sign if it stands between thousands, and nowhere as a decimal sign."""
    other = _OTHER[decimal]
    n_grouped = sum(one.thousands[other] + one.open[other] for one in counts)
    contradicted = any(one.decimal[other] or (one.open[other] and one.open[decimal]) for one in counts)
    return other if n_grouped and not contradicted else None


def _explain(counts: list[_Counts], decimal: str, thousands: str | None, delimiter: str | None) -> list[str]:
    """Return what was decided about columns that could be read in two ways, and the rest in a word."""
    other = _OTHER[decimal]
    sentences = [f"Numbers are written with a decimal comma, as in 1{decimal}5."] if decimal == "," else []
    if thousands:
        columns = [one for one in counts if one.thousands[other] + one.open[other]]
        n_sure = sum(one.thousands[other] for one in counts)
        n_decimals = sum(one.decimal[decimal] for one in counts)
        why = f"{n_decimals:,} values have a decimal {_NAMES[decimal]}"
        if n_sure:
            why = f"{n_sure:,} values have it before a decimal {_NAMES[decimal]}, or twice"
        elif not n_decimals:
            why = "whole numbers of three digits stand beside them"
            if not _mixes_thousands(counts, other):
                why = f"the columns of the file are separated by {delimiter!r}"
        shown = ", ".join(repr(one.column) for one in columns[:4])
        sentences.append(
            f"Numbers such as 1{other}014 in {shown} could be 1014 or 1.014: they are read as 1014, because {why}: "
            "check this."
        )
    else:
        odd = [one for one in counts if one.decimal[other]]
        if odd:
            shown = ", ".join(repr(one.column) for one in odd[:4])
            sentences.append(
                f"Most numbers have a decimal {_NAMES[decimal]}, but some in {shown} have a {_NAMES[other]}: those "
                "will be refused."
            )
    open_columns = [one for one in counts if one.open[decimal]]
    n_sure = _evidence(counts, decimal)
    if open_columns and not n_sure and not thousands:
        shown = ", ".join(repr(one.column) for one in open_columns[:4])
        sentences.append(
            f"Numbers such as 1{decimal}014 in {shown} could be 1.014 or 1014: they are read as 1.014, because all "
            "have three digits behind the sign: check this."
        )
    return sentences
