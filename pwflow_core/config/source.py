"""The sections `[source]` and `[sensors]` of `pwflow.toml`: where readings come from, and what their columns mean."""

from __future__ import annotations

import codecs
import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pwflow_core.config.base import Section, known_zone

__all__ = ["DATE_IN_PATH", "RESERVED_COLUMNS", "SensorConfig", "SourceConfig", "path_expression"]

RESERVED_COLUMNS = frozenset(
    {
        "reading_id",
        "machine_id",
        "ts",
        "segment",
        "quality",
        "reason",
        "is_complete",
        "fold",
        "batch_id",
        "file_id",
        "row_number",
        "refused_values",
        "bad_quality",
        "cluster_key",
        "responsibility",
        "instant",
        "ts_text",
        "entry",
        "refusal",
        "refusals",
    }
)
"""Column names that stand beside the sensors in tables and queries, so that a sensor must not take them."""

DATE_IN_PATH = (
    r"(?:(?:19|20)\d\d[-_.]?W\d\d|(?:19|20)\d\d[-_.]?(?:0[1-9]|1[0-2])(?:[-_.]?(?:0[1-9]|[12]\d|3[01]))?"
    r"(?:[T_ -]?\d\d[-:_.h]?\d\d(?:[-:_.]?\d\d)?)?Z?|(?:0[1-9]|[12]\d|3[01])"
    r"(?:-(?:0[1-9]|1[0-2])-|_(?:0[1-9]|1[0-2])_|[.](?:0[1-9]|1[0-2])[.])(?:19|20)?\d\d)"
)
"""What `{date}` stands for in `source.path_columns`: a day, a month, a week, a day with its time."""


def path_expression(pattern: str) -> re.Pattern[str]:
    """Return the regular expression that `source.path_columns` means."""
    return re.compile(pattern.replace("{date}", DATE_IN_PATH))


