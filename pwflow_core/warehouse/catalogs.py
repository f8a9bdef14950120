"""The catalogs of a lake: where each is, how it is attached, and whose turn it is to write."""

from __future__ import annotations

import hashlib
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import ClassVar

import duckdb

from pwflow_core.errors import WarehouseInterruptedError, WarehouseLockedError
from pwflow_core.warehouse.engine import LAKE, Engine
from pwflow_core.warehouse.lock import HeldError, explain_busy, hold, wait_for
from pwflow_core.warehouse.sql import fetch_value, quote_literal

__all__ = ["Catalog", "FileCatalog", "PostgresCatalog"]

_GATE = "gate"
_NO_INLINING = "DATA_INLINING_ROW_LIMIT 0"
"""Few rows would go into the catalog as text, from which one DOUBLE in twenty comes back with another last bit."""
_ALIVE_SECONDS = 10


class Catalog(ABC):
    """Where a lake lists which files hold what.

    Attributes:
        location: Where it is, as messages call it.
        extensions: Extensions of DuckDB that it needs.
        is_shared: Whether several processes, readers and writers, have it open at once.
        subfolder: Where its files lie in what warehouse.data names, which several catalogs may share.
    """

    location: str
    subfolder: str
    extensions: ClassVar[tuple[str, ...]]
    is_shared: ClassVar[bool]

    @abstractmethod
    def attach(self, data: str, *, read_only: bool) -> str:
        """Return the statement that attaches the lake."""

    @abstractmethod
    def exists(self, engine: Engine) -> bool:
        """Whether there is a lake."""

    @abstractmethod
    def reading(self, engine: Engine, wait_seconds: float) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Open a session that only reads.

        Raises:
            WarehouseLockedError: Somebody was writing for longer than `wait_seconds`.
        """

    @abstractmethod
    def writing(self, engine: Engine, wait_seconds: float) -> AbstractContextManager[Turn]:
        """Take the turn to write, and open a session.

        Raises:
            WarehouseLockedError: Somebody else had it for longer than `wait_seconds`.
        """

    def _locked(self, error: HeldError, wait_seconds: float) -> WarehouseLockedError:
        return WarehouseLockedError(
            f"The warehouse {self.location} is held by {error.holder or 'another connection'}, and it was not free "
            f"within {wait_seconds:g} s: close that program or raise warehouse.wait_seconds, then run again. To query "
            "scores at any time, open the published copy instead."
        )


class Turn:
    """The turn to write.

    Attributes:
        connection: A session on the lake.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection

    def check(self) -> None:
        """Raise WarehouseInterruptedError if the turn has been lost."""


class FileCatalog(Catalog):
    """A catalog in a DuckDB file in the folder of the lake. Readers share it, a writer has it alone."""

    extensions = ("ducklake",)
    is_shared = False
    subfolder = ""

    def __init__(self, folder: Path) -> None:
        self.location = str(folder)
        self.path = folder / "catalog.duckdb"
        self.lock_path = folder / "catalog.duckdb.lock"

    def attach(self, data: str, *, read_only: bool) -> str:
        """Return the statement that attaches the lake."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        options = [f"DATA_PATH {quote_literal(data)}", _NO_INLINING]
        if Path(data).is_relative_to(self.path.parent):
            options.append("OVERRIDE_DATA_PATH true")  # it goes where the folder is moved
        if read_only:
            options.append("READ_ONLY")
        return f"ATTACH {quote_literal(f'ducklake:{self.path}')} AS {LAKE} ({', '.join(options)})"

    def exists(self, engine: Engine) -> bool:
        """Whether there is a lake."""
        return self.path.exists()

    @contextmanager
    def reading(self, engine: Engine, wait_seconds: float) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a session that only reads; writers wait until it ends."""
        with self._open(engine, wait_seconds, read_only=True) as (connection, lock):
            lock.close()  # DuckDB's own lock keeps writers out from now on
            yield connection

    @contextmanager
    def writing(self, engine: Engine, wait_seconds: float) -> Iterator[Turn]:
        """Take the turn to write, and open a session."""
        with self._open(engine, wait_seconds, read_only=False) as (connection, _):
            yield Turn(connection)

    @contextmanager
    def _open(
        self, engine: Engine, wait_seconds: float, *, read_only: bool
    ) -> Iterator[tuple[duckdb.DuckDBPyConnection, ExitStack]]:
        def attempt() -> tuple[duckdb.DuckDBPyConnection, ExitStack, ExitStack]:
            with ExitStack() as lock, ExitStack() as session:
                lock.enter_context(hold(self.lock_path))
                try:
                    connection = session.enter_context(engine.session(read_only=read_only))
                except duckdb.Error as error:
                    raise explain_busy(error) or error from None
                return connection, session.pop_all(), lock.pop_all()

        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            connection, session, lock = wait_for(attempt, wait_seconds=wait_seconds)
        except HeldError as error:
            raise self._locked(error, wait_seconds) from None
        with lock, session:
            yield connection, lock


