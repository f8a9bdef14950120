"""What is known of a file with readings before it is read.

Its kind by its name, and the column types that hold numbers.
"""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

__all__ = [
    "escape_glob",
    "is_number_type",
    "is_parquet",
    "is_remote",
    "is_utf8",
    "match_files",
    "put_file",
    "readable_name",
]

_PARQUET = (".parquet", ".pq", ".parq")
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL", "BOOLEAN")
_WILD = re.compile(r"[*?\[]")


def is_parquet(path: str | os.PathLike[str]) -> bool:
    """Whether a file is Parquet, by its ending; everything else is read as CSV."""
    return os.fspath(path).lower().endswith(_PARQUET)


def is_remote(path: str) -> bool:
    """Whether this is the address of an object in a store, not a local path."""
    return "://" in path


def escape_glob(path: str | os.PathLike[str]) -> str:
    """Return a pattern that matches this path and no other."""
    text = os.fspath(path)
    return text if is_remote(text) else _WILD.sub(r"[\g<0>]", text)


def is_utf8(path: str | os.PathLike[str]) -> bool:
    """Whether the name of a file is UTF-8, as DuckDB needs it; others come from old systems and archives."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def readable_name(path: str) -> str:
    r"""Return a path in letters only: a byte of it that is none becomes `\xfc` or the like."""
    return path if is_utf8(path) else os.fsencode(path).decode("utf-8", errors="backslashreplace")


def match_files(pattern: str) -> list[str]:
    """Return the files that a glob matches, also those whose names are not UTF-8, sorted."""
    found = glob.glob(pattern, recursive=True)  # noqa: PTH207 - a whole pattern, not one below a folder
    return sorted(path for path in found if os.path.isfile(path))  # noqa: PTH113 - a name that is not UTF-8


def put_file(path: Path, data: bytes) -> None:
    """Write a file in place of the one before: after a power failure it is the one or the other, and never half."""
    fresh = path.with_name(path.name + ".partial")
    with fresh.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)
    if os.name == "posix":  # a folder cannot be opened elsewhere
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def is_number_type(type_name: str) -> bool:
    """Whether a column of this DuckDB type holds numbers, or truth values, which count as 0 and 1."""
    return type_name.removeprefix("U").startswith(_NUMBERS) and not type_name.endswith("]")
