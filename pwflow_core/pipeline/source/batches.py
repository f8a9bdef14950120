"""Many small CSV files of one kind, read together: opening a reader for each costs more than its rows.

Only files that have the header of the first one, letter by letter, and no surprises are read together. With any other,
or where DuckDB finds fault with one of them, each is read by itself, and says what is wrong with it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from pwflow_core.errors import SourceError
from pwflow_core.files import is_remote, is_utf8
from pwflow_core.onboarding.layout import find_layout
from pwflow_core.opening import has_byte_order_mark
from pwflow_core.pipeline.source.expressions import Context, columns_of, path_values
from pwflow_core.pipeline.source.later_headers import check_later_headers
from pwflow_core.pipeline.source.long import Staged
from pwflow_core.pipeline.source.source import FileState, Source
from pwflow_core.pipeline.source.staging import check_columns, select_rows
from pwflow_core.warehouse import quote_identifier, quote_literal

__all__ = ["SmallFile", "group_small", "read_small", "stage_together"]

_MOST_BYTES_EACH = 1 << 20
_MOST_BYTES = 1 << 25
_MOST_FILES = 500
_ENDINGS = (".csv", ".tsv", ".txt")


@dataclass(frozen=True, slots=True)
class SmallFile:
    """A small file as it is on disk.

    Attributes:
        path: Where it is.
        label: Its name for readers.
        header: Its first line.
        content_hash: SHA-256 of its bytes.
    """

    path: str
    label: str
    header: bytes
    content_hash: str


def group_small(files: Sequence[FileState], source: Source) -> Iterator[list[FileState]]:
    """Yield the files in their order: small ones that might be read together in groups, others alone."""
    group: list[FileState] = []
    n_bytes = 0
    for file in files:
        small = (
            source.layout == "wide"
            and source.delimiter is not None
            and source.encoding is None
            and source.header
            and not is_remote(file.path)
            and is_utf8(file.path)
            and ".zip/" not in file.path.lower()
            and 0 < file.size_bytes <= _MOST_BYTES_EACH
            and file.path.lower().endswith(_ENDINGS)
        )
        if group and (not small or len(group) == _MOST_FILES or n_bytes + file.size_bytes > _MOST_BYTES):
            yield group
            group, n_bytes = [], 0
        if small:
            group.append(file)
            n_bytes += file.size_bytes
        else:
            yield [file]
    if group:
        yield group


def read_small(path: str, label: str, source: Source) -> SmallFile | None:
    """Return a small file that can be read together with others like it; None if it is not so plain."""
    try:
        content = Path(path).read_bytes()
    except OSError:
        return None
    header, _, rest = content.partition(b"\n")
    delimiter = (source.delimiter or ",").encode()
    first = rest.partition(b"\n")[0]
    is_plain = (
        first
        and b"\0" not in content
        and b'"' not in header
        and not has_byte_order_mark(content)
        and first.count(delimiter) == header.count(delimiter)
        and find_layout(header + b"\n" + first, source.delimiter or ",", 0) is None
    )
    return SmallFile(path, label, header, hashlib.sha256(content).hexdigest()) if is_plain else None


def stage_together(
    scratch: duckdb.DuckDBPyConnection, files: Sequence[SmallFile], source: Source, target: Path
) -> list[Staged] | None:
    """Read small files with one header into one Parquet file; each of the results says which of its rows are its own.

    Returns:
        One per file, in their order; None if they have to be read one by one.
    """
    if len({file.header for file in files}) != 1:
        return None
    try:
        known = [path_values(source, file.label) for file in files]
        return _stage(scratch, files, known, source, target)
    except (duckdb.Error, SourceError):
        return None


def _stage(
    scratch: duckdb.DuckDBPyConnection,
    files: Sequence[SmallFile],
    known: Sequence[dict[str, str]],
    source: Source,
    target: Path,
) -> list[Staged] | None:
    names = list(dict.fromkeys(name for values in known for name in values))
    columns = "".join(f", {quote_identifier(name)} VARCHAR" for name in names)
    scratch.execute(f"CREATE OR REPLACE TEMP TABLE together (_file VARCHAR, _place BIGINT, _label VARCHAR{columns})")
    scratch.executemany(
        f"INSERT INTO together VALUES (?, ?, ?{', ?' * len(names)})",
        [
            [file.path, place, file.label, *(values.get(name) for name in names)]
            for place, (file, values) in enumerate(zip(files, known, strict=True))
        ],
    )
    for table in ("rejected_scans", "rejected_lines"):
        scratch.execute(f"DROP TABLE IF EXISTS {table}")
    paths = ", ".join(quote_literal(file.path) for file in files)
    reader = (
        f"read_csv([{paths}], all_varchar = true, header = true, skip = 0, filename = '_file', store_rejects = true, "
        f"rejects_scan = 'rejected_scans', rejects_table = 'rejected_lines', hive_partitioning = false, "
        f"delim = {quote_literal(source.delimiter or ',')})"
    )
    types = {row[0]: row[1] for row in scratch.execute(f"DESCRIBE SELECT * FROM {reader}").fetchall()}
    context = Context("_label", dict.fromkeys(names, ""), in_rows=True)
    check_columns(types, files[0].path, source, context.known)
    if set(types) & {*names, "_place", "_label", "_row"} or not columns_of(source, context.known):
        return None
    own = "row_number() OVER (PARTITION BY _place ORDER BY _row)"
    rows = f"(SELECT * FROM (SELECT *, row_number() OVER () AS _row FROM {reader}) JOIN together USING (_file))"
    select = select_rows(rows, types, context, source, own, beside="_place, ")
    scratch.execute(f"COPY ({select}) TO {quote_literal(str(target))} (FORMAT parquet)")
    check_later_headers(scratch, f"read_parquet({quote_literal(str(target))})", types, files[0].path, source)
    counts = dict(
        scratch.execute("SELECT _place, count(*) FROM read_parquet(?) GROUP BY _place", [str(target)]).fetchall()
    )
    if len(counts) < len(files):
        return None  # one of them has no row, and says so by itself
    malformed = defaultdict(list)
    for path, *line in scratch.execute(
        "SELECT file_path, line, any_value(csv_line), string_agg(DISTINCT error_message, '; ') "
        "FROM rejected_lines JOIN rejected_scans USING (scan_id, file_id) GROUP BY file_path, line ORDER BY line"
    ).fetchall():
        malformed[path].append(tuple(line))
    return [Staged(target, counts[place], malformed[file.path], place) for place, file in enumerate(files)]
