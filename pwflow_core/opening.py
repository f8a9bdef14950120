"""Exports that are not plain CSV or Parquet: packed, in a spreadsheet, or in another encoding.

They are copied to a plain file, as a stream. What is inside a ZIP archive is known by the path of the archive, then the
name inside.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import BinaryIO

from pwflow_core.errors import SourceError
from pwflow_core.files import is_parquet, is_remote, is_utf8

__all__ = [
    "has_byte_order_mark",
    "is_packed",
    "is_spreadsheet",
    "list_members",
    "looks_like_export",
    "open_bytes",
    "plain_file",
    "split_member",
]

_EXPORT = re.compile(r"\.(csv|tsv|txt|parquet|pq|parq|xlsx|xlsm)(\.gz|\.zst)?$", re.IGNORECASE)
_PACKED = re.compile(r"\.zip(?=/|$)", re.IGNORECASE)
_SPREADSHEETS = (".xlsx", ".xlsm")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_PIECE = 1 << 20

_UNREADABLE = (OSError, EOFError, zlib.error, zipfile.BadZipFile, KeyError, RuntimeError)
"""What `gzip` and `zipfile` raise: damage, a member that has gone, a password, a compression that they do not know."""


def looks_like_export(name: str) -> bool:
    """Whether a file is one that pwflow reads, by its ending; archives are looked into."""
    return bool(_EXPORT.search(name))


def has_byte_order_mark(head: bytes) -> bool:
    """Whether text says itself in which encoding it is."""
    return any(head.startswith(mark) for mark, _ in _MARKS)


def is_packed(path: str | os.PathLike[str]) -> bool:
    """Whether this is a ZIP archive, by its ending."""
    return os.fspath(path).lower().endswith(".zip")


def is_spreadsheet(path: str | os.PathLike[str]) -> bool:
    """Whether this is a spreadsheet, by its ending."""
    return os.fspath(path).lower().endswith(_SPREADSHEETS)


def split_member(path: str | os.PathLike[str]) -> tuple[Path, str]:
    """Return a file and, if it is an archive, the name of the member that the path means, else nothing."""
    text = os.fspath(path)
    for match in _PACKED.finditer(text):
        archive = Path(text[: match.end()])
        if match.end() < len(text) and archive.is_file():
            return archive, text[match.end() + 1 :]
    return Path(text), ""


def list_members(archive: Path) -> list[tuple[str, int, str]]:
    """Return (name, size in bytes, checksum) of the exports in a ZIP archive, by name.

    Raises:
        SourceError: It is damaged or cannot be read.
    """
    with _explaining(archive), zipfile.ZipFile(archive) as opened:
        return sorted(
            (member.filename, member.file_size, f"{member.CRC:08x}-{member.file_size}")
            for member in opened.infolist()
            if not member.is_dir() and looks_like_export(member.filename) and not _is_hidden(member.filename)
        )


@contextmanager
def open_bytes(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file, or what is inside an archive, as a stream of unpacked bytes.

    Raises:
        SourceError: It cannot be read.
    """
    archive, member = split_member(path)
    with _explaining(path):
        if member:
            with zipfile.ZipFile(archive) as opened, opened.open(member) as stream:
                yield gzip.GzipFile(fileobj=stream) if member.lower().endswith(".gz") else stream  # type: ignore[misc]
        elif archive.name.lower().endswith(".gz"):
            with gzip.open(archive) as stream:
                yield stream  # type: ignore[misc]
        else:
            with archive.open("rb") as stream:
                yield stream


def plain_file(path: str, folder: Path, encoding: str | None = None, most_bytes: int | None = None) -> str:
    """Return the path of a plain CSV (UTF-8) or Parquet file with the same content: itself, or a copy in `folder`.

    Arguments:
        path: The file.
        folder: Where the copy goes.
        encoding: Encoding of text without a byte order mark, if it is not UTF-8.
        most_bytes: Copy about this many bytes at most; a look needs no more.

    Raises:
        SourceError: The file cannot be read, or is not in that encoding.
    """
    archive, member = split_member(path)
    if is_packed(path) and not member:
        raise SourceError(
            f"Expected a ZIP archive with exports (.csv, .xlsx, .parquet), got {path}, which has none or is damaged: "
            "export it again, or move it away."
        )
    if is_remote(path) or (is_parquet(path) and not member and is_utf8(path)):
        return path
    ending = member or archive.name
    if is_spreadsheet(ending):
        return _copy_sheet(path, folder / "plain.csv")
    if is_parquet(ending):
        target = folder / "plain.parquet"
        with open_bytes(path) as stream, target.open("wb") as copy:
            shutil.copyfileobj(stream, copy)
        return str(target)
    if ending.lower().endswith(".zst"):
        return path
    with open_bytes(path) as stream:
        start = stream.read(4)
    marked = next((name for mark, name in _MARKS if start.startswith(mark)), None)
    wanted = marked or encoding or "utf-8"
    if codecs.lookup(wanted).name in ("utf-8", "utf-8-sig"):
        if not member and is_utf8(path):
            return path
        target = folder / "plain.csv"
        with open_bytes(path) as stream, target.open("wb") as copy:
            _copy_most(stream, copy, most_bytes)
        return str(target)
    return _copy_text(path, folder / "plain.csv", wanted, most_bytes)


def _copy_most(stream: BinaryIO, copy: BinaryIO, most_bytes: int | None) -> None:
    n_bytes = 0
    while (most_bytes is None or n_bytes < most_bytes) and (piece := stream.read(_PIECE)):
        n_bytes += copy.write(piece)


def _copy_text(path: str, target: Path, encoding: str, most_bytes: int | None) -> str:
    try:
        with open_bytes(path) as stream, target.open("w", encoding="utf-8", newline="") as copy:
            text = io.TextIOWrapper(stream, encoding=encoding, newline="")
            n_letters = 0
            while (most_bytes is None or n_letters < most_bytes) and (piece := text.read(_PIECE)):
                n_letters += copy.write(piece)
    except UnicodeError as error:
        reason = getattr(error, "reason", error)
        raise SourceError(
            f"Expected text in {encoding}, but {path} is in another encoding ({reason}): set source.encoding in "
            "pwflow.toml, or export it as CSV UTF-8."
        ) from None
    return str(target)


def _copy_sheet(path: str, target: Path) -> str:
    """Write the first sheet that has rows as CSV."""
    from python_calamine import CalamineError, CalamineWorkbook

    with open_bytes(path) as stream:
        content = io.BytesIO(stream.read())
    try:
        workbook = CalamineWorkbook.from_filelike(content)
        sheets = (workbook.get_sheet_by_name(name) for name in workbook.sheet_names)
        sheet = next((sheet for sheet in sheets if sheet.height), None)
        with target.open("w", encoding="utf-8", newline="") as copy:
            writer = csv.writer(copy, lineterminator="\n")
            for row in sheet.iter_rows() if sheet else ():
                writer.writerow([_cell(value) for value in row])
    except CalamineError as error:
        raise SourceError(
            f"Expected a readable spreadsheet, but {path} cannot be read ({error}): export it again, as CSV UTF-8."
        ) from None
    return str(target)


def _cell(value: object) -> str:
    if isinstance(value, datetime | date | time):
        return value.isoformat(sep=" ") if isinstance(value, datetime) else value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


@contextmanager
def _explaining(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SourceError(
            f"Expected a readable file, but {os.fspath(path)} cannot be read ({reason}): export it again, or move it "
            "away."
        ) from None
