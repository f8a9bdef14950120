"""What a run found of the files of the source, into the warehouse: whole files, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import duckdb

from pwflow_core.pipeline.source.renaming import find_predecessor
from pwflow_core.pipeline.source.source import FileState, Source
from pwflow_core.pipeline.source.staging import Staged
from pwflow_core.plant import Plant
from pwflow_core.warehouse import utc_now

__all__ = ["Arrival", "KnownFile", "insert_files", "read_known_files"]

_MOST_COMPARED = 500
"""This many new files in a transaction are compared with files that are gone, to find those that were renamed."""


@dataclass(frozen=True)
class KnownFile:
    """A file as the warehouse knows it."""

    file_id: int
    size_bytes: int
    modified_at: datetime
    content_hash: str
    source_hash: str
    status: str
    reason: str | None
    removed_at: datetime | None


@dataclass(frozen=True)
class Arrival:
    """A file that was looked at in this run: staged, refused for a reason, or neither if it is as it was."""

    state: FileState
    content_hash: str
    staged: Staged | None = None
    refusal: str = ""


def read_known_files(connection: duckdb.DuckDBPyConnection, names: list[str] | None = None) -> dict[str, KnownFile]:
    """Return the files that were read before, by name: all, or some of them."""
    some = "" if names is None else " AND path IN (SELECT unnest(?))"
    rows = connection.execute(
        "SELECT path, file_id, size_bytes, modified_at, content_hash, source_hash, status, reason, removed_at "
        f"FROM ingest.files WHERE superseded_in IS NULL{some}",
        [] if names is None else [names],
    ).fetchall()
    return {row[0]: KnownFile(*row[1:]) for row in rows}


def insert_files(
    plant: Plant,
    source: Source,
    arrivals: list[Arrival],
    names: dict[str, str],
    vanished: dict[str, KnownFile],
) -> None:
    """Insert whole files in one transaction; a file that was read before, by its name, is replaced.

    Each transaction has a number of its own: what the readings step saw between two of them stays apart.

    Arguments:
        plant: The plant.
        source: How its files are read.
        arrivals: What was found in this run.
        names: What the warehouse calls a file, by its path.
        vanished: Files that are gone, by name; one whose place a new one takes is taken out.
    """
    now = utc_now()
    with plant.warehouse.transaction() as connection:
        row = connection.execute(
            "SELECT coalesce(max(file_id), 0), coalesce(max(greatest(arrived_in, superseded_in)), 0) + 1 "
            "FROM ingest.files"
        ).fetchone()
        file_id, number = row or (0, 1)
        rows: list[tuple[object, ...]] = []
        together: dict[str, dict[int, int]] = {}
        known = read_known_files(connection, [names[arrival.state.path] for arrival in arrivals])
        for arrival in arrivals:
            name = names[arrival.state.path]
            earlier = known.get(name)
            is_known = earlier and (earlier.content_hash, earlier.source_hash) == (arrival.content_hash, source.hash)
            if earlier and is_known and not arrival.refusal:  # as it was, or read by another run since
                connection.execute(
                    "UPDATE ingest.files SET size_bytes = ?, modified_at = ? WHERE file_id = ?",
                    [arrival.state.size_bytes, arrival.state.modified_at, earlier.file_id],
                )
                continue
            file_id += 1
            if not earlier and arrival.staged and vanished and len(arrivals) <= _MOST_COMPARED:
                earlier = _take_place(connection, arrival.staged, vanished)
            if earlier and (arrival.staged or earlier.status == "refused"):
                connection.execute(
                    "UPDATE ingest.files SET superseded_in = ? WHERE file_id = ?", [number, earlier.file_id]
                )
                for table in ("raw_readings", "malformed_lines"):
                    connection.execute(f"DELETE FROM ingest.{table} WHERE file_id = ?", [earlier.file_id])
            if arrival.staged:
                if arrival.staged.place is not None:
                    together.setdefault(str(arrival.staged.rows_file), {})[arrival.staged.place] = file_id
                else:
                    connection.execute(
                        "INSERT INTO ingest.raw_readings BY NAME SELECT ?::BIGINT AS file_id, * FROM read_parquet(?)",
                        [file_id, str(arrival.staged.rows_file)],
                    )
                if arrival.staged.malformed:
                    connection.executemany(
                        "INSERT INTO ingest.malformed_lines VALUES (?, ?, ?, ?)",
                        [[file_id, *line] for line in arrival.staged.malformed],
                    )
            elif earlier and earlier.status == "ingested":
                continue  # what was read before stays until the file can be read again
            rows.append(
                (
                    file_id,
                    name,
                    arrival.state.size_bytes,
                    arrival.state.modified_at,
                    arrival.content_hash,
                    source.hash,
                    "ingested" if arrival.staged else "refused",
                    arrival.refusal or None,
                    arrival.staged.n_rows if arrival.staged else 0,
                    number,
                    now,
                )
            )
        for rows_file, places in together.items():
            _insert_together(connection, rows_file, places)
        _insert_list(connection, rows)


def _insert_together(connection: duckdb.DuckDBPyConnection, rows_file: str, places: dict[int, int]) -> None:
    """Insert the rows of files that were read together; a file that was not taken has no number."""
    connection.execute(
        "INSERT INTO ingest.raw_readings BY NAME SELECT numbers.file_id, rows.* EXCLUDE (_place) "
        "FROM read_parquet(?) AS rows "
        "JOIN (SELECT unnest(?)::BIGINT AS _place, unnest(?)::BIGINT AS file_id) AS numbers USING (_place)",
        [rows_file, list(places), list(places.values())],
    )


def _insert_list(connection: duckdb.DuckDBPyConnection, rows: list[tuple[object, ...]]) -> None:
    columns = [list(column) for column in zip(*rows, strict=True)]
    if not columns:
        return
    names = (
        ("file_id", "BIGINT"),
        ("path", "VARCHAR"),
        ("size_bytes", "BIGINT"),
        ("modified_at", "TIMESTAMP"),
        ("content_hash", "VARCHAR"),
        ("source_hash", "VARCHAR"),
        ("status", "VARCHAR"),
        ("reason", "VARCHAR"),
        ("n_rows", "BIGINT"),
        ("arrived_in", "BIGINT"),
        ("ingested_at", "TIMESTAMP"),
    )
    select = ", ".join(f"unnest(?::{type_name}[]) AS {name}" for name, type_name in names)
    connection.execute(f"INSERT INTO ingest.files BY NAME SELECT {select}", columns)


def _take_place(
    connection: duckdb.DuckDBPyConnection, staged: Staged, vanished: dict[str, KnownFile]
) -> KnownFile | None:
    """Return the file that a new one takes the place of: it is gone, and the new one has its readings, corrected."""
    candidates = [file.file_id for file in vanished.values() if file.status == "ingested"]
    file_id = find_predecessor(connection, staged.rows_file, staged.place, candidates)
    found = next((name for name, k in vanished.items() if k.file_id == file_id), None)
    return vanished.pop(found) if found is not None else None
