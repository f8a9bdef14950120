"""How the warehouse is opened: by URL, for one short transaction, waiting its turn.

A process that holds a DuckDB file for writing shuts every other one out, so nothing trains, scores or plots
while a connection from here is open.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from pwflow_core.config import PlantConfig
from pwflow_core.errors import ConfigurationError, NotFittedError, WarehouseLockedError
from pwflow_core.warehouse.sql import read_sql

__all__ = ["Warehouse"]

_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0
_HOLDER = re.compile(r"Conflicting lock is held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")
_BUSY = ("Could not set lock", "different configuration than existing connections")


class Warehouse:
    """One DuckDB file with the readings, models' registry and scores of a plant.

    Attributes:
        path: The file.
        wait_seconds: How long to wait for another process that holds it.
    """

    def __init__(self, path: Path, *, wait_seconds: float, memory_limit: str) -> None:
        self.path = path
        self.wait_seconds = wait_seconds
        self._memory_limit = memory_limit
        self._has_schema = False

    @classmethod
    def from_config(cls, config: PlantConfig) -> Warehouse:
        """Return the warehouse of a plant; the file is made by the first transaction."""
        return cls(
            config.warehouse_path,
            wait_seconds=config.warehouse.wait_seconds,
            memory_limit=config.compute.memory_limit,
        )

    @property
    def exists(self) -> bool:
        """Whether anything has been written yet."""
        return self.path.exists()

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the file for writing, for one transaction: committed on success, else rolled back.

        Raises:
            WarehouseLockedError: Another process held the file for longer than `wait_seconds`.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = self._connect(read_only=False)
        try:
            if not self._has_schema:
                with _committed(connection):
                    connection.execute(read_sql(__package__, "schema.sql"))
                self._has_schema = True
            with _committed(connection):
                yield connection
        finally:
            connection.close()

    @contextmanager
    def snapshot(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the file for reading; writers wait until the block ends, so keep it short.

        Raises:
            NotFittedError: There is no warehouse yet.
            WarehouseLockedError: Another process held the file for longer than `wait_seconds`.
        """
        absent = NotFittedError(
            f"There is no warehouse at {self.path} yet: run `pwflow run` to ingest, learn and score."
        )
        if not self.exists:
            raise absent
        connection = self._connect(read_only=True)
        try:
            if not connection.execute("SELECT 1 FROM duckdb_schemas() WHERE schema_name = 'mart'").fetchall():
                raise absent  # a run was killed before its first table
            yield connection
        finally:
            connection.close()

    def bring_up_to_date(self) -> None:
        """Give a warehouse that an earlier release made the tables and columns of this one, before they are read."""
        if self.exists and not self._has_schema:
            with self.transaction():
                pass

    @contextmanager
    def scratch(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open an in-memory database with the same limits, for work that needs no warehouse."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = self._open(":memory:")
        try:
            yield connection
        finally:
            connection.close()

    def _open(self, database: str, *, read_only: bool = False, keep_order: bool = True) -> duckdb.DuckDBPyConnection:
        limits: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": self._memory_limit,
            "temp_directory": str(self.path.parent / "spill"),
            "preserve_insertion_order": keep_order,
        }
        connection = duckdb.connect(database, read_only=read_only, config=limits)
        connection.execute("SET TimeZone = 'UTC'")
        return connection

    def _connect(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        deadline = time.monotonic() + self.wait_seconds
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                # DuckDB 2.0.0 loses what a large insert writes behind an empty one into the same table, in one
                # transaction, where it keeps the order of insertion on several threads
                return self._open(str(self.path), read_only=read_only, keep_order=read_only)
            except (duckdb.IOException, duckdb.ConnectionException) as error:
                if not any(sign in str(error) for sign in _BUSY):
                    if "not a valid DuckDB database" in str(error):
                        raise ConfigurationError(
                            f"Expected a DuckDB database at {self.path}, got a file of another kind: point "
                            "warehouse.url at another path, or move that file away."
                        ) from None
                    raise
                if time.monotonic() + pause > deadline:
                    raise WarehouseLockedError(self._explain_lock(error)) from None
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _explain_lock(self, error: duckdb.Error) -> str:
        holder = _HOLDER.search(str(error))
        who = f"{holder['program']} (process {holder['pid']})" if holder else "another connection"
        return (
            f"The warehouse {self.path} is held by {who}, and it was not free within "
            f"{self.wait_seconds:g} s: close that program or raise warehouse.wait_seconds, then run again. "
            "To query scores at any time, open the published copy instead."
        )


@contextmanager
def _committed(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit what the block does, or roll all of it back."""
    connection.begin()
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()