class SourceConfig(Section):
    """Where readings come from and which columns say when, which machine and which process condition."""

    path: str | tuple[str, ...] | None = None
    """Path or glob, or several, of CSV (also .gz) or Parquet files, relative to the configuration file."""
    sql: str | None = None
    """Instead of `path`: a DuckDB query that returns all readings; it is read again in every run."""
    simulated_days: Annotated[int, Field(ge=1, le=3650)] | None = None
    """Instead of `path`: this many days of the bundled simulated plant."""
    timestamp: str | tuple[str, ...] | None = None
    """Timestamp column, or a list such as ["Date", "Time"]; found by looking at the first file where it is not given.
    The texts of a list are joined by a space."""
    timestamp_format: str | None = None
    """strptime format, `unix_s`, `unix_ms`, `unix_us`, `unix_ns`, `labview_s` or `excel_days`; ISO 8601 by default.
    Fractions of a second and a zone behind the time are read where they are there, whatever the format says."""
    timezone: Annotated[str, Field()] | None = None
    """Time zone of timestamps that carry none. Without it such rows are refused."""
    machine: str | None = None
    """Machine column; `filename` if every machine has files of its own; without it there is one machine."""
    segments: tuple[str, ...] = ()
    """Columns of known process conditions (recipe, product). `filename` names the file."""
    layout: Literal["wide", "long"] = "wide"
    """`wide` has a column per sensor, `long` a row per value: which sensor it is is in the column `tag`."""
    tag: str | None = None
    """Where `layout` is `long`: the column that names the sensor. What it holds are the columns of [sensors]."""
    value: str | tuple[str, ...] | None = None
    """Where `layout` is `long`: the column of the value; of several, the first that holds one counts."""
    quality: str | None = None
    """Where `layout` is `long`: the column that says whether the value is good."""
    good_quality: tuple[str, ...] = ("Good", "192")
    """What a quality column says of a good value. `192` stands for 192 to 255, a word for all that begin with it. Any
    other quality makes the value missing; an empty one does not."""
    milliseconds: str | None = None
    """Column of the milliseconds that belong to a time in whole seconds."""
    nanoseconds: str | None = None
    """Column of the nanoseconds that belong to a time in whole seconds."""
    path_columns: str | None = None
    """Regular expression whose named groups are columns too, found in the path of a file below `path`. With
    `(?P<pump>[^/]+)_{date}`, `machine` may be `pump`."""
    encoding: str | None = None
    """Encoding of the CSV files, such as `cp932` or `cp1252`. UTF-8 needs none, nor does what begins with a byte order
    mark."""
    header: bool = True
    """Whether the CSV files begin with the names of their columns. If not, these are `column_1`, `column_2`, …"""
    delimiter: str | None = None
    """CSV delimiter; sniffed where it is not given."""
    decimal: Literal[".", ","] = "."
    """Decimal separator of numbers in CSV files."""
    thousands: Literal[".", ","] | None = None
    """Point or comma between thousands in CSV files. Spaces and apostrophes there are always read."""
    missing_words: tuple[str, ...] = ()
    """Further words for a missing value in CSV files, such as ["No Data"]. `NA`, `null`, `-` and their like are known
    already."""
    future_hours: Annotated[float, Field(ge=0)] = 24.0
    """How many hours ahead of the present a reading may be; one further ahead is refused."""

    _zone = field_validator("timezone")(lambda zone: None if zone is None else known_zone(zone))

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, encoding: str | None) -> str | None:
        try:
            return encoding and codecs.lookup(encoding).name
        except LookupError:
            raise ValueError(f"expected an encoding such as 'cp932' or 'utf-16', got {encoding!r}") from None

    @field_validator("path_columns")
    @classmethod
    def _named_groups(cls, pattern: str | None) -> str | None:
        try:
            if pattern is not None and not path_expression(pattern).groupindex:
                raise ValueError(f"expected a named group such as (?P<machine>[^/]+), got {pattern!r}")
        except re.error as error:
            raise ValueError(f"expected a regular expression, got {pattern!r}: {error}") from None
        return pattern

    @model_validator(mode="after")
    def _complete_layout(self) -> SourceConfig:
        if self.layout == "long" and (self.tag is None or self.value is None):
            raise ValueError("layout = 'long' needs tag and value: the columns that name the sensor and hold its value")
        if self.layout == "wide" and (unused := [key for key in ("tag", "value", "quality") if getattr(self, key)]):
            raise ValueError(f"expected {' and '.join(unused)} with layout = 'long' only, got layout = 'wide'")
        return self

    @model_validator(mode="after")
    def _one_source(self) -> SourceConfig:
        given = [key for key in ("path", "sql", "simulated_days") if getattr(self, key) is not None]
        if len(given) != 1:
            got = "none of them" if not given else " and ".join(given)
            raise ValueError(f"expected exactly one of path, sql and simulated_days, got {got}")
        return self

    @model_validator(mode="after")
    def _readable_numbers(self) -> SourceConfig:
        if self.thousands == self.decimal:
            raise ValueError(f"expected another sign for thousands than for decimals, got {self.decimal!r} for both")
        return self

    @model_validator(mode="after")
    def _one_fraction(self) -> SourceConfig:
        if self.milliseconds is not None and self.nanoseconds is not None:
            raise ValueError(
                "expected milliseconds or nanoseconds, got both: one column holds the fraction of a second"
            )
        return self

    @field_validator("timestamp")
    @classmethod
    def _some_column(cls, timestamp: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        if timestamp == ():
            raise ValueError("expected a column, or a list of columns, got an empty list")
        return timestamp[0] if isinstance(timestamp, tuple) and len(timestamp) == 1 else timestamp

    @property
    def patterns(self) -> tuple[str, ...]:
        """The configured paths and globs, as a tuple."""
        if self.path is None:
            return ()
        return (self.path,) if isinstance(self.path, str) else self.path

    @property
    def path_names(self) -> tuple[str, ...]:
        """Names of the columns that `path_columns` finds in the path of a file."""
        return tuple(path_expression(self.path_columns).groupindex) if self.path_columns else ()


class SensorConfig(Section):
    """One sensor: its column in the source, its unit, and what it can physically read."""

    column: str | None = None
    """Column in the source, if it is not called like the sensor."""
    unit: str = ""
    """Unit, for tables, sentences and pictures; nothing is converted."""
    low: float | None = None
    """Lowest reading that is physically possible, in `unit`; lower ones are refused."""
    high: float | None = None
    """Highest reading that is physically possible, in `unit`; higher ones are refused."""
    timestamp: str | None = None
    """Column with the times of this sensor, where it has one of its own."""
    quality: str | None = None
    """Column that says whether the value is good, see `source.good_quality`."""
    hold_seconds: Annotated[float, Field(gt=0)] | None = None
    """Between its values, the last one holds for at most this long, in seconds: for a sensor with times of its own."""
    period: Annotated[float, Field(gt=0)] | None = None
    """Of an angle: a full turn in `unit`, such as 360. Its values then go on over the jump from 359 to 0."""
    cut: float = 0.0
    """Of an angle with a `period`: its values are shown from here to a turn more. Best where it hardly ever is."""
    missing: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = ()
    """Numbers that stand for a missing value, such as [-9999]."""
    state: bool = False
    """Whether it is a state, such as a valve that is 0 or 1, or a value that never moves. The models do not learn its
    value; a state that was not seen before, or not in this company, is an alarm."""

    @model_validator(mode="after")
    def _ordered(self) -> SensorConfig:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"expected low below high, got low = {self.low:g} and high = {self.high:g}")
        return self
