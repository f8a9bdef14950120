"""One reading per machine and time: rows that hold different sensors at the same time are put together.

Whichever files they are in, and in whichever order these come: of each sensor, the first value that arrived is kept.
"""

from __future__ import annotations

import duckdb

from pwflow_core.marks import NO_SEGMENT_VALUE
from pwflow_core.pipeline.source.source import Sensor
from pwflow_core.warehouse import fetch_value, quote_identifier, quote_literal, read_sql

__all__ = ["merging_script"]

_TEXTS = ("refused_values", "bad_quality")
_BEHIND_NUMBERS = 1_000_000_000
"""A text in place of a number counts only where no row has a number."""


def merging_script(connection: duckdb.DuckDBPyConnection, sensors: tuple[Sensor, ...]) -> str:
    """Return the statements that put the rows of a reading together; they are in `deriving.sql`."""
    columns = [(quote_literal(sensor.name), quote_identifier(sensor.name)) for sensor in sensors]
    with_texts = bool(
        fetch_value(
            connection,
            "SELECT count(*) FROM (SELECT 1 FROM ingest.raw_readings "
            "WHERE refused_values IS NOT NULL OR bad_quality IS NOT NULL LIMIT 1)",
        )
    )
    adds = [f"(kept.{column} IS NULL AND NOT isnan(parsed.{column}))" for _, column in columns]
    adds += [
        f"(parsed.{texts} IS NOT NULL AND kept.{column} IS NULL AND parsed.{texts}[{name}] IS NOT NULL)"
        for texts in _TEXTS
        for name, column in columns
        if with_texts
    ]
    return read_sql(
        __package__,
        "merging.sql",
        adds=" OR ".join(adds),
        unknown=quote_literal(NO_SEGMENT_VALUE),
        firsts=", ".join(_first(name, column, with_texts=with_texts) for name, column in columns),
        merged_values=", ".join(f"arg_min({_value(column)}, place) AS {column}" for _, column in columns),
        differences=", ".join(
            f"{{'sensor': {name}, 'value': CASE WHEN together.{column} <> merged.{column} "
            f"AND NOT isnan(together.{column}) THEN together.{column}::VARCHAR END}}"
            for name, column in columns
        ),
        **{texts: _merged_texts(texts, columns, with_texts=with_texts) for texts in _TEXTS},
    )


def _first(name: str, column: str, *, with_texts: bool) -> str:
    """Return the SQL of the place of the row that the value of a sensor is taken from."""
    text = ""
    if with_texts:
        has_text = " OR ".join(f"({texts} IS NOT NULL AND {texts}[{name}] IS NOT NULL)" for texts in _TEXTS)
        text = f" WHEN {has_text} THEN place + {_BEHIND_NUMBERS}"
    return f"min(CASE WHEN {_value(column)} IS NOT NULL THEN place{text} END)"


def _value(column: str) -> str:
    """Return the SQL of a number that is there; NaN is none."""
    return f"CASE WHEN NOT isnan({column}) THEN {column} END"


def _merged_texts(texts: str, columns: list[tuple[str, str]], *, with_texts: bool) -> str:
    """Return the SQL of the texts of those sensors that no row has a number of."""
    if not with_texts:
        return "NULL::MAP(VARCHAR, VARCHAR)"
    entries = ", ".join(
        f"{{'k': {name}, 'v': CASE WHEN count({_value(column)}) = 0 THEN "
        f"arg_min(CASE WHEN {texts} IS NOT NULL THEN {texts}[{name}] END, place) END}}"
        for name, column in columns
    )
    found = f"list_filter([{entries}], lambda entry: entry.v IS NOT NULL)"
    return f"CASE WHEN len({found}) > 0 THEN map_from_entries({found}) END"
