"""Which files a target means: a file, a folder or a glob, and the patterns that name them in `pwflow.toml`.

What is inside the files is looked at in `sampling`.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import duckdb

from pwflow_core.errors import SourceError
from pwflow_core.files import escape_glob

__all__ = ["FoundFiles", "find_exports"]

_SUFFIX = re.compile(r"\.(csv|tsv|txt|parquet|pq|parq)(\.gz)?$", re.IGNORECASE)
_KINDS = {"csv": "CSV", "tsv": "TSV", "txt": "text", "parquet": "Parquet", "pq": "Parquet", "parq": "Parquet"}
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """The files that a target means.

    Attributes:
        files: The files, sorted by path.
        patterns: Paths or globs for `source.path`, relative to the configuration where possible.
        assumptions: What was assumed about them, one sentence each.
    """

    files: tuple[Path, ...]
    patterns: tuple[str, ...]
    assumptions: tuple[str, ...]


def find_exports(target: Path, folder: Path) -> FoundFiles:
    """Find the exports that `target` means.

    Arguments:
        target: A file, a folder (searched with everything below it) or a glob.
        folder: Folder of the configuration; patterns are relative to it where the target lies inside.

    Raises:
        SourceError: There is no such path, nothing matches, or the folder holds no CSV or Parquet file.
    """
    target = Path(os.path.normpath(target.expanduser().absolute()))
    folder = Path(os.path.normpath(folder.absolute()))
    if target.is_file():
        return FoundFiles((target,), (_pattern(target, folder),), ())
    if target.is_dir():
        return _in_folder(target, folder)
    if _WILD.search(str(target)):
        files = _glob(target.as_posix())
        if not files:
            raise SourceError(
                f"Expected files that match {target}, but there are none: correct the pattern, "
                "and put it in quotes so that the shell does not expand it."
            )
        pattern = target.relative_to(folder).as_posix() if target.is_relative_to(folder) else str(target)
        return FoundFiles(files, (pattern,), ())
    raise SourceError(f"Expected a file, a folder or a glob, but there is no {target}: correct the path and run again.")


def _in_folder(target: Path, folder: Path) -> FoundFiles:
    # DuckDB lists the files, so that what is looked at here is what the written pattern will match.
    everything = _glob(f"{escape_glob(target)}/**/*")
    kinds: dict[str, list[Path]] = defaultdict(list)
    for file in everything:
        if match := _SUFFIX.search(file.name):
            kinds[_KINDS[match[1].lower()]].append(file)
    if not kinds:
        seen = ", ".join(sorted({file.suffix or file.name for file in everything})[:6])
        got = f"only {seen}" if seen else "nothing"
        raise SourceError(
            f"Expected CSV or Parquet files (.csv, .csv.gz, .tsv, .parquet) in {target}, got {got}: name the "
            "folder that holds the exports, or export them in one of these formats."
        )
    rank = sorted(kinds, key=lambda kind: (kind != "text", len(kinds[kind])), reverse=True)
    chosen, others = kinds[rank[0]], rank[1:]
    endings = sorted({_ending(file) for file in chosen})
    patterns = tuple(_pattern(target, folder, f"**/*{ending}") for ending in endings)
    assumptions = [f"Reads the {len(chosen):,} {rank[0]} files in {target} and in the folders below it."]
    for kind in others:
        example = kinds[kind][0].relative_to(target)
        assumptions.append(
            f"Leaves out {len(kinds[kind])} {kind} file(s), such as {str(example)!r}: a plant reads one kind."
        )
    return FoundFiles(tuple(chosen), patterns, tuple(assumptions))


def _ending(file: Path) -> str:
    match = _SUFFIX.search(file.name)
    return match[0] if match else file.suffix


def _glob(pattern: str) -> tuple[Path, ...]:
    with duckdb.connect(":memory:") as connection:
        rows = connection.execute("SELECT file FROM glob(?) ORDER BY file", [pattern]).fetchall()
    return tuple(Path(row[0]) for row in rows if Path(row[0]).is_file())


def _pattern(path: Path, folder: Path, below: str = "") -> str:
    """Return `path` as a glob for exactly this path, then `below`."""
    inside = path.is_relative_to(folder)
    shown = path.relative_to(folder) if inside else path
    text = escape_glob(shown)
    if not below:
        return text
    return below if text == "." else f"{text}/{below}"
