"""A look into one file of the exports: how it is read, its columns, and rows from several places of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from pwflow_core.errors import SourceError, first_line
from pwflow_core.files import escape_glob, is_parquet
from pwflow_core.onboarding.content import Content, open_content
from pwflow_core.onboarding.dialect import find_dialect, find_header, has_header
from pwflow_core.onboarding.layout import EMPTY_COLUMN, find_layout, layout_without_header
from pwflow_core.opening import plain_file

__all__ = ["Look", "Opening", "SampledFile"]

_SPREAD_BLOCKS = 4
_MOST_COPIED_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class SampledFile:
    """A file that was looked at: its columns as DuckDB names them, with their types."""

    path: Path
    plain: Path
    """The file itself, or a plain copy of it."""
    types: dict[str, str]
    skip_lines: int = 0
    names: tuple[str, ...] = ()
    """Names of the columns, where the first line does not have them."""
    has_header: bool = True


@dataclass(slots=True)
class Opening:
    """Where plain copies of the files go that are not plain."""

    folder: Path
    encoding: str | None
    most_bytes: int | None = _MOST_COPIED_BYTES
    n_opened: int = 0

    def plain(self, path: Path) -> Path:
        """Return the file, or a plain copy of it."""
        self.n_opened += 1
        own = self.folder / str(self.n_opened)
        own.mkdir()
        return Path(plain_file(str(path), own, self.encoding, self.most_bytes))


@dataclass(frozen=True, slots=True)
class Look:
    """A file opened for a look: how it is read, and whether there is anything in it."""

    file: SampledFile
    has_rows: bool
    delimiter: str | None = None
    content: Content | None = None

    @classmethod
    def at(cls, connection: duckdb.DuckDBPyConnection, path: Path, delimiter: str | None, opening: Opening) -> Look:
        """Open a file.

        Raises:
            SourceError: It cannot be read.
        """
        plain = opening.plain(path)
        if is_parquet(plain):
            with _naming(path):
                relation = connection.read_parquet(escape_glob(plain), hive_partitioning=False)
                types = dict(zip(relation.columns, map(str, relation.types), strict=True))
                return cls(SampledFile(path, plain, types), bool(relation.limit(1).fetchall()))
        content = open_content(plain)
        found, skip = (delimiter, 0) if delimiter else find_dialect(content)
        if delimiter:
            skip = find_header(content, delimiter)
        names: tuple[str, ...] = ()
        if layout := find_layout(content.start, found, skip):
            skip, names = layout.skip_lines, layout.names
            content.use_header(layout.names, found)
        types, has_rows = _read_head(connection, path, content, skip, found)
        is_named = has_header(path, list(types), content, found)
        if not is_named:
            skip, names = 0, layout_without_header(content.start, found).names
            content.use_header(names, found)
            types, has_rows = _read_head(connection, path, content, skip, found)
        return cls(SampledFile(path, plain, types, skip, names, is_named), has_rows, found, content)

    def insert(self, connection: duckdb.DuckDBPyConnection, number: int, select: str, n_rows: int) -> None:
        """Put rows from several places of the file into the table `sample`.

        Raises:
            SourceError: It cannot be read.
        """
        with _naming(self.file.path):
            if self.content is None:
                self._insert_parquet(connection, number, select, n_rows)
            else:
                self._insert_csv(connection, number, select, n_rows, self.content)

    def _insert_csv(
        self,
        connection: duckdb.DuckDBPyConnection,
        number: int,
        select: str,
        n_rows: int,
        content: Content,
    ) -> None:
        header = content.header(self.file.skip_lines)
        with tempfile.TemporaryDirectory() as folder:
            excerpt = Path(folder) / "excerpt.csv"
            for block, (lines, limit) in enumerate(content.blocks(self.file.skip_lines, n_rows, _SPREAD_BLOCKS)):
                excerpt.write_bytes(header + lines)
                rows = _read_csv(connection, excerpt, self.delimiter).limit(limit)
                place = f"{number} AS file, {block} AS block, row_number() OVER () AS row"
                rows.project(f"{place}, {select}").insert_into("sample")

    def _insert_parquet(self, connection: duckdb.DuckDBPyConnection, number: int, select: str, n_rows: int) -> None:
        path = escape_glob(self.file.plain)
        n_total = int(connection.read_parquet(path, hive_partitioning=False).aggregate("count(*)").fetchall()[0][0])
        if any(name.lower() == "file_row_number" for name in self.file.types):
            rows = connection.read_parquet(path, hive_partitioning=False).limit(n_rows)
            rows.project(f"{number}, 0, row_number() OVER (), {select}").insert_into("sample")
            return
        for block, (start, count) in enumerate(_ranges(n_total, n_rows)):
            rows = connection.read_parquet(path, file_row_number=True, hive_partitioning=False).filter(
                f"file_row_number >= {start} AND file_row_number < {start + count}"
            )
            rows.project(f"{number}, {block}, file_row_number, {select}").insert_into("sample")


def _read_head(
    connection: duckdb.DuckDBPyConnection, path: Path, content: Content, skip: int, delimiter: str
) -> tuple[dict[str, str], bool]:
    """Return the columns of a CSV file with their types, and whether it has a row."""
    with _naming(path), tempfile.TemporaryDirectory() as folder:
        excerpt = Path(folder) / "excerpt.csv"
        excerpt.write_bytes(content.header(skip) + content.head(skip, 2))
        relation = _read_csv(connection, excerpt, delimiter)
        types = {name: "VARCHAR" for name in relation.columns if not name.startswith(EMPTY_COLUMN)}
        return types, bool(relation.limit(1).fetchall())


def _ranges(n_total: int, n_rows: int) -> list[tuple[int, int]]:
    """Return the blocks (first row, rows): all, or half of the budget at the start and the rest spread."""
    if n_total <= n_rows:
        return [(0, n_total)]
    head, each = n_rows // 2, n_rows // (2 * _SPREAD_BLOCKS)
    step = (n_total - head - each) / (_SPREAD_BLOCKS - 1)
    return [(0, head), *((head + int(i * step), each) for i in range(_SPREAD_BLOCKS))]


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn an error of DuckDB into one that names the file."""
    try:
        yield
    except (duckdb.Error, OSError) as error:
        raise SourceError(
            f"Expected a readable CSV or Parquet file, but {path} cannot be read ({first_line(error)}): export it "
            "again, or move it away."
        ) from None


def _read_csv(connection: duckdb.DuckDBPyConnection, path: Path, delimiter: str | None) -> duckdb.DuckDBPyRelation:
    # `skip = 0` and `ignore_errors`: left alone, the sniffer skips every line before a ragged one.
    return connection.read_csv(
        str(path),
        all_varchar=True,
        header=True,
        delimiter=delimiter or ",",
        quotechar='"',
        escapechar='"',
        skiprows=0,
        ignore_errors=True,
    )
