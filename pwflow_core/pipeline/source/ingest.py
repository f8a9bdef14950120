"""Ingest: every file of the source into `raw_readings`, once; a changed file again; a broken one refused."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from pwflow_core.errors import SourceError
from pwflow_core.files import readable_name
from pwflow_core.opening import list_members, split_member
from pwflow_core.pipeline.source.batches import group_small, read_small, stage_together
from pwflow_core.pipeline.source.inserting import Arrival, KnownFile, insert_files, read_known_files
from pwflow_core.pipeline.source.renaming import may_be_renamed, rename, rename_known
from pwflow_core.pipeline.source.settling import settle_source
from pwflow_core.pipeline.source.source import (
    SOURCE_FACT,
    FileState,
    Source,
    find_files,
    know_files,
    label_files,
    look_at_file,
)
from pwflow_core.pipeline.source.staging import QUERY_PATH, stage_file, stage_query
from pwflow_core.plant import Plant
from pwflow_core.redaction import hide_secrets
from pwflow_core.storage import working_folder
from pwflow_core.warehouse import fetch_value
from pwflow_core.warehouse.progress import write_fact
from pwflow_core.warehouse.tables import add_sensor_columns

__all__ = ["IngestSummary", "ingest_files", "list_source_files"]

_log = logging.getLogger("pwflow.ingest")

_ROWS_PER_TRANSACTION = 1_000_000
_FILES_PER_TRANSACTION = 2_000


@dataclass(frozen=True)
class IngestSummary:
    """What one ingest did with the files of the source.

    Attributes:
        n_new: Files read for the first time.
        n_changed: Files read again because they, or the configuration of the source, changed.
        n_unchanged: Files that were read before and are as they were.
        refused: Files that could not be read, with the reason.
        n_rows: Rows read in this run.
        n_raw: Rows in `raw_readings` now.
        version: Changes when, and only when, `raw_readings` does.
    """

    n_new: int
    n_changed: int
    n_unchanged: int
    refused: dict[str, str]
    n_rows: int
    n_raw: int
    version: str


def ingest_files(plant: Plant) -> IngestSummary:
    """Read what is new or changed in the source into `raw_readings`; each file is taken once.

    Rows are staged outside the warehouse and inserted in short transactions of whole files, so that an
    interrupted ingest goes on where it stopped.

    Raises:
        SourceError: Nothing matches the source, or no file of it could ever be read.
    """
    is_query = plant.config.source.sql is not None
    files = list_source_files(plant)
    source = settle_source(plant, files)
    names, labels = know_files(plant.config, files), label_files(plant.config, files)
    known = _prepare(plant, source, names)
    present = set(names.values())
    vanished = {} if is_query else {name: file for name, file in known.items() if name not in present}
    moved = _by_content(vanished) if may_be_renamed(source) else {}
    counts: Counter[str] = Counter()
    refused: dict[str, str] = {}
    unread: list[FileState] = []
    for file in files:
        name = names[file.path]
        earlier = known.get(name)
        if not is_query and earlier and earlier.removed_at is not None:
            counts["unchanged"] += 1
            if not _is_same(earlier, file):
                _log.warning("%s changed, but is not read again: its readings were removed (retention)", name)
        elif not is_query and earlier and _is_same(earlier, file) and earlier.source_hash == source.hash:
            counts["unchanged"] += 1
            if earlier.reason:
                refused[name] = earlier.reason
        elif not earlier and moved and (old := _find_moved(plant, file, name, moved)):
            vanished.pop(old)
            counts["unchanged"] += 1
        else:
            unread.append(file)
    n_done = n_waiting = 0
    with working_folder(plant.warehouse.folder, "staging") as folder:
        waiting: list[Arrival] = []
        for number, group in enumerate(group_small(unread, source)):
            for arrival in _look_at(plant, group, labels, source, known, names, folder / str(number)):
                name = names[arrival.state.path]
                earlier = known.get(name)
                if arrival.staged:
                    counts["changed" if earlier and earlier.status == "ingested" else "new"] += 1
                    counts["rows"] += arrival.staged.n_rows
                    n_waiting += arrival.staged.n_rows
                elif arrival.refusal:
                    refused[name] = arrival.refusal
                    _log.warning("%s", arrival.refusal)
                else:
                    counts["unchanged"] += 1
                waiting.append(arrival)
            n_done += len(group)
            if n_waiting >= _ROWS_PER_TRANSACTION or len(waiting) >= _FILES_PER_TRANSACTION:
                insert_files(plant, source, waiting, names, vanished)
                waiting, n_waiting = [], 0
                _log.info("%d of %d files, %s rows", n_done, len(unread), f"{counts['rows']:,}")
        if waiting:
            insert_files(plant, source, waiting, names, vanished)
    if refused and len(refused) == len(files):
        reason = next(iter(refused.values()))
        raise SourceError(f"None of the {len(files)} files of the source could be read; the first: {reason}")
    with plant.warehouse.snapshot() as connection:
        n_raw = fetch_value(connection, "SELECT count(*) FROM ingest.raw_readings")
        last = fetch_value(
            connection,
            "SELECT max(greatest(arrived_in, coalesce(superseded_in, 0))) FROM ingest.files WHERE status = 'ingested'",
        )
    return IngestSummary(
        n_new=counts["new"],
        n_changed=counts["changed"],
        n_unchanged=counts["unchanged"],
        refused=refused,
        n_rows=counts["rows"],
        n_raw=n_raw,
        version=f"{source.hash}-{last or 0}",
    )


def list_source_files(plant: Plant) -> list[FileState]:
    """Return the files of the source as they are now; those of the simulated plant are written first.

    Raises:
        SourceError: Nothing matches the source.
    """
    if plant.config.source.sql is not None:
        return [FileState(QUERY_PATH, 0, datetime(1970, 1, 1))]  # noqa: DTZ001 - naive UTC
    days = plant.config.source.simulated_days
    if days is None:
        return find_files(plant.config)
    from pwflow_core.simulation import write_exports

    written = write_exports(plant.config.folder, days=days)
    paths = tuple(str(file) for file in written.exports)
    source = plant.config.source.model_copy(update={"path": paths, "simulated_days": None})
    return find_files(plant.config.model_copy(update={"source": source}))


def _prepare(plant: Plant, source: Source, names: dict[str, str]) -> dict[str, KnownFile]:
    """Make room for the sensors, and return the files that were read before, by name."""
    with plant.warehouse.transaction() as connection:
        rename_known(connection, names)
        add_sensor_columns(connection, [(sensor.name, sensor.unit) for sensor in source.sensors])
        write_fact(connection, SOURCE_FACT, source.to_json())
        return read_known_files(connection)


def _by_content(vanished: dict[str, KnownFile]) -> dict[int, dict[str, str]]:
    """Return the names of files that were read and are gone, by size and content."""
    found: dict[int, dict[str, str]] = {}
    for name, file in vanished.items():
        if file.status == "ingested":
            found.setdefault(file.size_bytes, {})[file.content_hash] = name
    return found


def _find_moved(plant: Plant, file: FileState, name: str, moved: dict[int, dict[str, str]]) -> str | None:
    """Return the name under which a new file was read before, if it is gone there; the new name takes its place."""
    if file.size_bytes not in moved:
        return None
    try:
        old = moved[file.size_bytes].pop(_content_of_file(file), None)
    except SourceError:
        return None
    if old is not None:
        with plant.warehouse.transaction() as connection:
            rename(connection, old, name)
            connection.execute(
                "UPDATE ingest.files SET modified_at = ? WHERE path = ? AND superseded_in IS NULL",
                [file.modified_at, name],
            )
    return old


def _is_same(known: KnownFile, file: FileState) -> bool:
    return (known.size_bytes, known.modified_at) == (file.size_bytes, file.modified_at)


def _look_at(
    plant: Plant,
    group: list[FileState],
    labels: dict[str, str],
    source: Source,
    known: dict[str, KnownFile],
    names: dict[str, str],
    target: Path,
) -> list[Arrival]:
    """Stage files: together, if they are small and alike, else one by one."""
    if len(group) > 1 and (together := _look_together(plant, group, labels, source, known, names, target)):
        return together
    return [
        _look(
            plant,
            file,
            labels[file.path],
            source,
            known.get(names[file.path]),
            target.with_name(f"{target.name}-{place}.parquet"),
        )
        for place, file in enumerate(group)
    ]


def _look_together(
    plant: Plant,
    group: list[FileState],
    labels: dict[str, str],
    source: Source,
    known: dict[str, KnownFile],
    names: dict[str, str],
    target: Path,
) -> list[Arrival] | None:
    """Stage small files in one go; None if they have to be looked at one by one."""
    small = []
    for file in group:
        one = read_small(file.path, labels[file.path], source)
        if one is None:
            return None
        small.append(one)
    arrivals: dict[str, Arrival] = {}
    fresh = []
    for file, one in zip(group, small, strict=True):
        earlier = known.get(names[file.path])
        if earlier and earlier.content_hash == one.content_hash and earlier.source_hash == source.hash:
            arrivals[file.path] = Arrival(file, one.content_hash)
        else:
            fresh.append((file, one))
    if fresh:
        with plant.warehouse.scratch() as scratch:
            staged = stage_together(scratch, [one for _, one in fresh], source, target.with_suffix(".parquet"))
        if staged is None:
            return None
        for (file, one), rows in zip(fresh, staged, strict=True):
            if look_at_file(file.path) != file:
                return None  # it changed while it was read
            arrivals[file.path] = Arrival(file, one.content_hash, rows)
    return [arrivals[file.path] for file in group]


def _look(
    plant: Plant, file: FileState, label: str, source: Source, earlier: KnownFile | None, target: Path
) -> Arrival:
    """Stage a file, unless it turns out to be the one that was read before, or say why it cannot be."""
    with plant.warehouse.scratch() as scratch:
        try:
            if plant.config.source.sql is not None:
                staged = stage_query(scratch, plant.config.source.sql, source, target)
                content_hash = _content_of_rows(scratch, target)
            else:
                content_hash = _content_of_file(file)
                staged = None
            if earlier and earlier.content_hash == content_hash and earlier.source_hash == source.hash:
                return Arrival(file, content_hash)
            staged = staged or stage_file(scratch, file.path, label, source, target)
        except SourceError as error:
            return Arrival(file, "", refusal=readable_name(hide_secrets(str(error))))
    if plant.config.source.sql is None and "://" not in file.path and look_at_file(file.path) != file:
        return Arrival(
            file, "", refusal=f"{readable_name(file.path)} changed while it was read: it is left for the next run."
        )
    return Arrival(file, content_hash, staged)


def _content_of_file(file: FileState) -> str:
    if "://" in file.path:
        return f"{file.size_bytes}-{file.modified_at.isoformat()}"
    archive, member = split_member(file.path)
    if member:
        return next(checksum for name, _, checksum in list_members(archive) if name == member)
    try:
        with archive.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise SourceError(f"{file.path} cannot be read: {error.strerror}.") from None


def _content_of_rows(scratch: duckdb.DuckDBPyConnection, staged: Path) -> str:
    row = scratch.execute("SELECT count(*), sum(hash(r)) FROM read_parquet(?) r", [str(staged)]).fetchone()
    return "-".join(map(str, row or ()))
