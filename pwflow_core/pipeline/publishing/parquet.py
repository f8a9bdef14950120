"""The published tables as Parquet files, for tools without a DuckDB driver: a folder that is swapped in as a whole.

A table with readings has a folder per day, each of the others is one file. `published` is a link to one version. A new
version takes over, as hard links, the days whose rows did not change, so that a night writes what it brought; the link
is then moved in one step. The version before stays until the next one, for whoever is reading it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from uuid import uuid4

import duckdb

from pwflow_core.errors import ConfigurationError
from pwflow_core.pipeline.publishing.contents import DAILY, WHOLE, Contents, Manifest, read_manifest
from pwflow_core.storage import flush
from pwflow_core.warehouse import quote_identifier, quote_literal
from pwflow_core.warehouse.days import on_days

__all__ = ["one_writer", "swap_in", "write_version"]


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


def write_version(connection: duckdb.DuckDBPyConnection, contents: Contents, folder: Path, before: Path) -> None:
    """Write all tables into a new folder, inside of `one_writer`; the manifest is left to the caller.

    Arguments:
        connection: Has the tables as `published.mart.*`.
        contents: What they hold, and what of it is not in the version in use.
        folder: Where to; new and empty.
        before: The link to the version in use; parts that did not change are taken from it.
    """
    for table, parts in contents.manifest.tables.items():
        (folder / table).mkdir()
        changed = set(contents.stale[table])
        missing = [part for part in parts if part in changed or not _take_over(before / table, folder / table, part)]
        if missing or not parts:
            _write_parts(connection, table, folder / table, missing)
    for written in (*folder.rglob("*"), folder):  # before anything points to it
        if written.is_dir() or written.stat().st_nlink == 1:
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
    if read_manifest(found) == Manifest():
        raise ConfigurationError(
            f"Expected nothing or the Parquet tables of pwflow at {found}, got something else: move it away, or give "
            "warehouse.published another name."
        )
    shutil.rmtree(found)


def _home(link: Path) -> Path:
    return link.with_name(f".{link.name}.versions")


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
    if table not in DAILY or not parts:
        connection.execute(f"COPY {source} TO {quote_literal(str(folder / 'data.parquet'))} (FORMAT parquet)")
        return
    days = on_days("ts", sorted(map(date.fromisoformat, parts)))
    connection.execute(
        f"COPY (SELECT *, ts::DATE::VARCHAR AS day FROM {source} WHERE {days}) TO {quote_literal(str(folder))} "
        "(FORMAT parquet, PARTITION_BY (day), FILENAME_PATTERN 'data_{i}', OVERWRITE_OR_IGNORE)"
    )


def _folder_of(part: str) -> str:
    return "" if part == WHOLE else f"day={part}"