class PostgresCatalog(Catalog):
    """A catalog in a schema of a Postgres database, which many processes and machines have open at once.

    Who writes holds an advisory lock of Postgres, in a connection of its own: the transaction of the lake begins when
    it has the lock, for it would not see what was committed while it waited.
    """

    extensions = ("postgres_scanner", "ducklake")
    is_shared = True

    def __init__(self, options: Mapping[str, str], schema: str) -> None:
        """Describe a catalog; nothing is opened.

        Arguments:
            options: Connection parameters by the names that libpq gives them; a password is none of them.
            schema: Its schema.
        """
        place = "".join(options.get(name, "") and mark + options[name] for name, mark in (("host", ""), ("port", ":")))
        self.location = f"ducklake+postgres://{place}/{options.get('dbname', '')}?schema={schema}"
        self.schema = schema
        self.subfolder = f"{schema}/"
        self._key = int.from_bytes(hashlib.sha256(f"pwflow {schema}".encode()).digest()[:8]) >> 1
        alive = f"-c tcp_keepalives_idle={_ALIVE_SECONDS} -c tcp_keepalives_interval={_ALIVE_SECONDS} "
        self._options = {
            "connect_timeout": "10",
            "options": f"{alive}-c tcp_keepalives_count=3 -c idle_in_transaction_session_timeout=0",
            **options,
        }
        self._is_known = False

    def attach(self, data: str, *, read_only: bool) -> str:
        """Return the statement that attaches the lake, and the connection that locks are taken in."""
        source = quote_literal(f"ducklake:postgres:{self._target()}")
        return (
            f"{self._attach_gate()}; ATTACH {source} AS {LAKE} (DATA_PATH {quote_literal(data)}, "
            f"METADATA_SCHEMA {quote_literal(self.schema)}, {_NO_INLINING})"
        )

    def exists(self, engine: Engine) -> bool:
        """Whether there is a lake; asking makes none."""
        if not self._is_known:
            query = (
                f"SELECT count(*) FROM pg_tables WHERE schemaname = {quote_literal(self.schema)} "
                "AND tablename = 'ducklake_metadata'"
            )
            with engine.connection.cursor() as connection:  # other threads may ask at the same time
                connection.execute(self._attach_gate())
                self._is_known = bool(_ask(connection, query))
        return self._is_known

    @contextmanager
    def reading(self, engine: Engine, wait_seconds: float) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a session that only reads; it waits for nobody, and nobody for it."""
        with engine.session(read_only=True) as connection:
            yield connection

    @contextmanager
    def writing(self, engine: Engine, wait_seconds: float) -> Iterator[Turn]:
        """Take the turn to write, and open a session."""
        with engine.session(read_only=False) as connection, self._turn(engine, wait_seconds) as gate:
            yield _PostgresTurn(connection, gate, self.location)

    @contextmanager
    def _turn(self, engine: Engine, wait_seconds: float) -> Iterator[duckdb.DuckDBPyConnection]:
        gate = engine.connection.cursor()
        gate.begin()

        def attempt() -> None:
            if not _ask(gate, f"SELECT pg_try_advisory_xact_lock({self._key})"):
                raise HeldError(self._find_holder(gate))

        try:
            wait_for(attempt, wait_seconds=wait_seconds)
            yield gate
        except HeldError as error:
            raise self._locked(error, wait_seconds) from None
        finally:
            with suppress(duckdb.Error):
                gate.rollback()  # gives the lock back, and is due even where the connection is lost: see Engine
            gate.close()

    def _attach_gate(self) -> str:
        """Return the statement that attaches the database in which locks are taken."""
        return (
            f"ATTACH IF NOT EXISTS {quote_literal(self._target())} AS {_GATE} "
            "(TYPE postgres, ISOLATION_LEVEL 'READ COMMITTED')"
        )

    def _find_holder(self, gate: duckdb.DuckDBPyConnection) -> str:
        holder = _ask(
            gate,
            "SELECT application_name || coalesce(' at ' || host(client_addr), '') "
            "FROM pg_locks JOIN pg_stat_activity USING (pid) "
            f"WHERE locktype = 'advisory' AND granted AND (classid::bigint << 32) | objid::bigint = {self._key} "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        return str(holder or "")

    def _target(self) -> str:
        """Return the connection string, with who connects as Postgres is to show it."""
        name = f"pwflow on {socket.gethostname()[:24]} (process {os.getpid()})"
        options = {**self._options, "application_name": name}
        return " ".join(f"{option}={_quote(value)}" for option, value in options.items())


class _PostgresTurn(Turn):
    def __init__(self, connection: duckdb.DuckDBPyConnection, gate: duckdb.DuckDBPyConnection, location: str) -> None:
        super().__init__(connection)
        self._gate = gate
        self._location = location

    def check(self) -> None:
        """Raise WarehouseInterruptedError if the connection that holds the lock was lost, for the lock is, too."""
        try:
            _ask(self._gate, "SELECT 1")
        except duckdb.Error:
            raise WarehouseInterruptedError(
                f"The connection to {self._location} was lost in the middle of a transaction. Nothing of it was "
                "written: run again."
            ) from None


def _ask(connection: duckdb.DuckDBPyConnection, query: str) -> object:
    """Return the first value that Postgres answers to a query; None if there is none."""
    return fetch_value(connection, f"FROM postgres_query('{_GATE}', {quote_literal(query)})")


def _quote(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
