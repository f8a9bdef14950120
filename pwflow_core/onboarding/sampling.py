"""A bounded look into the exports: rows from the start of, and spread over, a few of the files.

Every file is read in blocks of neighbouring rows, so that a look costs the same on a huge export as on a
small one, and still sees the last product and the last machine. What the columns mean is decided elsewhere.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from pwflow_core.errors import SourceError
from pwflow_core.files import escape_glob, is_number_type
from pwflow_core.onboarding.encodings import find_encoding
from pwflow_core.onboarding.looks import Look, Opening, SampledFile
from pwflow_core.opening import is_packed, is_spreadsheet, split_member
from pwflow_core.spelling import NumberSpelling
from pwflow_core.warehouse import quote_identifier, quote_literal

__all__ = ["Sample", "SampledColumn", "draw_sample", "open_whole"]

_FILES = 6
_ROWS = 20_000
_CELLS = 2_000_000
_HEADERS = 60


@dataclass(frozen=True, slots=True)
class SampledColumn:
    """A column of the exports and the column of the sample table that holds it."""

    name: str
    key: str
    type: str
    n_absent: int
    """Files looked at that do not have it."""

    @property
    def is_number(self) -> bool:
        """Whether the file itself says that this is a number."""
        return is_number_type(self.type)

    @property
    def is_text(self) -> bool:
        """Whether this is text, as everything in a CSV file is."""
        return self.type == "VARCHAR"

    @property
    def is_time(self) -> bool:
        """Whether the file itself says that this is a point in time."""
        return self.type.startswith("TIMESTAMP") or self.type == "DATE"


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows of the exports in the table `sample` of an in-memory database.

    The table has `file`, `block` and `row` (BIGINT), and one column per column of the exports, named by its
    key, so that no name from the data reaches a statement. Empty text and words for "missing" are NULL.
    """

    connection: duckdb.DuckDBPyConnection
    columns: tuple[SampledColumn, ...]
    files: tuple[SampledFile, ...]
    n_headers: int
    """Files whose columns were compared."""
    n_rows: int
    delimiter: str | None
    assumptions: tuple[str, ...]
    encoding: str | None = None

    def aggregate(self, measures: str, table: str = "sample") -> tuple[Any, ...]:
        """Return aggregates over all rows of a table, as one row."""
        return self.connection.table(table).aggregate(measures).fetchall()[0]

    def column(self, name: str) -> SampledColumn | None:
        """Return the column called `name`, else the one that differs only in case, else None."""
        for column in self.columns:
            if column.name == name:
                return column
        return next((c for c in self.columns if c.name.lower() == name.lower()), None)


@contextmanager
def draw_sample(files: Sequence[Path], delimiter: str | None, encoding: str | None = None) -> Iterator[Sample]:
    """Look into the files; the database is closed with the block.

    Arguments:
        files: The exports, in order.
        delimiter: CSV delimiter, or None to find it.
        encoding: Encoding of text that is not UTF-8, or None to find it.

    Raises:
        SourceError: A file cannot be read, or none of them has a row.
    """
    filled, assumptions = _without_empty(files)
    if encoding is None:
        encoding, text = find_encoding(_spread(filled, _FILES))
        assumptions += [f"Text that is not UTF-8 is in {encoding} ({text!r}): check this."] * bool(encoding)
    with (
        duckdb.connect(":memory:", config={"threads": "1"}) as connection,
        tempfile.TemporaryDirectory(prefix="pwflow") as folder,
    ):
        connection.execute("SET TimeZone = 'UTC'")
        opening = Opening(Path(folder), encoding)
        looked, broken = _look_at_all(connection, _spread(filled, _FILES), delimiter, opening)
        assumptions += broken
        looked = [look for look in looked if look.has_rows] or looked[:1]
        if not looked[0].has_rows:
            raise SourceError(
                f"Expected rows of readings in {looked[0].file.path}, got only a header: export it with "
                "data, or name another file."
            )
        looked, odd = _of_one_layout(looked)
        assumptions += odd
        if not looked[0].file.has_header:
            names = ", ".join(list(looked[0].file.types)[:3])
            assumptions.append(f"The files have no header: their columns are called {names}, …: check this.")
        columns, n_headers = _columns(connection, looked, filled, opening)
        n_rows = _load(connection, looked, columns)
        yield Sample(
            connection,
            columns,
            tuple(look.file for look in looked),
            n_headers,
            n_rows,
            looked[0].delimiter,
            tuple(assumptions),
            encoding,
        )


def _look_at_all(
    connection: duckdb.DuckDBPyConnection, files: Sequence[Path], delimiter: str | None, opening: Opening
) -> tuple[list[Look], list[str]]:
    """Return the files with rows, and a sentence on each spreadsheet or archive that cannot be read."""
    looked, broken = [], []
    for path in files:
        try:
            looked.append(Look.at(connection, path, delimiter, opening))
        except SourceError as error:
            if len(files) == 1 or not (is_spreadsheet(path) or is_packed(path)):
                raise
            broken.append(f"Does not read {path}, which will be refused: {str(error).partition(': ')[0]}.")
    if not looked:
        raise SourceError(broken[0])
    return looked, broken


