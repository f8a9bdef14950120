"""The warehouse as one DuckDB file: opened for one short transaction at a time, waiting its turn.

A process that holds a DuckDB file for writing shuts every other one out, so nothing trains, scores or plots
while a connection from here is open.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from pwflow_core.config import PlantConfig
from pwflow_core.errors import (
    ConfigurationError,
    StorageFullError,
    WarehouseDamagedError,
    WarehouseLockedError,
    first_line,
)
from pwflow_core.warehouse.base import Warehouse, committed, prepare_session
from pwflow_core.warehouse.ledger import Ledger, count_commits, describe_losses, read_ledger, take_stock, write_ledger
from pwflow_core.warehouse.lock import HeldError, explain_busy, hold, wait_for
from pwflow_core.warehouse.migration import SCHEMA_VERSION, find_version, migrate
from pwflow_core.warehouse.times import utc_now

__all__ = ["FileWarehouse"]

_log = logging.getLogger("pwflow.warehouse")

_LOG_DAMAGED = "while replaying WAL file"
_POSITION = re.compile(r"entry at byte position (\d+)")
_FILE_DAMAGED = ("Corrupt database file", "Could not read enough bytes")


class FileWarehouse(Warehouse):
    """One DuckDB file with the readings, models' registry and scores of a plant.

    Commits that the file has lost since the last one are noticed, logged and recorded in `core.recoveries`.

    Attributes:
        path: The file.
        ledger_path: The file beside it that says what it held after its last commit.
        lock_path: The file beside it that a process locks before it opens the warehouse.
    """

    def __init__(self, path: Path, *, wait_seconds: float, memory_limit: str, folder: Path | None = None) -> None:
        super().__init__(str(path), folder or path.parent, wait_seconds=wait_seconds, memory_limit=memory_limit)
        self.path = path
        self.ledger_path = path.with_name(f"{path.name}.ledger")
        self.lock_path = path.with_name(f"{path.name}.lock")

    @classmethod
    def from_config(cls, config: PlantConfig) -> FileWarehouse:
        """Return the warehouse of a plant; the file is made by the first transaction."""
        return cls(
            config.warehouse_path,
            wait_seconds=config.warehouse.wait_seconds,
            memory_limit=config.compute.memory_limit,
            folder=config.scratch_folder,
        )

    @property
    def exists(self) -> bool:
        """Whether anything has been written yet."""
        return self.path.exists()

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the file for writing, for one transaction; see `Warehouse.transaction`."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._opened(read_only=False) as connection:
            self._prepare(connection)
            with committed(connection):
                yield connection
                connection.execute("UPDATE core.warehouse_state SET commit_number = commit_number + 1")
            self._write_ledger(connection)

    @contextmanager
    def snapshot(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the file for reading; writers wait until the block ends. See `Warehouse.snapshot`."""
        if not self.exists:
            raise self._absent()
        with self._opened(read_only=True) as connection:
            if not (version := find_version(connection)):
                raise self._absent()  # a run was killed before its first table
            if version == SCHEMA_VERSION and not _count_lost(read_ledger(self.ledger_path), connection):
                connection.begin()
                yield connection
                return
        with self.transaction():
            pass  # brings it up to date, and says what is missing
        with self._opened(read_only=True) as connection:
            connection.begin()
            yield connection

    def commit_number(self, connection: duckdb.DuckDBPyConnection) -> int:
        """Return how many commits an open snapshot sees."""
        return count_commits(connection)

    def last_commit_number(self) -> int:
        """Return how many commits the file has, as the ledger beside it says; nothing waits for it."""
        ledger = read_ledger(self.ledger_path)
        return 0 if ledger is None else ledger.commit_number

    def _prepare(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make or update the tables; record which commits are missing since the ledger was written."""
        ledger = read_ledger(self.ledger_path)
        lost = _count_lost(ledger, connection)
        if (found := find_version(connection)) < SCHEMA_VERSION:
            with committed(connection):
                migrate(connection, found)
        if not lost or ledger is None:
            return
        missing = describe_losses(ledger, take_stock(connection))
        what = (
            f"The warehouse {self.path} lacks its last {lost:,} commits; missing are {missing}. "
            "The run that follows makes again what is derived from the files of the source and the model store; "
            "decisions of people are to be repeated."
        )
        with committed(connection):
            connection.execute(
                "INSERT INTO core.recoveries (noticed_at, what) VALUES (?, ?)",
                [utc_now(), what],
            )
            connection.execute("UPDATE core.warehouse_state SET commit_number = ?", [ledger.commit_number])
        _log.warning("%s", what)

    def _write_ledger(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Say what the last commit left; it holds, also where there is no room to say so."""
        try:
            write_ledger(self.ledger_path, take_stock(connection))
        except StorageFullError as error:
            _log.warning("The last commit is in the warehouse, but not in %s: %s", self.ledger_path, error)

    def _explain(self, error: duckdb.Error) -> None:
        """Raise what a damaged file means."""
        if any(sign in str(error) for sign in _FILE_DAMAGED):
            raise WarehouseDamagedError(
                f"The warehouse {self.path} is damaged ({first_line(error)}): restore it from a backup, "
                f"or move it and {self.ledger_path.name} away and run again, which reads every file of the source "
                "again."
            ) from None

    @contextmanager
    def _opened(self, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the file in turn, and close it when the block ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._explaining():
            connection, lock = self._wait_for_turn(read_only=read_only)
            with lock:
                if read_only:
                    lock.close()  # DuckDB's own lock keeps writers out from now on
                try:
                    yield connection
                finally:
                    connection.close()

    def _wait_for_turn(self, *, read_only: bool) -> tuple[duckdb.DuckDBPyConnection, ExitStack]:
        """Return a connection and the lock beside the file, which is held."""

        def attempt() -> tuple[duckdb.DuckDBPyConnection, ExitStack]:
            with ExitStack() as lock:
                lock.enter_context(hold(self.lock_path))
                return self._connect(read_only=read_only), lock.pop_all()

        try:
            return wait_for(attempt, wait_seconds=self.wait_seconds)
        except HeldError as error:
            raise WarehouseLockedError(
                f"The warehouse {self.path} is held by {error.holder or 'another connection'}, and it was not free "
                f"within {self.wait_seconds:g} s: close that program or raise warehouse.wait_seconds, then run "
                "again. To query scores at any time, open the published copy instead."
            ) from None

    def _connect(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        while True:
            try:
                # DuckDB 2.0.0, unlike 2.0.1, loses what a large insert writes behind an empty one into the same table,
                # in one transaction, where it keeps the order of insertion on several threads
                connection = self._connect_to(str(self.path), read_only=read_only, keep_order=read_only)
            except duckdb.Error as error:
                if _LOG_DAMAGED in str(error):
                    self._set_log_aside(error)
                    continue
                if busy := explain_busy(error):
                    raise busy from None
                if "not a valid DuckDB database" in str(error):
                    raise ConfigurationError(
                        f"Expected a DuckDB database at {self.path}, got a file of another kind: point "
                        "warehouse.url at another path, or move that file away."
                    ) from None
                raise
            prepare_session(connection)
            return connection

    def _set_log_aside(self, error: duckdb.Error) -> None:
        """Keep a write-ahead log that cannot be replayed under another name, and go on with its intact beginning."""
        log = self.path.with_name(f"{self.path.name}.wal")
        aside = log.with_name(f"{log.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
        log.replace(aside)
        position = _POSITION.search(str(error))
        if position and int(position[1]) < aside.stat().st_size:
            shutil.copyfile(aside, log)
            os.truncate(log, int(position[1]))
        _log.warning("The end of the log of %s is damaged; it is kept as %s", self.path, aside)


def _count_lost(ledger: Ledger | None, connection: duckdb.DuckDBPyConnection) -> int:
    return max(0, ledger.commit_number - count_commits(connection)) if ledger else 0
