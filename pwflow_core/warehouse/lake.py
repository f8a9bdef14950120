"""The warehouse as a DuckLake: Parquet files, and a catalog of them that several processes, or machines, share.

What a commit wrote stays until maintenance removes it, so that a snapshot reads the same commit to its end while others
write. Writers take turns: DuckLake looks for conflicts by table, and each step writes into tables that all share.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import duckdb

from pwflow_core.errors import (
    ConfigurationError,
    PwflowError,
    StorageFullError,
    WarehouseDamagedError,
    WarehouseInterruptedError,
    WarehouseUnreachableError,
    first_line,
)
from pwflow_core.warehouse.base import Maintenance, Warehouse, committed, prepare_session
from pwflow_core.warehouse.catalogs import Catalog
from pwflow_core.warehouse.engine import LAKE, Engine, find_engine, load_extensions
from pwflow_core.warehouse.lock import HeldError, wait_for
from pwflow_core.warehouse.migration import SCHEMA_VERSION, find_version, migrate
from pwflow_core.warehouse.sql import fetch_value, read_sql

__all__ = ["LakeWarehouse"]

_log = logging.getLogger("pwflow.warehouse")

_VIEW = re.compile(r"VIEW (\w+\.\w+) AS")
_MISSING_FILE = re.compile(r"(?:Cannot open file|No files found that match the pattern) \"([^\"]+)\"")
_OTHER_DATA = re.compile(
    r"DATA_PATH parameter \"([^\"]*)\" does not match existing data path in the catalog \"([^\"]*)\""
)
_LOST = ("Failed to execute query", "Failed to prepare query", "Failed to commit")
"""What DuckDB says itself; what Postgres adds to it is in the language of the server."""


class LakeWarehouse(Warehouse):
    """A DuckLake with the readings, models' registry and scores of a plant.

    Attributes:
        catalog: Where it is listed which files hold what, and who writes next.
        data: Folder or URL of the Parquet files.
    """

    def __init__(self, catalog: Catalog, data: str, folder: Path, *, wait_seconds: float, memory_limit: str) -> None:
        super().__init__(catalog.location, folder, wait_seconds=wait_seconds, memory_limit=memory_limit)
        self.catalog = catalog
        self.data = f"{data.rstrip('/')}/{catalog.subfolder}"

    @property
    def exists(self) -> bool:
        """Whether anything has been written yet."""
        with self._explaining():
            return self.catalog.exists(self._engine())

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Take the turn to write, for one transaction; see `Warehouse.transaction`.

        Raises:
            WarehouseInterruptedError: The connection to the catalog was lost, or somebody else wrote meanwhile; nothing
                was written, and the whole block may be repeated.
        """
        mark = uuid4().hex
        try:
            with self._explaining(), self.catalog.writing(self._engine(), self.wait_seconds) as turn:
                connection = turn.connection
                prepare_session(connection)
                self._prepare(connection)
                connection.begin()
                yield connection
                connection.execute(f"CALL {LAKE}.set_commit_message('pwflow', '', extra_info => ?)", [mark])
                turn.check()
                connection.commit()
        except (WarehouseInterruptedError, StorageFullError) as error:
            if not self._has(mark):
                raise
            if isinstance(error, StorageFullError):
                _log.warning("The last commit is in the warehouse, but there is little room left: %s", error)

    @contextmanager
    def snapshot(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Read one commit; see `Warehouse.snapshot`."""
        if not self.exists:
            raise self._absent()
        with self._reading() as connection:
            if not (version := find_version(connection)):
                raise self._absent()  # a run was killed before its first table
            if version == SCHEMA_VERSION:
                connection.begin()
                yield connection
                return
        with self.transaction():
            pass  # brings it up to date
        with self._reading() as connection:
            connection.begin()
            yield connection

    def commit_number(self, connection: duckdb.DuckDBPyConnection) -> int:
        """Return the number of the commit that an open snapshot sees."""
        return int(fetch_value(connection, f"SELECT id FROM {LAKE}.current_snapshot()"))

    def last_commit_number(self) -> int:
        """Return the number of the last commit; 0 if the catalog is in use, or does not answer."""
        with suppress(PwflowError):
            if self.exists:
                with self._explaining(), self.catalog.reading(self._engine(), 0.0) as connection:
                    return self.commit_number(connection)
        return 0

    def maintain(self, keep_days: int) -> Maintenance | None:
        """Merge small files and forget commits older than `keep_days`; see `Warehouse.maintain`."""
        with self._explaining(), self.catalog.writing(self._engine(), self.wait_seconds) as turn:
            connection = turn.connection
            prepare_session(connection)
            self._prepare(connection)
            n_before = _count_files(connection)
            connection.execute(f"CALL ducklake_flush_inlined_data('{LAKE}')")
            expired = f"ducklake_expire_snapshots('{LAKE}', older_than => now() - to_days(?))"
            n_expired = len(connection.execute(f"CALL {expired}", [keep_days]).fetchall())
            connection.execute(f"CALL ducklake_rewrite_data_files('{LAKE}')")
            connection.execute(f"CALL ducklake_merge_adjacent_files('{LAKE}')")
            n_removed = 0
            for remove in ("ducklake_cleanup_old_files", "ducklake_delete_orphaned_files"):
                query = f"CALL {remove}('{LAKE}', older_than => now() - INTERVAL 1 DAY)"
                n_removed += len(connection.execute(query).fetchall())
            return Maintenance((n_before, _count_files(connection)), n_expired, n_removed)

    def _engine(self) -> Engine:
        def make() -> Engine:
            self.folder.mkdir(parents=True, exist_ok=True)
            connection = self._connect_to(":memory:", keep_order=False, autoinstall_known_extensions="false")
            load_extensions(connection, self.catalog.extensions, self.data)
            connection.execute("SET ducklake_max_retry_count = 0")  # its check for conflicts misses some in Postgres
            return Engine(
                connection,
                lambda read_only: self.catalog.attach(self.data, read_only=read_only),
                is_shared=self.catalog.is_shared,
            )

        return find_engine((self.location, self.data, self.folder, self._memory_limit), make)

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._explaining(), self.catalog.reading(self._engine(), self.wait_seconds) as connection:
            prepare_session(connection)
            yield connection

    def _prepare(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make or update the tables."""
        if (found := find_version(connection)) < SCHEMA_VERSION:
            with committed(connection):
                migrate(connection, found, _schema())
                connection.execute(read_sql(__package__, "lake.sql"))

    def _has(self, mark: str) -> bool:
        """Whether the transaction with this mark was committed, though its answer never came."""

        def attempt() -> bool:
            query = f"SELECT count(*) FROM {LAKE}.snapshots() WHERE commit_extra_info = ?"
            try:
                with self._reading() as connection:
                    return bool(fetch_value(connection, query, [mark]))
            except WarehouseUnreachableError as error:
                raise HeldError(str(error)) from None

        try:
            return wait_for(attempt, wait_seconds=self.wait_seconds)
        except HeldError as error:
            raise WarehouseUnreachableError(
                f"{error.holder} It is not known whether the last transaction was written: the next run finds out."
            ) from None

    def _place_of(self, error: duckdb.Error) -> Path | str:
        """Return where the disk is that an error is about; Postgres has one of its own."""
        is_of_server = any(sign in str(error) for sign in _LOST)
        return f"the server of {self.location}" if is_of_server else super()._place_of(error)

    def _explain(self, error: duckdb.Error) -> None:
        """Raise what an error of the catalog or of the data means."""
        text = str(error)
        if other := _OTHER_DATA.search(text):
            raise ConfigurationError(
                f"Expected warehouse.data to be {self._folder_of(other[2])}, where the data of {self.location} is, got "
                f"{self._folder_of(other[1])}: correct it in pwflow.toml, or use another catalog."
            ) from None
        if "Unable to connect to Postgres" in text:
            raise WarehouseUnreachableError(
                f"The catalog of the warehouse cannot be reached at {self.location} ({_last_line(text)}): start it, or "
                "correct warehouse.url; its password comes from PGPASSWORD or ~/.pgpass."
            ) from None
        if isinstance(error, duckdb.HTTPException) and urlsplit(self.data).netloc in text:
            raise WarehouseInterruptedError(
                f"The data of the warehouse at {self.data} cannot be read or written ({first_line(error)}): look at "
                "the store and at AWS_ACCESS_KEY_ID and its like, then run again. Nothing was written."
            ) from None
        if (missing := _MISSING_FILE.search(text)) and missing[1].startswith(self.data):
            raise WarehouseDamagedError(
                f"The file {missing[1]} of the warehouse {self.location} is missing: restore the data and its catalog "
                "from one backup."
            ) from None
        if any(sign in text for sign in _LOST):
            raise WarehouseInterruptedError(
                f"The catalog of the warehouse {self.location} was lost, or changed by somebody else, in the middle of "
                f"a transaction ({first_line(error)}). Nothing of it was written: run again."
            ) from None

    def _folder_of(self, path: str) -> str:
        """Return what warehouse.data is for a path of the data."""
        return path.removesuffix(self.catalog.subfolder)


def _count_files(connection: duckdb.DuckDBPyConnection) -> int:
    return int(fetch_value(connection, f"SELECT coalesce(sum(file_count), 0) FROM ducklake_table_info('{LAKE}')"))


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1].strip()


def _schema() -> str:
    """Return the layout without what DuckLake lacks: comments on the columns of views."""
    script = read_sql(__package__, "schema.sql")
    for view in _VIEW.findall(script):
        script = re.sub(rf"COMMENT ON COLUMN {re.escape(view)}\.[^ ]+ IS '(?:[^']|'')*';", "", script)
    return script