def open_whole(
    connection: duckdb.DuckDBPyConnection, path: Path, sample: Sample, columns: Sequence[SampledColumn], folder: Path
) -> str | None:
    """Return the query of all rows of a file, with some of its columns by their keys; only empty text is NULL.

    Returns:
        None if the file lacks one of them.

    Raises:
        SourceError: The file cannot be read.
    """
    folder.mkdir()
    opening = Opening(folder, sample.encoding, None)
    look = Look.at(connection, path, sample.delimiter, opening)
    names = {name.lower(): name for name in look.file.types}
    if any(column.name.lower() not in names for column in columns):
        return None
    select = ", ".join(f"{_as_read(column, names[column.name.lower()])} AS {column.key}" for column in columns)
    where = quote_literal(escape_glob(look.file.plain))
    if look.content is None:
        return f"SELECT {select} FROM read_parquet({where}, hive_partitioning = false)"
    header = "header = true, skip = 0"
    if look.file.names:
        quoted = ", ".join(map(quote_literal, look.file.names))
        header = f"header = false, skip = {look.file.skip_lines:d}, names = [{quoted}]"
    return (
        f"SELECT {select} FROM read_csv({where}, all_varchar = true, {header}, "
        f"delim = {quote_literal(look.delimiter or ',')}, ignore_errors = true, hive_partitioning = false)"
    )


def _without_empty(files: Sequence[Path]) -> tuple[list[Path], list[str]]:
    if not files:
        raise SourceError("Expected at least one file of readings, got none: correct source.path.")
    try:
        filled = [path for path in files if split_member(path)[0].stat().st_size > 0]
    except OSError as error:
        raise SourceError(
            f"{error.filename} cannot be read: {error.strerror}. Correct the path and run again."
        ) from None
    if not filled:
        which = str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
        raise SourceError(f"Expected readings in {which}, got 0 bytes: export the data again, or name another file.")
    n_empty = len(files) - len(filled)
    if not n_empty:
        return filled, []
    return filled, [f"{n_empty} of {len(files)} files hold 0 bytes; they will be refused."]


def _spread(files: Sequence[Path], n: int) -> list[Path]:
    """Return at most `n` of the files, evenly spread, the first and the last among them."""
    if len(files) <= n:
        return list(files)
    return [files[round(i * (len(files) - 1) / (n - 1))] for i in range(n)]


def _of_one_layout(looked: list[Look]) -> tuple[list[Look], list[str]]:
    """Return the files that share most columns with the others, and a sentence on those that do not."""
    sets = [{name.lower() for name in look.file.types} for look in looked]
    shared = [sum(len(own & other) for other in sets) / len(own | set()) for own in sets]
    main = sets[shared.index(max(shared))]
    fitting = [look for look, own in zip(looked, sets, strict=True) if len(own & main) * 2 >= len(main)]
    odd = [look.file.path for look in looked if look not in fitting]
    if not odd:
        return fitting, []
    return fitting, [
        f"{odd[0]} has other columns than the rest and will be refused: move it away, or narrow source.path."
    ]


def _columns(
    connection: duckdb.DuckDBPyConnection, looked: list[Look], files: Sequence[Path], opening: Opening
) -> tuple[tuple[SampledColumn, ...], int]:
    """Return the columns of all files looked at; more files than are sampled have their header compared."""
    headers = [{name.lower() for name in look.file.types} for look in looked]
    seen = {look.file.path for look in looked}
    for path in _spread(files, _HEADERS):
        if path not in seen and not is_spreadsheet(path) and not is_packed(path):
            look = Look.at(connection, path, looked[0].delimiter, opening)
            if look.has_rows:
                headers.append({name.lower() for name in look.file.types})
    names: dict[str, str] = {}
    types: dict[str, set[str]] = {}
    for look in looked:
        for name, type_name in look.file.types.items():
            names.setdefault(name.lower(), name)
            types.setdefault(name.lower(), set()).add(type_name)
    columns = []
    for position, (lower, name) in enumerate(names.items()):
        found = types[lower]
        absent = sum(lower not in header for header in headers)
        columns.append(SampledColumn(name, f"c{position}", _common_type(found), absent))
    return tuple(columns), len(headers)


def _common_type(types: set[str]) -> str:
    if len(types) == 1:
        return next(iter(types))
    numbers = all(map(is_number_type, types))
    return "DOUBLE" if numbers else "VARCHAR"


def _load(connection: duckdb.DuckDBPyConnection, looked: list[Look], columns: tuple[SampledColumn, ...]) -> int:
    definitions = ", ".join(f"{column.key} {column.type}" for column in columns)
    connection.execute(f'CREATE TABLE sample (file BIGINT, block BIGINT, "row" BIGINT, {definitions})')
    budget = min(_ROWS, max(2_000, _CELLS // max(1, len(columns))))
    for number, look in enumerate(looked):
        names = {name.lower(): name for name in look.file.types}
        select = ", ".join(_as_sampled(column, names.get(column.name.lower())) for column in columns)
        look.insert(connection, number, select, budget // len(looked))
    return int(connection.table("sample").aggregate("count(*)").fetchall()[0][0])


def _as_read(column: SampledColumn, name: str) -> str:
    value = f"{quote_identifier(name)}::{column.type}"
    return f"nullif(trim({value}), '')" if column.is_text else value


def _as_sampled(column: SampledColumn, name: str | None) -> str:
    if name is None:
        return f"NULL::{column.type}"
    value = f"{quote_identifier(name)}::{column.type}"
    if column.type in ("FLOAT", "DOUBLE"):
        return f"CASE WHEN NOT isnan({value}) THEN {value} END"
    if not column.is_text:
        return value
    return f"CASE WHEN NOT {NumberSpelling().is_missing(value)} THEN trim({value}) END"
