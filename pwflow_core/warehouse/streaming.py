"""Rows on their way between the warehouse and the models: out to a file, through in chunks, back in one go.

The warehouse is open while rows are copied out, and again while results are copied in; never in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pwflow_core.warehouse.base import prepare_session
from pwflow_core.warehouse.sql import insert_frame, quote_columns, quote_literal

__all__ = ["Spool", "copy_out", "fetch_matrix", "read_chunks", "read_chunks_of_machines"]

_VECTOR_ROWS = 2048
_MOST_CELLS = 2**22
"""Of a chunk: its rows are fewer where they have many columns, so that a wide plant takes no more memory."""


def copy_out(connection: duckdb.DuckDBPyConnection, query: str, values: Mapping[str, object], target: Path) -> None:
    """Copy the result of a query to a Parquet file, without holding it in memory."""
    connection.execute(f"COPY ({query}) TO {quote_literal(str(target))} (FORMAT parquet)", values)


def read_chunks(
    scratch: duckdb.DuckDBPyConnection, file: Path, sensors: Sequence[str], chunk_rows: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Stream a file that `copy_out` wrote.

    Yields:
        Reading ids of shape (n,) and sensor values of shape (n, D), n about `chunk_rows`, or less where D is large.
    """
    for frame in _read_frames(scratch, file, ["reading_id"], sensors, chunk_rows):
        yield (
            frame["reading_id"].to_numpy(dtype=np.int64),
            frame[list(sensors)].to_numpy(dtype=np.float64),
        )


def read_chunks_of_machines(
    scratch: duckdb.DuckDBPyConnection, file: Path, sensors: Sequence[str], chunk_rows: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.str_]]]:
    """Stream the same with the machine of each reading, shape (n,), from a file that has `machine_id` too."""
    for frame in _read_frames(scratch, file, ["reading_id", "machine_id"], sensors, chunk_rows):
        yield (
            frame["reading_id"].to_numpy(dtype=np.int64),
            frame[list(sensors)].to_numpy(dtype=np.float64),
            frame["machine_id"].to_numpy().astype(np.str_),
        )


def _read_frames(
    scratch: duckdb.DuckDBPyConnection, file: Path, beside: Sequence[str], sensors: Sequence[str], chunk_rows: int
) -> Iterator[pd.DataFrame]:
    n_rows = min(chunk_rows, _MOST_CELLS // len(sensors))
    scratch.execute(f"SELECT {quote_columns([*beside, *sensors])} FROM read_parquet({quote_literal(str(file))})")
    while True:
        frame = scratch.fetch_df_chunk(max(1, n_rows // _VECTOR_ROWS))
        if frame.empty:
            return
        yield frame


def fetch_matrix(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    values: Mapping[str, object],
    sensors: Sequence[str],
) -> tuple[NDArray[np.float64], dict[str, NDArray[Any]]]:
    """Fetch sensor values as a matrix of shape (N, D), and the other columns of the query by name."""
    fetched = connection.execute(query, values).fetchnumpy()
    columns = {
        name: np.asarray(column) if not np.ma.isMaskedArray(column) else column for name, column in fetched.items()
    }
    if not len(columns[sensors[0]]):
        return np.empty((0, len(sensors))), columns
    matrix = np.column_stack([np.ma.filled(columns.pop(name), np.nan) for name in sensors])
    return matrix.astype(np.float64, copy=False), columns


class Spool:
    """Results that wait, on disk where they outgrow the memory limit, to be inserted in one transaction."""

    def __init__(self, scratch: duckdb.DuckDBPyConnection, columns: Mapping[str, str]) -> None:
        """Open an empty spool.

        Arguments:
            scratch: An in-memory database; rows may be read from it in chunks meanwhile.
            columns: DuckDB type by column name.
        """
        self._scratch = scratch.cursor()
        prepare_session(self._scratch)
        self._columns = tuple(columns)
        fields = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        self._scratch.execute(f"CREATE OR REPLACE TABLE spool ({fields})")

    def append(self, **arrays: NDArray[Any]) -> None:
        """Add rows, one array per column."""
        insert_frame(self._scratch, "spool", pd.DataFrame(arrays))

    def close(self, target: Path) -> None:
        """Write all rows to a Parquet file."""
        self._scratch.execute(f"COPY spool TO {quote_literal(str(target))} (FORMAT parquet)")
        self._scratch.execute("DROP TABLE spool")
        self._scratch.close()
