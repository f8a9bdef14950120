"""Which files a target means: a file, a folder or a glob, and the patterns that name them in `pwflow.toml`.

What is inside the files is looked at in `sampling`.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from pwflow_core.errors import SourceError
from pwflow_core.files import escape_glob, match_files
from pwflow_core.opening import is_packed, list_members

__all__ = ["FoundFiles", "find_exports"]

_SUFFIX = re.compile(r"\.(csv|tsv|txt|parquet|pq|parq|xlsx|xlsm|zip)(\.gz)?$", re.IGNORECASE)
_TEXT = "text"
_KINDS = {
    "csv": "CSV", "tsv": "TSV", "txt": _TEXT, "parquet": "Parquet", "pq": "Parquet", "parq": "Parquet",
    "xlsx": "Excel", "xlsm": "Excel", "zip": "ZIP",
}  # fmt: skip
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
        SourceError: The path is missing, nothing matches, or the folder holds no CSV or Parquet file.
    """
    target = Path(os.path.normpath(target.expanduser().absolute()))
    folder = Path(os.path.normpath(folder.absolute()))
    if target.is_file():
        return FoundFiles(_unpacked([target]), (_pattern(target, folder),), ())
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
        return FoundFiles(_unpacked(files), (pattern,), ())
    raise SourceError(f"Expected a file, a folder or a glob, but there is no {target}: correct the path and run again.")


def _in_folder(target: Path, folder: Path) -> FoundFiles:
    # DuckDB lists the files, so that what is looked at here is what the written pattern will match.
    everything = [file for file in _glob(f"{escape_glob(target)}/**/*") if not _is_hidden(file, target)]
    kinds: dict[str, list[Path]] = defaultdict(list)
    others: dict[str, list[Path]] = defaultdict(list)
    for file in everything:
        if match := _SUFFIX.search(file.name):
            kinds[_KINDS[match[1].lower()]].append(file)
        else:
            others[file.suffix.lower() or "no ending"].append(file)
    if not kinds:
        seen = ", ".join(sorted({file.suffix or file.name for file in everything})[:6])
        got = f"only {seen}" if seen else "nothing"
        ending = next((ending for ending in others if ending.startswith(".")), "")
        pattern = f", name text with another ending by a pattern ('{target / f'*{ending}'}')" if ending else ""
        raise SourceError(
            f"Expected CSV, Excel or Parquet files (.csv, .csv.gz, .tsv, .xlsx, .zip, .parquet) in {target}, got "
            f"{got}: name the folder that holds the exports{pattern}, or export them in one of these formats."
        )
    if _TEXT in kinds and len(kinds) > 1:  # notes beside the exports
        others[".txt"] = kinds.pop(_TEXT)
    if (parquet := kinds.pop("Parquet", None)) and kinds:  # mostly the same readings once more
        n_others = sum(map(len, kinds.values()))
        if len(parquet) > n_others:
            others |= {f".{kind.lower()}": files for kind, files in kinds.items()}
            kinds.clear()
        else:
            others[".parquet"] = parquet
    if parquet and not kinds:
        kinds["Parquet"] = parquet
    chosen = sorted(file for files in kinds.values() for file in files)
    endings = sorted({_ending(file) for file in chosen})
    patterns = tuple(_pattern(target, folder, f"**/*{ending}") for ending in endings)
    read = ", ".join(f"{len(kinds[kind]):,} {kind}" for kind in sorted(kinds, key=lambda kind: -len(kinds[kind])))
    assumptions = [f"Reads the {read} files in {target} and in the folders below it."]
    for ending, files in sorted(others.items()):
        example = files[0].relative_to(target)
        assumptions.append(f"Does not read {len(files)} file(s) with {ending}, such as {str(example)!r}.")
    return FoundFiles(_unpacked(chosen), patterns, tuple(assumptions))


def _unpacked(files: Sequence[Path]) -> tuple[Path, ...]:
    """Return the files, with the exports inside of archives in the place of these."""
    found: list[Path] = []
    for file in files:
        members = [file / name for name, _, _ in list_members(file)] if is_packed(file) else []
        found += members or [file]
    return tuple(found)


def _is_hidden(file: Path, target: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(target).parts)


def _ending(file: Path) -> str:
    match = _SUFFIX.search(file.name)
    return match[0] if match else file.suffix


def _glob(pattern: str) -> tuple[Path, ...]:
    with duckdb.connect(":memory:") as connection:
        try:
            rows = connection.execute("SELECT file FROM glob(?) ORDER BY file", [pattern]).fetchall()
        except (duckdb.InvalidInputException, RuntimeError) as error:  # a name that is not UTF-8
            if "utf" not in str(error).lower() and "unicode" not in str(error).lower():
                raise
            return tuple(map(Path, match_files(pattern)))
    return tuple(Path(row[0]) for row in rows if Path(row[0]).is_file())


def _pattern(path: Path, folder: Path, below: str = "") -> str:
    """Return `path` as a glob for exactly this path, then `below`."""
    inside = path.is_relative_to(folder)
    shown = path.relative_to(folder) if inside else path
    text = escape_glob(shown)
    if not below:
        return text
    return below if text == "." else f"{text}/{below}"
