"""The one DuckDB of a process that works on a lake: its extensions, its secrets, its sessions."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import duckdb

from pwflow_core.errors import ConfigurationError
from pwflow_core.warehouse.lock import HeldError
from pwflow_core.warehouse.sql import quote_literal

__all__ = ["LAKE", "Engine", "find_engine", "load_extensions"]

LAKE = "lake"
"""The name that a lake is attached as."""

_AWS = {
    "AWS_ACCESS_KEY_ID": "KEY_ID",
    "AWS_SECRET_ACCESS_KEY": "SECRET",
    "AWS_SESSION_TOKEN": "SESSION_TOKEN",
    "AWS_REGION": "REGION",
}


class Engine:
    """A DuckDB with the extensions of a lake, which is attached while somebody uses it.

    Loading them takes .3 s of CPU, so that it is kept from one transaction to the next.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, attach: Callable[[bool], str], *, is_shared: bool
    ) -> None:
        """Keep a connection.

        Arguments:
            connection: To an in-memory database with the extensions.
            attach: Returns the statement that attaches the lake, given whether it is to be read only.
            is_shared: Whether the lake stays attached, for readers and writers at once; else others wait meanwhile.
        """
        self.connection = connection
        self._n_users = 0
        self._attach = attach
        self._is_shared = is_shared
        self._is_read_only: bool | None = None
        self._mutex = threading.Lock()

    @contextmanager
    def session(self, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a session on the lake.

        Raises:
            HeldError: Another thread of this process has it, and it cannot be shared.
        """
        with self._mutex:
            if self._n_users and not self._is_shared and not (read_only and self._is_read_only):
                raise HeldError("another thread of this process")
            if self._is_read_only is None:
                self.connection.execute(self._attach(read_only and not self._is_shared))
                self._is_read_only = read_only
            self._n_users += 1
        cursor = self.connection.cursor()
        try:
            cursor.execute(f"USE {LAKE}")
            yield cursor
        finally:
            with suppress(duckdb.Error):
                cursor.rollback()  # what is open when a lost connection is closed would end the process
            cursor.close()
            with self._mutex:
                self._n_users -= 1
                if not self._n_users and not self._is_shared:
                    self._is_read_only = None
                    self.connection.execute(f"DETACH {LAKE}")


_engines: dict[tuple[object, ...], Engine] = {}
_engines_mutex = threading.Lock()


def find_engine(key: tuple[object, ...], make: Callable[[], Engine]) -> Engine:
    """Return the engine of this process for what `key` names."""
    key = (os.getpid(), *key)  # a forked process has the memory of a DuckDB, but not its threads
    with _engines_mutex:
        if key not in _engines:
            _engines[key] = make()
        return _engines[key]


def load_extensions(connection: duckdb.DuckDBPyConnection, names: tuple[str, ...], data: str) -> None:
    """Load what a lake needs, and what its data needs; give it the credentials of the environment.

    Raises:
        ConfigurationError: An extension is not installed.
    """
    is_s3 = urlsplit(data).scheme in ("s3", "s3a", "gs", "r2")
    for name in (*names, *(("httpfs",) if "://" in data else ())):
        try:
            connection.execute(f"LOAD {_locate(name)}")
        except duckdb.Error:
            raise ConfigurationError(
                f"A lake needs the extension {name} of DuckDB, and there is none for DuckDB {duckdb.__version__} here: "
                "`pip install 'pwflow[lake]'` installs it with a DuckDB that it fits, or, with access to the internet, "
                f"`python -c \"import duckdb; duckdb.execute('INSTALL {name}')\"`."
            ) from None
    if is_s3 and (secret := _secret()):
        connection.execute(secret)


def _locate(name: str) -> str:
    """Return what LOAD takes: the file of an installed package, else the name of what DuckDB installed itself."""
    spec = find_spec(f"duckdb_extension_{name}")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        file = Path(folder) / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
        if file.is_file():
            return quote_literal(str(file))
    return name


def _secret() -> str:
    """Return the statement that gives DuckDB the credentials of the environment; nothing if it has none."""
    values = {option: os.environ[name] for name, option in _AWS.items() if os.environ.get(name)}
    if "KEY_ID" not in values:
        return ""
    if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        parts = urlsplit(endpoint)
        values |= {"ENDPOINT": parts.netloc, "URL_STYLE": "path", "USE_SSL": str(parts.scheme == "https").lower()}
    options = ", ".join(f"{option} {quote_literal(value)}" for option, value in values.items())
    return f"CREATE SECRET (TYPE s3, {options})"
