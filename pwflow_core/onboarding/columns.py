"""What the values of a column tell: how many are numbers, how they repeat, and how they go on in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pwflow_core.onboarding.number_style import NumberStyle
from pwflow_core.onboarding.sampling import Sample, SampledColumn
from pwflow_core.onboarding.sentinels import find_sentinels
from pwflow_core.spelling.numbers import finite

__all__ = ["ColumnProfile", "Steps", "measure_steps", "number_of", "profile_columns", "step_counts"]

_MOST_SHOWN = 12


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """The values of one column in the sample.

    Attributes:
        column: The column.
        n: Values that are there.
        n_numbers: Values that are finite numbers.
        n_distinct: Different values.
        low: Lowest number.
        high: Highest number.
        is_whole: Whether all numbers are whole.
        other: The most frequent value that is not a number, where numbers are expected.
        values: The different values, if they are few.
        missing: Numbers that stand for a missing value, and how often they come; they count as no values.
    """

    column: SampledColumn
    n: int
    n_numbers: int
    n_distinct: int
    low: float | None
    high: float | None
    is_whole: bool
    other: str | None
    values: tuple[str, ...]
    missing: Mapping[float, int]

    @property
    def name(self) -> str:
        """Name of the column."""
        return self.column.name

    @property
    def is_numeric(self) -> bool:
        """Whether at least half of the values are numbers."""
        return self.n_numbers > 0 and 2 * self.n_numbers >= self.n

    @property
    def refused_share(self) -> float:
        """Part of the values that will be refused because they are no numbers."""
        return 1 - self.n_numbers / self.n if self.n else 0.0


@dataclass(frozen=True, slots=True)
class Steps:
    """How the values of a column go on from one reading of a machine to its next, as parts of all steps."""

    n: int
    changed: float
    down: float
    up: float
    one_up: float
    """Steps of exactly +1."""
    far_down: float = 0.0
    """Steps down by more than half of what the column spans."""
    far_up: float = 0.0
    """Steps up by more than half of what the column spans."""

    @classmethod
    def from_counts(cls, n: int, *counts: int) -> Steps:
        """Return the steps of a row of `step_counts`."""
        return cls(n, *(count / max(n, 1) for count in counts))


def profile_columns(sample: Sample, style: NumberStyle) -> dict[str, ColumnProfile]:
    """Return the profile of every column of plain values, by its name in the exports.

    Adds the table `numbered`: the sample with each column once more, as a finite number, called `n` + key.
    """
    flat = [c for c in sample.columns if c.is_number or c.is_text]
    as_numbers = "".join(f", {number_of(column, style)} AS n{column.key}" for column in flat)
    sample.connection.table("sample").project(f"*{as_numbers}").create("numbered")
    marks = find_sentinels(sample.connection, "numbered", [f"n{column.key}" for column in flat])
    for key, missing in marks.items():
        listed = ", ".join(f"{value!r}::DOUBLE" for value in missing)
        sample.connection.execute(f"UPDATE numbered SET {key} = NULL, {key[1:]} = NULL WHERE {key} IN ({listed})")
    profiles: dict[str, ColumnProfile] = {}
    for start in range(0, len(flat), 40):
        part = flat[start : start + 40]
        measures = ", ".join(_measures(column.key) for column in part)
        row = sample.aggregate(measures, "numbered")
        for i, column in enumerate(part):
            n, n_numbers, n_distinct, low, high, is_whole, other = row[i * 7 : i * 7 + 7]
            values = _values(sample, column) if 0 < n_distinct <= _MOST_SHOWN else ()
            profiles[column.name] = ColumnProfile(
                column,
                n,
                n_numbers,
                n_distinct,
                low,
                high,
                bool(is_whole),
                other,
                values,
                marks.get(f"n{column.key}", {}),
            )
    return profiles


def measure_steps(
    sample: Sample, columns: list[ColumnProfile], machine: SampledColumn | None, *, newest_first: bool = False
) -> dict[str, Steps]:
    """Return how the columns go on in time, by column name; machines are kept apart."""
    order = "row DESC" if newest_first else "row"
    steps: dict[str, Steps] = {}
    apart = f"file, block, {machine.key}" if machine else "file, block"
    for start in range(0, len(columns), 40):
        part = columns[start : start + 40]
        pairs = ", ".join(
            f"{_value(p)} AS now{i}, lag({_value(p)}) OVER (PARTITION BY {apart} ORDER BY {order}) AS before{i}"
            for i, p in enumerate(part)
        )
        measures = ", ".join(
            step_counts(f"now{i}", f"before{i}", (p.low or 0.0, p.high or 0.0) if p.is_numeric else None)
            for i, p in enumerate(part)
        )
        row = sample.connection.table("numbered").project(pairs).aggregate(measures).fetchall()[0]
        for i, profile in enumerate(part):
            steps[profile.name] = Steps.from_counts(*row[i * 7 : i * 7 + 7])
    return steps


def _value(profile: ColumnProfile) -> str:
    return f"n{profile.column.key}" if profile.is_numeric else profile.column.key


def step_counts(now: str, before: str, span: tuple[float, float] | None) -> str:
    """Return the SQL of the seven counts that `Steps` are made of.

    Arguments:
        now: Column of the values.
        before: Column of the value before each.
        span: Lowest and highest value; None of texts.
    """
    tests = [f"{now} <> {before}", "false", "false", "false", "false", "false"]
    if span is not None:
        far = (span[1] - span[0]) / 2
        tests[1:] = [
            f"{now} < {before}",
            f"{now} > {before}",
            f"{now} = {before} + 1",
            f"{now} < {before} - {far!r}",
            f"{now} > {before} + {far!r}",
        ]
    counts = ", ".join(f"count(*) FILTER ({test})" for test in tests)
    return f"count(*) FILTER ({now} IS NOT NULL AND {before} IS NOT NULL), {counts}"


def _measures(key: str) -> str:
    return (
        f"count({key}), count(n{key}), count(DISTINCT {key}), min(n{key}), max(n{key}), "
        f"bool_and(n{key} = round(n{key})), mode({key}::VARCHAR) FILTER (n{key} IS NULL)"
    )


def number_of(column: SampledColumn, style: NumberStyle) -> str:
    """Return the SQL of the finite number in a column of the sample; NULL where it holds none."""
    value = style.spelling(column.name).value(column.key) if column.is_text else f"{column.key}::DOUBLE"
    return finite(value)


def _values(sample: Sample, column: SampledColumn) -> tuple[str, ...]:
    rows = (
        sample.connection.table("sample")
        .filter(f"{column.key} IS NOT NULL")
        .project(f"{column.key} AS value")
        .distinct()
        .order("value")
        .project("value::VARCHAR")
        .fetchall()
    )
    return tuple(row[0] for row in rows)
