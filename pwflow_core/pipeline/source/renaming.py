"""Files under another name: a folder that was moved, a file that was renamed, one that was renamed and corrected.

Files are known by their path below `source.path`. What an older release knew by its whole path gets that name.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path

import duckdb

from pwflow_core.files import is_remote
from pwflow_core.marks import FILE_NAME_COLUMN
from pwflow_core.pipeline.source.source import Source

__all__ = ["find_predecessor", "may_be_renamed", "rename", "rename_known"]

_log = logging.getLogger("pwflow.ingest")

_SAMPLED = 40
_SAME = 0.9


def may_be_renamed(source: Source) -> bool:
    """Whether a file means the same under another name: nothing of its path is a part of its readings."""
    named = (source.machine, source.tag, *source.segments)
    return source.path_columns is None and FILE_NAME_COLUMN not in named


def rename_known(connection: duckdb.DuckDBPyConnection, names: Mapping[str, str]) -> None:
    """Give files that are known by their whole path the name that they have below `source.path`.

    Arguments:
        connection: An open transaction.
        names: Name of each file of the source, by its path.
    """
    known = [
        path for (path,) in connection.execute("SELECT path FROM ingest.files WHERE superseded_in IS NULL").fetchall()
    ]
    taken, by_name = set(known), {}
    for path, name in names.items():
        if name not in taken and not is_remote(path):
            by_name[name] = path
    renamed = {path: names[path] for path in known if names.get(path) in by_name and names[path] != path}
    left = set(by_name) - set(renamed.values())
    present = set(names.values())
    for path in known:
        if path in renamed or path in present or not Path(path).is_absolute():
            continue
        parts = path.split("/")
        endings = ("/".join(parts[i:]) for i in range(1, len(parts)))
        if found := next((ending for ending in endings if ending in left), None):
            renamed[path] = found
            left.remove(found)
    for path, name in renamed.items():
        rename(connection, path, name)
    if renamed:
        _log.info("%d files are known by their path below source.path from now on", len(renamed))


def rename(connection: duckdb.DuckDBPyConnection, old: str, new: str) -> None:
    """Have a known file stand under another name."""
    connection.execute("UPDATE ingest.files SET path = ? WHERE path = ?", [new, old])
    connection.execute("UPDATE mart.rejected_readings SET file = ? WHERE file = ?", [new, old])


def find_predecessor(
    connection: duckdb.DuckDBPyConnection, rows_file: Path, place: int | None, vanished: Collection[int]
) -> int | None:
    """Return the file that is not in the source any more whose readings a new file has, nearly all of them.

    Arguments:
        connection: An open transaction.
        rows_file: The staged rows of the new file.
        place: Which of these are its own, where it was read together with others.
        vanished: Numbers of the files that are known, but not in the source any more.
    """
    if not vanished:
        return None
    own = "" if place is None else f" AND _place = {place:d}"
    rows = connection.execute(
        f"""
        WITH sampled AS (
            SELECT DISTINCT machine_id, ts FROM read_parquet(?) WHERE ts IS NOT NULL{own}
            USING SAMPLE reservoir({_SAMPLED} ROWS) REPEATABLE (1)
        )
        SELECT raw.file_id, count(*) >= {_SAME} * (SELECT count(*) FROM sampled)
        FROM ingest.raw_readings AS raw
        JOIN sampled ON raw.ts = sampled.ts AND raw.machine_id IS NOT DISTINCT FROM sampled.machine_id
        WHERE raw.file_id IN (SELECT unnest(?))
        GROUP BY raw.file_id
        """,
        [str(rows_file), list(vanished)],
    ).fetchall()
    for file_id, is_near in sorted(rows, reverse=True):
        if not is_near:
            continue
        found = connection.execute(
            f"""
            SELECT count(*), count(*) FILTER (
                (machine_id, ts) IN (SELECT (machine_id, ts) FROM read_parquet(?) WHERE ts IS NOT NULL{own})
            )
            FROM ingest.raw_readings WHERE file_id = ?
            """,
            [str(rows_file), file_id],
        ).fetchone()
        if found and found[1] >= _SAME * found[0]:
            return int(file_id)
    return None
