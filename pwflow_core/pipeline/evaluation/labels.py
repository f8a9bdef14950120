"""Labels: what is known about when a plant was faulty, from a file, from a column of the source, or simulated.

Whatever form they come in, they become faults: a machine, a first and a last time (UTC, both included), a kind.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from zoneinfo import available_timezones

import duckdb
import numpy as np
import pandas as pd

from pwflow_core.errors import LabelsError, MissingColumnError, PwflowError, SourceError, first_line
from pwflow_core.files import is_parquet
from pwflow_core.marks import ONLY_MACHINE
from pwflow_core.pipeline.source.source import Sensor, find_files, know_files, read_source
from pwflow_core.pipeline.source.staging import stage_file, stage_query
from pwflow_core.plant import Plant
from pwflow_core.spelling import InstantSpelling, read_zones
from pwflow_core.storage import working_folder
from pwflow_core.warehouse import fetch_value, quote_identifier, quote_literal, read_sql, registered

__all__ = [
    "Fault",
    "Labels",
    "labels_from_column",
    "labels_from_file",
    "labels_of_cases",
    "labels_of_simulation",
]

_MACHINE_COLUMNS = ("machine", "machine_id")
_TIME_COLUMNS = ("ts", "time", "timestamp")
_NO_KIND = "fault"


@dataclass(frozen=True)
class Fault:
    """One fault of a machine: its first and last time (UTC, both included) and what kind it is."""

    machine_id: str
    started_at: np.datetime64
    ended_at: np.datetime64
    kind: str


@dataclass(frozen=True, eq=False)
class Labels:
    """Faults, and the time for which it is known whether there was one.

    Attributes:
        faults: The faults, by machine and start.
        known: Columns `machine_id`, `known_from`, `known_until`; None if faults are known for all time.
    """

    faults: list[Fault]
    known: pd.DataFrame | None = None


def labels_of_simulation(plant: Plant) -> Labels:
    """Return the faults that the simulated plant was given.

    Raises:
        LabelsError: The source is not the simulated plant, or it has not been simulated yet.
    """
    if plant.config.source.simulated_days is None:
        raise LabelsError(
            "Expected labels: name a file with them, or a column of the source with --column. Only the simulated "
            "plant knows its own."
        )
    path = plant.config.folder / "truth" / "faults.parquet"
    if not path.exists():
        raise LabelsError(f"There is no {path} yet: run `pwflow demo` first.")
    return labels_from_file(plant, path)


def labels_of_cases(plant: Plant) -> Labels:
    """Return what people said of cases: those marked as a fault are faults, from their first to their last event.

    Time in cases that nobody marked, or whose cause is known, is left out: it is neither faulty nor healthy.

    Raises:
        LabelsError: No case is marked as a fault.
    """
    with plant.warehouse.snapshot() as connection:
        faults = connection.execute(read_sql(__package__, "case_faults.sql"))
        found = _faults(faults)
        known = connection.execute(read_sql(__package__, "case_known.sql")).df()
    if not found:
        raise LabelsError(
            "Expected cases marked as a fault, got none: `pwflow cases --all` lists them, `pwflow mark CASE --fault` "
            "marks one."
        )
    return Labels(found, known)


def labels_from_file(plant: Plant, path: Path, timezone: str | None = None) -> Labels:
    """Read labels from a CSV or Parquet file.

    Either one row per fault, with columns machine, start, end and maybe kind; or one row per reading, with columns
    machine, time (or ts, or timestamp) and label (0 or 1), and maybe kind. The machine may be left out if the plant
    has one.

    Arguments:
        plant: The plant.
        path: The file.
        timezone: Zone of times that carry none; that of the source if None.

    Raises:
        LabelsError: The file cannot be read, lacks a column, or has times whose zone nobody names.
    """
    zone = timezone or plant.config.source.timezone
    if zone is not None and zone not in available_timezones():
        raise LabelsError(f"Expected a time zone such as 'UTC' or 'Europe/Berlin', got {zone!r}.")
    if not path.is_file():
        raise LabelsError(
            f"Expected a CSV or Parquet file with labels, but there is {'a folder' if path.is_dir() else 'no file'} at "
            f"{path}: name a file with the columns machine, start, end, or machine, time, label."
        )
    with plant.warehouse.scratch() as scratch:
        name = quote_literal(str(path))
        reader = f"read_parquet({name})" if is_parquet(path) else f"read_csv({name}, all_varchar = true)"
        try:
            scratch.execute(f"CREATE TABLE given AS SELECT * FROM {reader}")
        except duckdb.Error as error:
            raise LabelsError(
                f"Expected labels as CSV or Parquet, but {path} cannot be read: {first_line(error)}."
            ) from None
        if not fetch_value(scratch, "SELECT count(*) FROM given"):
            raise LabelsError(
                f"Expected labels in {path}, got no rows: give one row per fault (machine, start, end) or one per "
                "reading (machine, time, label)."
            )
        columns = {row[0].casefold(): row[0] for row in scratch.execute("DESCRIBE given").fetchall()}
        machine = _machine_column(plant, columns, path)
        kind = _text(columns["kind"]) if "kind" in columns else "NULL"
        if {"start", "end"} <= columns.keys():
            times = {"started_at": columns["start"], "ended_at": columns["end"]}
            values = {"kind": f"coalesce({kind}, {quote_literal(_NO_KIND)})"}
        else:
            times = {"ts": _time_column(plant, columns, path)}
            values = {"kind": kind, "label": f"try_cast({quote_identifier(columns['label'])} AS DOUBLE)"}
        selected = [f"{machine} AS machine_id", *(f"{value} AS {name}" for name, value in values.items())]
        selected += [f"{_utc(scratch, column, zone, path)} AS {name}" for name, column in times.items()]
        scratch.execute(f"CREATE TABLE labels AS SELECT {', '.join(selected)} FROM given")
        unread = f"SELECT count(*) FROM labels WHERE {' OR '.join(f'{n} IS NULL' for n in times)}"
        if n_unread := fetch_value(scratch, unread):
            raise LabelsError(f"{path} has {n_unread:,} rows without a readable time: correct or drop them.")
        if "ts" in times:
            return _from_points(scratch, str(path))
        return Labels(
            _faults(scratch.execute("SELECT machine_id, started_at, ended_at, kind FROM labels ORDER BY ALL"))
        )


def labels_from_column(plant: Plant, column: str) -> Labels:
    """Read labels from a column of the source that is 0 or 1, by reading the ingested files again.

    Raises:
        LabelsError: A file has gone or has no such column, or the column is not 0 or 1.
    """
    with plant.warehouse.snapshot() as connection:
        source = replace(read_source(connection), sensors=(Sensor("label", column),))
        files = connection.execute(
            "SELECT file_id, path FROM ingest.files WHERE status = 'ingested' AND superseded_in IS NULL"
        ).fetchall()
    paths = _paths(plant) if plant.config.source.sql is None else {}
    with working_folder(plant.warehouse.folder, "labels") as folder:
        with plant.warehouse.scratch() as scratch:
            for file_id, name in files:
                target = folder / f"{file_id}.parquet"
                try:
                    if plant.config.source.sql is None:
                        stage_file(scratch, paths.get(name, name), name, source, target)
                    else:
                        stage_query(scratch, plant.config.source.sql, source, target)
                except MissingColumnError as error:
                    raise LabelsError(
                        f"Expected a column {column!r} of 0 and 1 in {name}, got {', '.join(map(repr, error.known))}: "
                        "name one of those, or a file with labels."
                    ) from None
                except PwflowError as error:
                    raise LabelsError(f"The labels cannot be read from the source: {error}") from None
        with plant.warehouse.snapshot() as connection:
            points = connection.execute(
                """
                SELECT reading.machine_id, reading.ts, NULL::VARCHAR AS kind, staged.label
                FROM read_parquet($files, filename = true) AS staged
                JOIN core.readings AS reading
                  ON reading.file_id = parse_filename(staged.filename, true)::BIGINT
                 AND reading.row_number = staged.row_number
                """,
                {"files": f"{folder}/*.parquet"},
            ).df()
    with plant.warehouse.scratch() as scratch:
        with registered(scratch, points=points):
            scratch.execute("CREATE TABLE labels AS FROM points")
        return _from_points(scratch, f"column {column!r} of the source")


def _paths(plant: Plant) -> dict[str, str]:
    """Return where the files of the source are by the names that they are known by."""
    try:
        files = find_files(plant.config)
    except SourceError as error:
        raise LabelsError(f"The labels cannot be read from the source: {error}") from None
    return {name: path for path, name in know_files(plant.config, files).items()}


def _from_points(scratch: duckdb.DuckDBPyConnection, where: str) -> Labels:
    """Turn the table `labels` (machine_id, ts, kind, label) into faults: readings labelled 1 in a row are one."""
    wrong = "SELECT count(*) FROM labels WHERE label IS NULL OR label NOT IN (0, 1)"
    if n_wrong := fetch_value(scratch, wrong):
        raise LabelsError(f"Expected labels of 0 or 1 in {where}, got {n_wrong:,} others: correct them.")
    faults = _faults(scratch.execute(read_sql(__package__, "labels.sql"), {"no_kind": _NO_KIND}))
    known = scratch.execute(
        "SELECT machine_id, min(ts) AS known_from, max(ts) AS known_until FROM labels GROUP BY machine_id ORDER BY ALL"
    ).df()
    return Labels(faults, known)


def _faults(result: duckdb.DuckDBPyConnection) -> list[Fault]:
    return [
        Fault(machine, np.datetime64(start, "us"), np.datetime64(end, "us"), kind)
        for machine, start, end, kind in result.fetchall()
    ]


def _machine_column(plant: Plant, columns: dict[str, str], path: Path) -> str:
    configured = plant.config.source.machine
    for name in (*_MACHINE_COLUMNS, (configured or "").casefold()):
        if name in columns:
            return _text(columns[name])
    if configured is None:
        return quote_literal(ONLY_MACHINE)
    raise LabelsError(
        f"{path} has no column 'machine'; it has {', '.join(map(repr, columns.values()))}. Name the machines as "
        "the source does."
    )


def _time_column(plant: Plant, columns: dict[str, str], path: Path) -> str:
    configured = plant.config.source.timestamp
    names = (*_TIME_COLUMNS, configured.casefold() if isinstance(configured, str) else "")
    found = next((columns[name] for name in names if name in columns), None)
    if found is None or "label" not in columns:
        raise LabelsError(
            f"Expected the columns machine, start, end (one row per fault) or machine, time, label (one row per "
            f"reading) in {path}, got {', '.join(map(repr, columns.values()))}: rename them."
        )
    return found


def _text(column: str) -> str:
    return f"nullif(trim({quote_identifier(column)}::VARCHAR), '')"


def _utc(scratch: duckdb.DuckDBPyConnection, column: str, zone: str | None, path: Path) -> str:
    """Return the SQL that turns a column of `given` into a time in UTC."""
    text = f"trim({quote_identifier(column)}::VARCHAR)"
    spelling = InstantSpelling(None, zone)
    naive = fetch_value(scratch, f"SELECT any_value({text}) FROM given WHERE {spelling.is_naive(text)}")
    if zone is None and naive is not None:
        raise LabelsError(
            f"Expected times with a time zone in column {column!r} of {path}, got {naive!r}: add --timezone with "
            "the zone that they are in."
        )
    return replace(spelling, zones=read_zones(scratch, "given", text, spelling)).instant(text)
