"""The published tables as Parquet files, for tools without a DuckDB driver: a folder that is swapped in as a whole.

`published` is a link to one version of the folder. A new version takes over, as hard links, the days whose rows did not
change, so that a night writes what it brought; the link is then moved in one step. The version before stays until the
next one, for whoever is reading it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import duckdb

from pwflow_core.errors import ConfigurationError
from pwflow_core.storage import flush
from pwflow_core.warehouse import quote_identifier, quote_literal

__all__ = ["Version", "one_writer", "swap_in", "write_version"]

_MANIFEST = "manifest.json"
_DAILY = ("readings", "anomaly_scores", "sensor_contributions")
"""Tables with a folder per day of `ts`, UTC; each of the others is one file."""

Version = dict[str, dict[str, str]]
"""Fingerprint of the rows by table and part: a day, or `""` for a table that is one file."""


@contextmanager
def one_writer(link: Path) -> Iterator[None]:
    """Keep other processes from writing a version and moving the link for the time of the block; wait for them first.

    Without it one run could remove the version that another has made and not yet linked.
    """
    home = _home(link)
    home.mkdir(exist_ok=True)
    entry = os.open(home, os.O_RDONLY)
    try:
        fcntl.flock(entry, fcntl.LOCK_EX)
        yield
    finally:
        os.close(entry)


def write_version(connection: duckdb.DuckDBPyConnection, tables: list[str], folder: Path, before: Path) -> None:
    """Write all tables into a new folder, inside of `one_writer`.

    Arguments:
        connection: Has the tables as `published.mart.*`.
        tables: Their names.
        folder: Where to; new and empty.
        before: The link to the version in use; parts that did not change are taken from it.
    """
    known = _read_manifest(before)
    version: Version = {}
    for table in tables:
        version[table] = _fingerprints(connection, table)
        (folder / table).mkdir()
        stale = [
            part
            for part, rows in version[table].items()
            if known.get(table, {}).get(part) != rows or not _take_over(before / table, folder / table, part)
        ]
        if stale:
            _write_parts(connection, table, folder / table, stale)
    (folder / _MANIFEST).write_text(json.dumps(version), encoding="utf-8")
    for written in (*folder.rglob("*"), folder):  # before anything points to it; links lie there already
        flush(written)


def swap_in(folder: Path, link: Path) -> None:
    """Make `link` point to a folder that `write_version` filled, in the same `one_writer`; keep the version before it.

    Raises:
        ConfigurationError: Something else lies where the link belongs.
    """
    home = _home(link)
    if link.exists() and not link.is_symlink():
        _remove_copy(link)
    name = f"{len(list(home.iterdir())):04d}-{uuid4().hex[:8]}"
    folder.rename(home / name)
    former = link.readlink().name if link.is_symlink() else None
    fresh = home / f"{name}.link"
    fresh.symlink_to(Path(home.name) / name)
    fresh.replace(link)
    for version in home.iterdir():
        if version.name not in (name, former):
            shutil.rmtree(version, ignore_errors=True) if version.is_dir() else version.unlink(missing_ok=True)


def _remove_copy(found: Path) -> None:
    """Remove what a backup that follows links has made of the link; leave alone what is not ours."""
    if not (found / _MANIFEST).is_file():
        raise ConfigurationError(
            f"Expected nothing or the Parquet tables of pwflow at {found}, got something else: move it away, or give "
            "warehouse.published another name."
        )
    shutil.rmtree(found)


def _home(link: Path) -> Path:
    return link.with_name(f".{link.name}.versions")


def _read_manifest(link: Path) -> Version:
    try:
        known: Version = json.loads((link / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known


def _fingerprints(connection: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    """Return what changes when any row of a part does, whatever their order."""
    part = "ts::DATE::VARCHAR" if table in _DAILY else "''"
    rows = connection.execute(
        f"SELECT {part} AS part, count(*), sum(hash(t)) FROM published.mart.{quote_identifier(table)} AS t "
        "GROUP BY part ORDER BY part"
    ).fetchall()
    schema = connection.execute(
        "SELECT md5(string_agg(column_name || data_type ORDER BY column_index)) FROM duckdb_columns() "
        "WHERE database_name = 'published' AND table_name = ?",
        [table],
    ).fetchall()[0][0]
    return {part: f"{schema}-{n}-{total}" for part, n, total in rows} or {"": f"{schema}-0"}


def _take_over(before: Path, folder: Path, part: str) -> bool:
    """Link the files of a part that did not change; say whether that was possible."""
    source, target = (where / _folder_of(part) for where in (before, folder))
    files = sorted(source.glob("*.parquet"))
    target.mkdir(exist_ok=True)
    try:
        for file in files:
            os.link(file, target / file.name)
    except OSError:  # a file system without hard links, or more of them than it allows
        for file in target.glob("*.parquet"):
            file.unlink()
        return False
    return bool(files)


def _write_parts(connection: duckdb.DuckDBPyConnection, table: str, folder: Path, parts: list[str]) -> None:
    source = f"published.mart.{quote_identifier(table)}"
    if parts == [""]:
        connection.execute(f"COPY {source} TO {quote_literal(str(folder / 'data.parquet'))} (FORMAT parquet)")
        return
    connection.execute(
        f"COPY (SELECT *, ts::DATE::VARCHAR AS day FROM {source} WHERE ts::DATE IN (SELECT unnest($days::DATE[]))) "
        f"TO {quote_literal(str(folder))} "
        "(FORMAT parquet, PARTITION_BY (day), FILENAME_PATTERN 'data_{i}', OVERWRITE_OR_IGNORE)",
        {"days": parts},
    )


def _folder_of(part: str) -> str:
    return f"day={part}" if part else ""
