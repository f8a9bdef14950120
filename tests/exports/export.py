"""An export as somebody's machine writes it, with all that has to come out of it; and the writing of such files."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np

N = 120
START = datetime(2026, 3, 14)  # noqa: DTZ001 - UTC, as in the warehouse
ONLY = "machine"

Row = tuple[str, datetime, tuple[float | None, ...]]
"""A reading: the machine, the time in UTC, and what its sensors show."""


@dataclass(frozen=True)
class Export:
    """Files, and what a run has to make of them.

    Attributes:
        files: Content by name.
        sensors: Names of the sensors, in the order of the values in `rows`.
        rows: All readings.
        refused: Refused rows and values, by reason.
        n_raw: Rows that are read; None if this is not checked.
        options: For `initialise`.
        says: Patterns, each of which an assumption of `pwflow init` has to match.
        error: Pattern of the message of `pwflow init` where it has to refuse; then there are no readings.
        units: Units of the sensors, where they are checked.
        circles: Sensors that are angles, with what a full turn is.
        segments: Process conditions that the readings have.
        sql: Query that is the source, in the place of a look at the files.
        source: Further settings of a source that is a query.
    """

    files: Mapping[str, str | bytes]
    sensors: tuple[str, ...] = ()
    rows: Sequence[Row] = ()
    refused: Mapping[str, int] = field(default_factory=dict)
    n_raw: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    says: tuple[str, ...] = ()
    error: str = ""
    units: tuple[str, ...] | None = None
    circles: Mapping[str, float] = field(default_factory=dict)
    segments: frozenset[str] = frozenset({"all"})
    sql: str = ""
    source: Mapping[str, Any] = field(default_factory=dict)


def minutes(n: int = N, step: float = 1, start: datetime = START) -> list[datetime]:
    """Return times at equal distances, in minutes."""
    return [start + timedelta(minutes=step * i) for i in range(n)]


def measure(n: int = N, seed: int = 7) -> list[tuple[float, float, float]]:
    """Return what three sensors show: near 55, 5 and 112, with three, four and two digits."""
    rng = np.random.default_rng(seed)
    columns = ((55, 1, 3), (5, 0.1, 4), (112, 3, 2))
    return list(zip(*(rng.normal(at, width, n).round(digits).tolist() for at, width, digits in columns), strict=True))


def readings(times: Iterable[datetime], values: Iterable[Sequence[float | None]], machine: str = ONLY) -> list[Row]:
    """Return one reading per time."""
    return [(machine, time, tuple(row)) for time, row in zip(times, values, strict=True)]


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    delimiter: str = ",",
    *,
    quote: bool = False,
    end: str = "\n",
) -> str:
    """Return a CSV file; without a header if that is empty."""
    text = io.StringIO()
    writer = csv.writer(
        text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL if quote else csv.QUOTE_MINIMAL
    )
    writer.writerows([header, *rows] if header else rows)
    return text.getvalue()


def comma(value: object) -> str:
    """Return a number with a decimal comma."""
    return str(value).replace(".", ",")


def by(format: str, hours: float = 0) -> Callable[[datetime], str]:
    """Return a function that writes a time by a clock that is some hours ahead of UTC."""
    return lambda time: (time + timedelta(hours=hours)).strftime(format)


def archive(members: Mapping[str, str]) -> bytes:
    """Return a ZIP file."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return packed.getvalue()


KINDS: dict[str, Callable[[], Export]] = {}


def spelled(*dresses: tuple[Any, ...]) -> Callable[[Callable[..., Export]], Callable[..., Export]]:
    """Register a kind of export in some spellings, each given by the arguments of its function."""

    def register(make: Callable[..., Export]) -> Callable[..., Export]:
        for number, dress in enumerate(dresses, start=1):
            KINDS[f"{make.__name__}_{number}"] = lambda dress=dress: make(*dress)
        return make

    return register
