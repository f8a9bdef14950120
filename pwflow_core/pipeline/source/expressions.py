"""What the columns of an export say, as SQL: time, machine, process condition, number, quality.

A column that the path of the file gives is a constant of that file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pwflow_core.config import path_expression
from pwflow_core.errors import SourceError
from pwflow_core.files import is_number_type
from pwflow_core.marks import FILE_NAME_COLUMN, NO_SEGMENT, NO_SEGMENT_VALUE, ONLY_MACHINE, SEGMENT_JOINT
from pwflow_core.pipeline.source.source import Source
from pwflow_core.spelling import NumberSpelling
from pwflow_core.warehouse import quote_identifier, quote_literal

__all__ = [
    "Context",
    "bad_quality_sql",
    "column_sql",
    "columns_of",
    "is_good_sql",
    "machine_sql",
    "number_sql",
    "path_values",
    "refused_sql",
    "segment_sql",
    "timestamp_sql",
]

_OPC_GOOD = "192"


@dataclass(frozen=True, slots=True)
class Context:
    """What is known of a file beside its rows: its name for readers, and the columns that its path gives.

    Where several files are read together, these are columns of the rows: `label` and the keys of `known` name them.
    """

    label: str
    known: Mapping[str, str]
    in_rows: bool = False

    @property
    def label_sql(self) -> str:
        """The SQL of the name of the file."""
        return quote_identifier(self.label) if self.in_rows else quote_literal(self.label)


def path_values(source: Source, label: str) -> dict[str, str]:
    """Return the columns that `source.path_columns` finds in the path of a file.

    Raises:
        SourceError: The path is not as the expression says.
    """
    if source.path_columns is None:
        return {}
    match = path_expression(source.path_columns).search(label)
    if match is None:
        raise SourceError(
            f"Expected a path like source.path_columns = {source.path_columns!r}, got {label!r}: rename the file, "
            "correct the expression in pwflow.toml, or narrow source.path."
        )
    return {name: value for name, value in match.groupdict().items() if value is not None}


def columns_of(source: Source, known: Mapping[str, str]) -> list[str]:
    """Return the columns that a file has to have."""
    wanted = [*source.timestamp_columns] if any(not sensor.timestamp for sensor in source.sensors) else []
    if source.layout == "long":
        wanted = [
            *source.timestamp_columns,
            source.tag or "",
            *source.value,
            *([source.quality] if source.quality else []),
        ]
    else:
        wanted += [sensor.column for sensor in source.sensors]
        wanted += [column for s in source.sensors for column in (s.timestamp, s.quality) if column]
    wanted += [source.fraction[0]] if source.fraction else []
    wanted += [*source.segments, *([source.machine] if source.machine else [])]
    return list(dict.fromkeys(c for c in wanted if c != FILE_NAME_COLUMN and c not in known))


def timestamp_sql(types: Mapping[str, str], source: Source, columns: str | tuple[str, ...]) -> str:
    """Return the SQL of the time of a row, as text; of date and time of day in two columns, NULL if one of them is."""
    first, *others = (columns,) if isinstance(columns, str) else columns
    text = f"{quote_identifier(first)}::VARCHAR"
    if others:
        date = f"{quote_identifier(first)}::DATE" if types[first].startswith("TIMESTAMP") else quote_identifier(first)
        parts = [date, *map(quote_identifier, others)]
        text = " || ' ' || ".join(f"nullif(trim({part}::VARCHAR), '')" for part in parts)
    if source.fraction is None:
        return text
    column, n_digits = source.fraction
    digits = f"lpad(coalesce(TRY_CAST({quote_identifier(column)} AS BIGINT), 0)::VARCHAR, {n_digits}, '0')"
    return f"regexp_replace({text}, '[.]0*$', '') || '.' || {digits}"


def column_sql(column: str, context: Context) -> str:
    """Return the SQL of a column, or what the path says it is."""
    if column == FILE_NAME_COLUMN:
        return context.label_sql
    if column in context.known and not context.in_rows:
        return quote_literal(context.known[column])
    return f"{quote_identifier(column)}::VARCHAR"


def machine_sql(source: Source, context: Context) -> str:
    """Return the SQL of the machine."""
    return quote_literal(ONLY_MACHINE) if source.machine is None else column_sql(source.machine, context)


def segment_sql(source: Source, context: Context) -> str:
    """Return the SQL of the process condition."""
    if not source.segments:
        return quote_literal(NO_SEGMENT)
    parts = [
        context.label_sql
        if column == FILE_NAME_COLUMN
        else f"coalesce(nullif(trim({column_sql(column, context)}), ''), {quote_literal(NO_SEGMENT_VALUE)})"
        for column in source.segments
    ]
    return f"concat_ws({quote_literal(SEGMENT_JOINT)}, {', '.join(parts)})"


def number_sql(types: Mapping[str, str], column: str, source: Source, unit: str = "") -> str:
    """Return the SQL of the number in a column; NULL where it holds none."""
    name = quote_identifier(column)
    if is_number_type(types[column]):
        return f"{name}::DOUBLE"
    return _spelling(source, unit).value(f"{name}::VARCHAR")


def refused_sql(column: str, source: Source, unit: str = "") -> str:
    """Return the SQL of a text that is not a number and stands for no missing value, else NULL."""
    return _spelling(source, unit).refused(f"{quote_identifier(column)}::VARCHAR")


def _spelling(source: Source, unit: str) -> NumberSpelling:
    return NumberSpelling(source.decimal, source.thousands, unit, source.missing_words)


def is_good_sql(column: str, source: Source) -> str:
    """Return the SQL that tells whether a quality is good; one that is not there is."""
    text = f"lower(trim(coalesce({quote_identifier(column)}::VARCHAR, '')))"
    words = [word.strip().lower() for word in source.good_quality]
    tests = [f"{text} IN ({', '.join(map(quote_literal, ['', *words]))})"]
    tests += [f"starts_with({text}, {quote_literal(word)})" for word in words if word.isalpha()]
    number = f"TRY_CAST({text} AS DOUBLE)"
    tests += [f"{number} = {float(word)!r}" for word in words if word.isdigit()]
    tests += [f"({number} >= 192 AND {number} < 256)"] * (_OPC_GOOD in words)
    return f"coalesce({' OR '.join(tests)}, false)"


def bad_quality_sql(value: str, quality: str, source: Source) -> str:
    """Return the SQL of a value with its bad quality, NULL where the value is good or not there."""
    return (
        f"CASE WHEN NOT {is_good_sql(quality, source)} AND nullif(trim({value}::VARCHAR), '') IS NOT NULL "
        f"THEN trim({value}::VARCHAR) || ' (' || trim({quote_identifier(quality)}::VARCHAR) || ')' END"
    )
