"""The bytes of a CSV file, plain or gzipped: lines from its start and blocks of lines spread over it."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from pwflow_core.errors import SourceError

__all__ = ["Content", "open_content", "without_gaps"]

_HEAD_BYTES = 1 << 18
_MOST_UNPACKED_BYTES = 1 << 25
_MOST_BLOCK_BYTES = 1 << 23
_BOM = b"\xef\xbb\xbf"
_GAP = re.compile(rb"\0{16,}")


def open_content(path: Path) -> Content:
    """Return the content of a CSV file.

    Raises:
        SourceError: The file cannot be read, is not text in UTF-8, or is damaged.
    """
    try:
        if path.name.lower().endswith(".gz"):
            with gzip.open(path) as stream:
                unpacked = stream.read(_MOST_UNPACKED_BYTES)
            return Content(path, unpacked)
        return Content(path, None)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SourceError(
            f"Expected a readable CSV file, but {path} cannot be read ({reason}): export it again, or move it away."
        ) from None


def without_gaps(text: bytes) -> bytes:
    """Return text without the zeros that a logger leaves where its power failed; what is zeros alone stays."""
    return _GAP.sub(b"", text) or text


class Content:
    """The bytes of one CSV file, read piece by piece."""

    def __init__(self, path: Path, unpacked: bytes | None) -> None:
        self._path = path
        self._unpacked = unpacked
        self._size = path.stat().st_size if unpacked is None else len(unpacked)
        self._head = without_gaps(self._read(0, _HEAD_BYTES).removeprefix(_BOM))
        self._header: bytes | None = None
        _check_text(path, self._head)

    def use_header(self, names: Sequence[str], delimiter: str) -> None:
        """Have these names stand for the header; what is read after it begins at the line that `skip` says."""
        quoted = delimiter.join('"' + name.replace('"', '""') + '"' for name in names)
        self._header = quoted.encode() + (b"\r\n" if b"\r\n" in self._head else b"\n")

    @property
    def start(self) -> bytes:
        """The first bytes."""
        return self._head

    def text(self, n_lines: int) -> str:
        """Return the first lines."""
        lines = self._head.splitlines(keepends=True)[:n_lines]
        return b"".join(lines).decode("utf-8", errors="replace")

    def header(self, skip: int) -> bytes:
        """Return the record with the column names, which may go over several lines."""
        if self._header is not None:
            return self._header
        lines = self._head.splitlines(keepends=True)[skip:]
        header = b""
        for line in lines:
            header += line
            if header.count(b'"') % 2 == 0:
                break
        return header if header.endswith((b"\n", b"\r")) else header + b"\n"

    def head(self, skip: int, n_lines: int) -> bytes:
        """Return the first lines after the header."""
        return b"".join(self._body(skip).splitlines(keepends=True)[:n_lines])

    def blocks(self, skip: int, n_rows: int, n_spread: int) -> Iterator[tuple[bytes, int]]:
        """Yield (lines, rows to take): all of a small file, else its start and blocks spread over it."""
        body = self._body(skip)
        start = self._size - self._rest(skip)
        line_bytes = max(1.0, len(body) / max(1, body.count(b"\n")))
        if self._rest(skip) <= line_bytes * n_rows:
            yield self._checked(self._read(start, self._rest(skip) + len(_BOM))), n_rows
            return
        head, each = n_rows // 2, n_rows // (2 * n_spread)
        first = self._read(start, _block_bytes(line_bytes, head))
        yield self._checked(_whole_lines(first)), head
        after = start + len(first)
        part = (self._size - after) / n_spread
        width = min(int(part), _block_bytes(line_bytes, each))
        for end in (after + int(part * i) for i in range(1, n_spread + 1)):
            lines = self._read(end - width, width).partition(b"\n")[2]
            yield self._checked(_whole_lines(lines)), each

    def _body(self, skip: int) -> bytes:
        lines = b"".join(self._head.splitlines(keepends=True)[skip:])
        return lines if self._header is not None else lines[len(self.header(skip)) :]

    def _rest(self, skip: int) -> int:
        """Return the number of bytes after the header."""
        marked = len(_BOM) if self._read(0, 3) == _BOM else 0
        return self._size - marked - (len(self._head) - len(self._body(skip)))

    def _read(self, offset: int, n_bytes: int) -> bytes:
        stream: BinaryIO
        with io.BytesIO(self._unpacked) if self._unpacked is not None else self._path.open("rb") as stream:
            stream.seek(offset)
            return stream.read(n_bytes)

    def _checked(self, lines: bytes) -> bytes:
        lines = _GAP.sub(b"", lines)
        _check_text(self._path, lines)
        return lines


def _whole_lines(lines: bytes) -> bytes:
    return lines[: lines.rfind(b"\n") + 1]


def _block_bytes(line_bytes: float, n_rows: int) -> int:
    return min(_MOST_BLOCK_BYTES, int(line_bytes * (n_rows + 2) * 1.2) + 1)


def _check_text(path: Path, piece: bytes) -> None:
    """Raise if the bytes are not UTF-8 text; the last letter may be cut."""
    if b"\0" in piece:
        kind = "UTF-16" if piece[:2] in (b"\xff\xfe", b"\xfe\xff") else "binary data"
        raise SourceError(
            f"Expected CSV text in UTF-8, got {kind} in {path}: export it as CSV UTF-8, or give a Parquet "
            "file the ending .parquet."
        )
    try:
        piece.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end >= len(piece) - 3 and error.reason == "unexpected end of data":
            return
        line = piece[: error.start].count(b"\n") + 1
        where = f"line {line} of " if error.start < _HEAD_BYTES and line < 1000 else ""
        letter = piece[error.start : error.start + 1].decode("latin-1")
        raise SourceError(
            f"Expected CSV text in UTF-8, but {where}{path} is in another encoding (a byte that would be "
            f"{letter!r} in Windows-1252): save it as CSV UTF-8."
        ) from None
