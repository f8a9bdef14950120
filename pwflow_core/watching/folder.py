"""A folder of files that grow: lines that are appended, and files that are new, in the order of their names.

Of each file, its position is kept with its inode and a hash of its beginning: one that is renamed goes on, and another
one at its path is read from its beginning. Readings that were scored already are refused by their time. A last line
without its end waits.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from pwflow_core.config import PlantConfig, path_expression
from pwflow_core.edge.lines import LineReader, Readings
from pwflow_core.errors import ConfigurationError, SourceError
from pwflow_core.files import is_parquet, is_remote
from pwflow_core.marks import FILE_NAME_COLUMN
from pwflow_core.opening import is_packed, is_spreadsheet
from pwflow_core.pipeline.source.source import find_files, label_files
from pwflow_core.watching.arriving import Arrived, join_readings

__all__ = ["Folder"]

_MOST_BYTES = 1 << 19
_MOST_ROWS = 5_000
_LONGEST_LINE = 1 << 20
_HEADER_LINES = 50
_DELIMITERS = ",;\t|"
_MOST_OF_HEAD = 4_096
_COLUMN_OF_PATH = {FILE_NAME_COLUMN: "name of the file"}
"""The column that a line gets with what the path gives."""
_DONE = -1
"""Position of a file of Parquet that was read."""


@dataclass
class _File:
    """A file that is followed.

    Attributes:
        path: Where it is.
        inode: What the file system knows it by.
        offset: How far it was read, bytes; rows of Parquet, `_DONE` after the last.
        head: Hash of its first bytes, and how many those are.
        size: Its size, bytes.
        is_skipping: Whether the line is too long that goes on at `offset`.
        extra: Columns that its path gives.
        delimiter: What is between them.
        reader: What reads its lines.
        changed_at: When its size was another one last, on the clock of `monotonic`.
    """

    path: str
    inode: int
    offset: int = 0
    head: tuple[str, int] = ("", 0)
    size: int = 0
    is_skipping: bool = False
    extra: Mapping[str, str] = field(default_factory=dict)
    delimiter: str = ","
    reader: LineReader | None = None
    changed_at: float = 0.0

    @property
    def position(self) -> str:
        """Where to go on from, as it is kept."""
        kept = {"inode": self.inode, "offset": self.offset, "size": self.size, "is_skipping": self.is_skipping}
        return json.dumps(kept | {"head": self.head})

    def take_up(self, before: Mapping[str, Any]) -> None:
        """Go on from a position, if it is of this file."""
        head = tuple(before["head"])
        if before["inode"] != self.inode or _head_of(self.path, head[1]) != head:
            return
        if is_parquet(self.path) and before["size"] != self.size:
            return
        self.offset, self.is_skipping, self.head = before["offset"], before["is_skipping"], head


class Folder:
    """The files of `source.path`.

    Arguments:
        config: The plant.
        known: Positions of an earlier watch, by path.
        read: How many bytes of each file the last night has read, by path.

    Raises:
        ConfigurationError: The source is not files on this machine whose rows are readings.
    """

    name = "folder"

    def __init__(self, config: PlantConfig, known: Mapping[str, str], read: Mapping[str, int]) -> None:
        if config.source.path is None or any(is_remote(pattern) for pattern in config.source.patterns):
            raise ConfigurationError(
                "Expected source.path to name files on this machine, which can be followed: give readings on standard "
                "input (`pwflow watch --stdin`), or by MQTT ([watch] broker)."
            )
        encoding = config.source.encoding or "utf-8"
        if "\n".encode(encoding) not in (b"\n", b"\xef\xbb\xbf\n"):
            raise ConfigurationError(f"Files in {encoding} cannot be followed: expected UTF-8 or a code page.")
        self.refused: Counter[str] = Counter()
        self._config, self._encoding = config, encoding
        self._known = {path: json.loads(position) for path, position in known.items()}
        self._by_inode = {position["inode"]: position for position in self._known.values()}
        self._read = dict(read)
        self._files: dict[str, _File] = {}
        self._ignored: set[str] = set()
        self._rules: Mapping[str, Any] | None = None
        self._poll_seconds = config.watch.poll_seconds
        self._looked_at = -self._poll_seconds
        self._has_more = False

    @property
    def is_over(self) -> bool:
        """Never: a file may always grow."""
        return False

    def use(self, rules: Mapping[str, Any]) -> None:
        """See `Source`."""
        self._count()
        self._rules = rules
        for file in self._files.values():
            file.reader = None

    def take(self, wait_seconds: float) -> Arrived | None:
        """See `Source`."""
        if not self._has_more:
            pause = self._looked_at + self._poll_seconds - time.monotonic()
            if pause > 0:
                time.sleep(min(pause, wait_seconds))
                if pause > wait_seconds:
                    return None
            self._look()
        at, parts, positions, n_bytes = time.time(), list[Readings](), {}, 0
        self._has_more = False
        for path in sorted(self._files):
            file = self._files[path]
            if n_bytes >= _MOST_BYTES:
                self._has_more = True
                break
            if self._is_coming(file):
                break  # what is in later files may come after it
            try:
                n_read, found = self._read_file(file, _MOST_BYTES - n_bytes)
            except OSError:
                continue  # gone, or not to be read just now
            if n_read:
                n_bytes += n_read
                positions[path] = file.position
                parts += found
        self._count()
        if not positions:
            return None
        return Arrived(join_readings(parts, len(self._sensors)), at, positions)

    def settle(self, arrived: Arrived) -> None:
        """See `Source`."""

    def close(self) -> None:
        """See `Source`."""

    @property
    def _sensors(self) -> list[Any]:
        return list(self._rules["sensors"]) if self._rules else []

    def _look(self) -> None:
        """Look for files that are new, changed their names, or are gone."""
        self._looked_at = time.monotonic()
        try:
            found = find_files(self._config)
        except SourceError:
            found = []
        labels = label_files(self._config, found) if any(f.path not in self._files for f in found) else {}
        paths = {file.path for file in found}
        for path in [path for path in self._files if path not in paths]:
            gone = self._files.pop(path)  # it may come back under another name
            self._by_inode[gone.inode] = json.loads(gone.position)
        for state in found:
            if state.path in self._ignored:
                continue
            if is_packed(state.path) or is_spreadsheet(state.path) or state.path.endswith(".gz"):
                self._ignored.add(state.path)
                self.refused["file_not_followed"] += 1
                continue
            try:
                status = os.stat(state.path)  # noqa: PTH116 - a name that is not UTF-8
            except OSError:
                continue
            file = self._files.get(state.path)
            if file is not None and status.st_size != file.size:
                file.changed_at = time.monotonic()
                if is_parquet(file.path) or _head_of(file.path, file.head[1]) != file.head:
                    file = None  # another one at this path
            if file is None or file.inode != status.st_ino or status.st_size < file.offset:
                is_known = state.path in self._files
                file = self._open(state.path, status, labels.get(state.path, ""), is_known=is_known)
                self._files[state.path] = file
            file.size = status.st_size

    def _open(self, path: str, status: os.stat_result, label: str, *, is_known: bool) -> _File:
        """Return a file at the position to go on from."""
        file = _File(path, status.st_ino, size=status.st_size, extra=self._extra(label), changed_at=time.monotonic())
        before = self._known.pop(path, None) or self._by_inode.pop(file.inode, None)
        if before is not None:
            file.take_up(before)
        elif not is_known and self._read.get(path, file.size + 1) <= file.size:
            file.offset = _DONE if is_parquet(path) else _begin_of_line(path, self._read[path])
            file.head = _head_of(path, min(_MOST_OF_HEAD, max(file.offset, 0)))
        return file

    def _extra(self, label: str) -> dict[str, str]:
        """Return the columns that the path of a file gives."""
        if not label or self._rules is None:
            return {}
        pattern = self._rules.get("path_columns")
        match = path_expression(pattern).search(label) if pattern else None
        known = {name: value for name, value in (match.groupdict() if match else {}).items() if value is not None}
        used = {self._rules["machine"], *self._rules["segments"]}
        return known | ({_COLUMN_OF_PATH[FILE_NAME_COLUMN]: label} if FILE_NAME_COLUMN in used else {})

    def _read_file(self, file: _File, most_bytes: int) -> tuple[int, list[Readings]]:
        """Read what has come; return how many bytes that is."""
        if self._rules is None:
            return 0, []
        if is_parquet(file.path):
            return self._read_parquet(file)
        if file.size <= file.offset:
            return 0, []
        if file.reader is None and not self._find_header(file):
            return 0, []
        assert file.reader is not None  # noqa: S101 - for the type checker
        with Path(file.path).open("rb") as stream:
            stream.seek(file.offset)
            data = stream.read(most_bytes)
        end = data.rfind(b"\n") + 1
        if not end:
            if len(data) < most_bytes and len(data) <= _LONGEST_LINE:
                return 0, []  # the last line waits
            if not file.is_skipping:
                self.refused["malformed_line"] += 1
            file.is_skipping = True
            self._advance(file, len(data))
            return len(data), []
        lines = data[:end].decode(self._encoding, errors="surrogateescape").split("\n")[:-1]
        if file.is_skipping:
            lines, file.is_skipping = lines[1:], False
        self._advance(file, end)
        if file.extra:
            cells = _cells_behind(file.extra.values(), file.delimiter)
            lines = [line.rstrip("\r") + cells for line in lines if line.strip()]
        return end, [file.reader.read(lines)]

    def _find_header(self, file: _File) -> bool:
        """Find the line with the names of the columns; a file without one waits."""
        given = self._rules.get("delimiter") if self._rules else None
        with Path(file.path).open("rb") as stream:
            start = 0
            for _ in range(_HEADER_LINES):
                line = stream.readline(_LONGEST_LINE)
                if not line.endswith(b"\n"):
                    return False
                text = line.decode(self._encoding, errors="surrogateescape").removeprefix("\ufeff").strip("\r\n")
                start += len(line)
                for delimiter in [given] if given else _DELIMITERS:
                    reader = LineReader(self._line_rules | {"delimiter": delimiter}, is_csv=True)
                    try:
                        reader.read([text + _cells_behind(file.extra, delimiter)])
                    except SourceError:
                        continue
                    file.reader, file.delimiter = reader, delimiter
                    self._advance(file, max(0, start - file.offset))
                    return True
        self._ignored.add(file.path)
        self.refused["file_without_header"] += 1
        file.offset = file.size
        return False

    @property
    def _line_rules(self) -> dict[str, Any]:
        """What lines are read by: what the path of a file gives is a column of theirs."""
        rules = dict(self._rules or {})
        rules["machine"] = _COLUMN_OF_PATH.get(rules["machine"], rules["machine"])
        rules["segments"] = [_COLUMN_OF_PATH.get(name, name) for name in rules["segments"]]
        return rules | {"path_columns": None}

    def _advance(self, file: _File, n_bytes: int) -> None:
        file.offset += n_bytes
        if file.head[1] < _MOST_OF_HEAD:
            file.head = _head_of(file.path, min(_MOST_OF_HEAD, file.offset))

    def _is_coming(self, file: _File) -> bool:
        """Whether a file comes as a whole, and has not yet."""
        is_fresh = time.monotonic() - file.changed_at < self._poll_seconds
        return is_parquet(file.path) and file.offset != _DONE and is_fresh

    def _read_parquet(self, file: _File) -> tuple[int, list[Readings]]:
        """Read a file that comes as a whole, once it has stopped to grow."""
        if file.offset == _DONE:
            return 0, []
        if file.reader is None:
            file.reader = LineReader(self._line_rules)
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            try:
                rows = connection.execute(
                    "SELECT to_json(r)::VARCHAR FROM read_parquet(?, filename = false) AS r LIMIT ? OFFSET ?",
                    [file.path, _MOST_ROWS, file.offset],
                ).fetchall()
            except duckdb.Error:
                self.refused["file_unreadable"] += 1
                file.offset = _DONE  # until it changes
                return 0, []
        lines = [text for (text,) in rows]
        if file.extra:
            lines = [json.dumps(json.loads(line) | file.extra) for line in lines]
        file.offset = file.offset + len(rows) if len(rows) == _MOST_ROWS else _DONE
        return max(1, sum(map(len, lines))), [file.reader.read(lines)]

    def _count(self) -> None:
        for file in self._files.values():
            if file.reader is not None:
                self.refused += file.reader.refused
                file.reader.refused.clear()


def _cells_behind(cells: Collection[str], delimiter: str) -> str:
    """Return further cells of a line, with the delimiter before each."""
    if not cells:
        return ""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="").writerow(["", *cells])
    return text.getvalue()


def _head_of(path: str, n_bytes: int) -> tuple[str, int]:
    """Return the hash of the first bytes of a file, and how many those are."""
    with Path(path).open("rb") as stream:
        return hashlib.sha256(stream.read(n_bytes)).hexdigest()[:16] if n_bytes else "", n_bytes


def _begin_of_line(path: str, offset: int) -> int:
    """Return where the line begins that has a position in it, or that begins there."""
    with Path(path).open("rb") as stream:
        back = min(offset, _LONGEST_LINE)
        stream.seek(offset - back)
        found = stream.read(back).rfind(b"\n")
    return 0 if found < 0 and back == offset else offset - back + found + 1
