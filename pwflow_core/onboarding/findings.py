"""What a look at exports finds, as `pwflow init` writes it down."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

__all__ = ["FoundSensor", "Inspection"]


@dataclass(frozen=True, slots=True)
class FoundSensor:
    """A column that holds measurements.

    Attributes:
        name: Name of the sensor; differs from the column where that name cannot be used.
        column: Column in the exports.
        unit: Unit that the name of the column spells out, else empty.
        low_seen: Lowest value in the sample.
        high_seen: Highest value in the sample.
        remark: What to know about it, or empty.
        timestamp: Its own time column, or None.
        quality: Column that says how good its values are, or None.
        hold_seconds: How long its last value should hold, where it has times of its own.
        period: Of an angle: what a full turn is, in its unit; None if it is none.
        cut: Of an angle: where its values begin again, where it is hardly ever.
        missing: Numbers that stand for a missing value.
        is_state: Whether it has few values, or one, and is watched for one that is new.
    """

    name: str
    column: str
    unit: str
    low_seen: float
    high_seen: float
    remark: str = ""
    timestamp: str | None = None
    quality: str | None = None
    hold_seconds: float | None = None
    period: float | None = None
    cut: float | None = None
    missing: tuple[float, ...] = ()
    is_state: bool = False


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found in exports.

    Attributes:
        delimiter: CSV delimiter; None for Parquet.
        skip_lines: Lines before the header of a CSV file.
        decimal: Decimal separator of numbers in CSV files.
        timestamp: Timestamp column, or several.
        timestamp_format: strptime format, a number format such as `unix_s`; None for ISO 8601.
        is_naive: Whether timestamps carry no offset, so that the configuration must name a time zone.
        machine: Machine column, or None.
        segments: Columns of process conditions, given or sure.
        segment_candidates: Columns that may be process conditions, with what they hold.
        sensors: Columns with measurements, in the order of the file, then those that are states.
        ignored: Every other column, with the reason.
        optional: Those ignored columns that could be used as sensors all the same.
        interval_seconds: Median time between two readings of one machine, or None.
        first: Earliest timestamp in the sample (UTC, or as written if naive).
        last: Latest timestamp in the sample.
        n_files: Files there are.
        n_files_read: Files looked into.
        n_rows_read: Rows looked at.
        assumptions: What was assumed, one sentence each, the doubtful ones saying what to check.
        layout: `wide`, or `long` with a row per value.
        tag: Column that names the sensor of a long layout.
        value: Columns that may hold its value.
        quality: Column that says how good the values of a long layout are, or None.
        good_quality: What quality columns say of good values.
        milliseconds: Column of the milliseconds that belong to the time, or None.
        nanoseconds: Column of the nanoseconds that belong to the time, or None.
        path_columns: Regular expression that finds columns in the path, or None.
        encoding: Encoding of text that is not UTF-8, or None.
        thousands: Comma or point between thousands in CSV files, or None.
        header: Whether CSV files begin with the names of their columns.
    """

    delimiter: str | None
    skip_lines: int
    decimal: str
    timestamp: str | tuple[str, ...]
    timestamp_format: str | None
    is_naive: bool
    machine: str | None
    segments: tuple[str, ...]
    segment_candidates: dict[str, str]
    sensors: tuple[FoundSensor, ...]
    ignored: dict[str, str]
    optional: frozenset[str]
    interval_seconds: float | None
    first: datetime | None
    last: datetime | None
    n_files: int
    n_files_read: int
    n_rows_read: int
    assumptions: tuple[str, ...]
    layout: str = "wide"
    tag: str | None = None
    value: tuple[str, ...] = ()
    quality: str | None = None
    good_quality: tuple[str, ...] = ()
    milliseconds: str | None = None
    nanoseconds: str | None = None
    path_columns: str | None = None
    encoding: str | None = None
    thousands: str | None = None
    header: bool = True
