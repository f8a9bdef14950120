"""The sensors of a long export: every name that its rows have, what their values look like and how often they come."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb

from pwflow_core.errors import SourceError
from pwflow_core.onboarding.columns import number_of
from pwflow_core.onboarding.number_style import NumberStyle
from pwflow_core.onboarding.sampling import Sample, SampledColumn, open_whole
from pwflow_core.onboarding.sentinels import are_far, is_mark
from pwflow_core.onboarding.timestamps import TimeColumn
from pwflow_core.opening import split_member
from pwflow_core.spelling import NumberSpelling

__all__ = ["FoundTag", "hold_of", "scan_tags"]

_MOST_FILES = 500
_MOST_BYTES = 8 << 30
_INTERVALS_HELD = 5
_COMPLETE = 0.9
_FEW_VALUES, _ENOUGH_ROWS = 12, 100


@dataclass(frozen=True, slots=True)
class FoundTag:
    """One name that the rows of a long export have.

    Attributes:
        name: The name.
        n: Rows that have it.
        n_numbers: Rows with a number.
        low: Lowest number.
        high: Highest number.
        text: One of the values that are not numbers.
        rises: Whether it begins with its lowest and ends with its highest number.
        interval_seconds: Mean time between two of its rows, of one machine.
        share: Part of the times of its machine at which it has a value, 0 to 1.
        n_distinct: Different numbers, about, of the file that has most.
        is_whole: Whether all numbers are whole.
        missing: Numbers that stand for a missing value, and how often they come; low and high are without them.
    """

    name: str
    n: int
    n_numbers: int
    low: float | None
    high: float | None
    text: str | None
    rises: bool
    interval_seconds: float | None
    share: float
    n_distinct: int
    is_whole: bool
    missing: Mapping[float, int] = field(default_factory=dict)

    @property
    def has_few_values(self) -> bool:
        """Whether it takes few whole numbers, as states do."""
        span = math.inf if self.low is None or self.high is None else self.high - self.low
        return self.is_whole and self.n_distinct <= _FEW_VALUES and span <= _FEW_VALUES and self.n >= _ENOUGH_ROWS

    @property
    def is_numeric(self) -> bool:
        """Whether at least half of its values are numbers."""
        return self.n_numbers > 0 and 2 * self.n_numbers >= self.n

    @property
    def hold_seconds(self) -> float | None:
        """How long its last value should hold; None if it comes with the others."""
        return hold_of(self.interval_seconds) if self.share < _COMPLETE else None


def hold_of(interval_seconds: float | None) -> float | None:
    """Return for how many seconds the value of a sensor with times of its own holds: some of its usual intervals."""
    if not interval_seconds:
        return None
    seconds = _INTERVALS_HELD * interval_seconds
    step = 10.0 ** (math.floor(math.log10(seconds)) - 1)
    return round(math.ceil(seconds / step - 1e-9) * step, 6)


def scan_tags(
    sample: Sample,
    files: Sequence[Path],
    time: TimeColumn,
    tag: SampledColumn | None,
    values: Sequence[SampledColumn],
    machine: SampledColumn | None,
    tags_of: Sequence[str],
    style: NumberStyle,
) -> tuple[list[FoundTag], list[str]]:
    """Read the exports for the names that they hold, all of them unless they are very many or very large.

    Arguments:
        sample: The sample.
        files: The exports.
        time: Column of the time.
        tag: Column of the name; None if the path tells it.
        values: Columns that may hold the value.
        machine: Column of the machine, or None.
        tags_of: What the path tells, by file; empty if there is a column.
        style: How numbers are written.

    Returns:
        The names, in the order of the file, and sentences on what was not looked at.
    """
    chosen, doubts = _affordable(files)
    with duckdb.connect(":memory:") as connection, tempfile.TemporaryDirectory(prefix="pwflow") as folder:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            "CREATE TABLE found (file BIGINT, tag VARCHAR, machine VARCHAR, first_row BIGINT, n BIGINT, "
            "n_numbers BIGINT, low DOUBLE, high DOUBLE, text VARCHAR, opening DOUBLE, closing DOUBLE, "
            "first TIMESTAMP, last TIMESTAMP, n_times BIGINT, marks MAP(DOUBLE, UBIGINT), n_distinct BIGINT, "
            "is_whole BOOLEAN)"
        )
        connection.execute("CREATE TABLE moments (machine VARCHAR, n BIGINT)")
        keyed = [column for column in (*time.parts, tag, machine, *values) if column is not None]
        numbers = [number_of(column, style) for column in values]
        number = numbers[0] if len(numbers) == 1 else f"coalesce({', '.join(numbers)})"
        said = [f"{column.key}::VARCHAR" for column in values]
        text = f"coalesce({', '.join(f'CASE WHEN NOT {NumberSpelling().is_missing(t)} THEN {t} END' for t in said)})"
        for place, path in chosen:
            reader = open_whole(connection, path, sample, keyed, Path(folder) / str(place))
            if reader is None:
                doubts.append(f"{path} has other columns than the rest and will be refused: move it away.")
                continue
            name = f"{tag.key}::VARCHAR" if tag is not None else "$tag"
            connection.execute(
                f"""
                INSERT INTO found
                SELECT {place}, tag, machine, min(row), count(*), count(number),
                    min(number) FILTER (NOT is_mark), max(number) FILTER (NOT is_mark),
                    any_value(text) FILTER (number IS NULL), arg_min(number, instant), arg_max(number, instant),
                    min(instant), max(instant), count(instant),
                    histogram(number) FILTER (is_mark),
                    approx_count_distinct(number) FILTER (NOT is_mark),
                    coalesce(bool_and(number = round(number)) FILTER (NOT is_mark), false)
                FROM (SELECT *, {is_mark("number")} AS is_mark FROM (
                    SELECT
                        {name} AS tag, {machine.key + "::VARCHAR" if machine else "NULL::VARCHAR"} AS machine,
                        {number} AS number, {time.instant} AS instant, row_number() OVER () AS row,
                        CASE WHEN {number} IS NULL THEN {text} END AS text
                    FROM ({reader})
                ))
                WHERE tag IS NOT NULL AND instant IS NOT NULL
                GROUP BY tag, machine
                """,
                {"tag": tags_of[place]} if tag is None else {},
            )
            connection.execute(
                f"INSERT INTO moments SELECT {machine.key + '::VARCHAR' if machine else 'NULL::VARCHAR'}, "
                f"approx_count_distinct({time.instant}) FROM ({reader}) GROUP BY ALL"
            )
        connection.execute(f"DELETE FROM found WHERE {NumberSpelling().is_missing('tag')}")
        rows = connection.execute(
            """
            WITH of_machines AS (
                SELECT tag, machine, sum(n) AS n, sum(n_times) AS n_times, min(first) AS first, max(last) AS last
                FROM found GROUP BY tag, machine
            ), rhythms AS (
                SELECT tag, median(CASE WHEN n_times > 1 THEN epoch(last - first) / (n_times - 1) END) AS seconds
                FROM of_machines GROUP BY tag
            ), shares AS (
                SELECT of_machines.tag, max(least(1.0, n_times / moments.n)) AS share
                FROM of_machines
                JOIN (SELECT machine, sum(n) AS n FROM moments GROUP BY machine) AS moments
                    ON of_machines.machine IS NOT DISTINCT FROM moments.machine
                GROUP BY of_machines.tag
            )
            SELECT
                tag, sum(n)::BIGINT, sum(n_numbers)::BIGINT, min(low), max(high), any_value(text),
                bool_and(opening = low AND closing = high), any_value(rhythms.seconds), any_value(shares.share),
                max(n_distinct), bool_and(is_whole)
            FROM found JOIN rhythms USING (tag) JOIN shares USING (tag)
            GROUP BY tag
            ORDER BY min(file), min(first_row)
            """
        ).fetchall()
        marked = connection.execute(
            """
            SELECT tag, mark.key, sum(mark.value)::BIGINT
            FROM (SELECT tag, unnest(map_entries(marks)) AS mark FROM found)
            GROUP BY ALL
            """
        ).fetchall()
    if not rows:
        raise SourceError(
            f"Expected rows with a time and the name of a sensor in {files[0]}, got none: name the columns with "
            "source.timestamp and source.tag in pwflow.toml."
        )
    marks: dict[str, dict[float, int]] = {}
    for name, value, count in marked:
        marks.setdefault(name, {})[value] = count
    return [_without_marks(FoundTag(*row), marks.get(row[0], {})) for row in rows], doubts


def _without_marks(tag: FoundTag, marks: Mapping[float, int]) -> FoundTag:
    """Return a tag with those numbers named that stand for a missing value; the others count for its range."""
    if not marks:
        return tag
    n = tag.n_numbers - sum(marks.values())
    far = {} if tag.low is None or tag.high is None else are_far(marks, n, tag.low, tag.high, (tag.low, tag.high))
    kept = [value for value in (tag.low, tag.high, *marks) if value is not None and value not in far]
    return replace(tag, low=min(kept), high=max(kept), missing=far)


def _affordable(files: Sequence[Path]) -> tuple[list[tuple[int, Path]], list[str]]:
    """Return the files to read, with their places, and a sentence if these are not all."""
    sizes = [split_member(path)[0].stat().st_size for path in files]
    every = max(1, -(-len(files) // _MOST_FILES), -(-sum(sizes) // _MOST_BYTES))
    chosen = list(enumerate(files))[::every]
    if every == 1:
        return chosen, []
    return chosen, [
        f"Looked for sensors in {len(chosen):,} of {len(files):,} files: one that only other files have is left out."
    ]
