"""What every warehouse can do, whatever keeps it: a transaction, a snapshot, and room to work beside them."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from pwflow_core.errors import MemoryLimitError, NotFittedError
from pwflow_core.storage import explain_full_disk, spill_folder
from pwflow_core.warehouse.times import NIGHT_OF

__all__ = ["NO_MAINTENANCE", "Maintenance", "Warehouse", "committed", "prepare_session"]


_FILE_OF_ERROR = re.compile(r'"(/[^"\n]+)": ')

NO_MAINTENANCE = "The warehouse is one DuckDB file, which needs no maintenance."
"""What is said where `Warehouse.maintain` has nothing to do."""


@dataclass(frozen=True)
class Maintenance:
    """What maintenance did.

    Attributes:
        n_files: Data files before and after, of the tables as they are now.
        n_expired: Earlier commits that cannot be read any more.
        n_removed: Files that were removed; those of the last day stay, for whoever reads them.
    """

    n_files: tuple[int, int]
    n_expired: int
    n_removed: int

    def __str__(self) -> str:
        """Return it as a sentence."""
        return (
            f"{self.n_files[0]:,} data files became {self.n_files[1]:,}; {self.n_expired:,} earlier commits were "
            f"forgotten and {self.n_removed:,} files removed."
        )


class Warehouse(ABC):
    """Where the readings, the registry of models and the scores of a plant are kept.

    A transaction is opened, written and closed within moments: nothing trains, scores or plots while one is open.

    Attributes:
        location: Where it is, as messages call it.
        folder: The folder of this machine for files on their way, and for what DuckDB spills.
        wait_seconds: How long to wait for another process that is writing.
    """

    def __init__(self, location: str, folder: Path, *, wait_seconds: float, memory_limit: str) -> None:
        self.location = location
        self.folder = folder
        self.wait_seconds = wait_seconds
        self._memory_limit = memory_limit

    @property
    @abstractmethod
    def exists(self) -> bool:
        """Whether anything has been written yet."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Open it for writing, for one transaction: committed on success, else rolled back.

        Raises:
            WarehouseLockedError: Another process was writing for longer than `wait_seconds`.
            WarehouseDamagedError: It cannot be read any more.
            WarehouseVersionError: A newer release wrote it.
            StorageFullError: The disk is full; all is as it was.
            MemoryLimitError: The block needs more than the memory limit; all is as it was.
        """

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Open it for reading: all queries of the block see the same commit. Keep it short, for a writer may wait.

        Raises:
            NotFittedError: The plant has not been run yet.
            WarehouseLockedError: Another process was writing for longer than `wait_seconds`.
            WarehouseDamagedError: It cannot be read any more.
            WarehouseVersionError: A newer release wrote it.
        """

    @abstractmethod
    def commit_number(self, connection: duckdb.DuckDBPyConnection) -> int:
        """Return the number of the last commit that an open snapshot sees; a later commit has a larger one."""

    @abstractmethod
    def last_commit_number(self) -> int:
        """Return the number of the last commit without waiting for anybody; 0 if it cannot be told now."""

    def maintain(self, keep_days: int) -> Maintenance | None:
        """Put together what became many small files, and remove what nobody reads any more; None if it needs none.

        Arguments:
            keep_days: Days for which what the tables said can still be read.

        Raises:
            WarehouseLockedError: Another process was writing for longer than `wait_seconds`.
        """
        return None

    @contextmanager
    def scratch(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open an in-memory database with the same limits, for work that needs no warehouse."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._explaining():
            connection = self._connect_to(":memory:")
            try:
                prepare_session(connection)
                yield connection
            finally:
                connection.close()

    def _connect_to(
        self, database: str, *, read_only: bool = False, keep_order: bool = True, **settings: str
    ) -> duckdb.DuckDBPyConnection:
        limits: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": self._memory_limit,
            "temp_directory": str(spill_folder(self.folder / "spill")),
            "preserve_insertion_order": keep_order,
            **settings,
        }
        return duckdb.connect(database, read_only=read_only, config=limits)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """Turn DuckDB's errors about disk, memory and what it reads into those of pwflow."""
        try:
            yield
        except duckdb.Error as error:
            if full := explain_full_disk(error, self._place_of(error)):
                raise full from None
            if isinstance(error, duckdb.OutOfMemoryException):
                raise MemoryLimitError(
                    f"The step needs more than the {self._memory_limit} of compute.memory_limit, and this part of it "
                    "cannot be spilled to disk: raise the limit in pwflow.toml, or give the plant fewer sensors. "
                    "Nothing was written."
                ) from None
            self._explain(error)
            raise

    def _place_of(self, error: duckdb.Error) -> Path | str:
        """Return what is on the disk that an error is about: the file that it names, else the files on their way."""
        named = _FILE_OF_ERROR.search(str(error))
        return Path(named[1]).parent if named else self.folder

    @abstractmethod
    def _explain(self, error: duckdb.Error) -> None:
        """Raise the error of pwflow that this one means; return if it means none."""

    def _absent(self) -> NotFittedError:
        return NotFittedError(
            f"There is no warehouse at {self.location} yet: run `pwflow run` to ingest, learn and score."
        )


def prepare_session(connection: duckdb.DuckDBPyConnection) -> None:
    """Give a new connection what all SQL of pwflow relies on."""
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")  # it would be among what a command prints
    connection.execute(NIGHT_OF)


@contextmanager
def committed(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit what the block does, or roll all of it back."""
    connection.begin()
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()
