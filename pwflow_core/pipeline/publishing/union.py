"""The union of several plants: one file with a view for each published table, over the Parquet files of all of them.

Each plant, or group of machines with a warehouse of its own, publishes for itself. The views look at what is published
when they are asked, so that nothing has to be copied and a night of one plant waits for no other. Beside the file lies
a manifest, written last: it says what the union is of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from pwflow_core.errors import ConfigurationError, NotFittedError
from pwflow_core.files import escape_glob, put_file
from pwflow_core.pipeline.publishing.contents import Manifest, read_manifest
from pwflow_core.storage import flush, working_folder
from pwflow_core.warehouse import PUBLIC_TABLES, quote_identifier, quote_literal, utc_now

__all__ = ["Union", "write_union"]

_STORAGE_VERSION = "v1.2.0"


@dataclass(frozen=True)
class Union:
    """A union that was written.

    Attributes:
        path: The file with the views.
        plants: Folder with the published tables, by plant.
        left_out: Plants that have published nothing yet.
        tables: Names of the views.
    """

    path: Path
    plants: dict[str, Path]
    left_out: list[str]
    tables: list[str]


def write_union(plants: Mapping[str, Path], target: Path) -> Union:
    """Write the file in place of the one before, then its manifest.

    Arguments:
        plants: The link to the Parquet files of each plant, by its name.
        target: The DuckDB file to write.

    Raises:
        NotFittedError: None of the plants has published anything yet.
        ConfigurationError: The file cannot be written, or is the published file of a plant.
    """
    there = {name: folder.absolute() for name, folder in plants.items() if read_manifest(folder) != Manifest()}
    if not there:
        raise NotFittedError("None of the plants has published anything yet: run `pwflow run` for one of them first.")
    if any(target.absolute() in (folder.with_suffix(".duckdb"), folder) for folder in there.values()):
        raise ConfigurationError(f"{target} is what a plant publishes: give the union a name of its own.")
    tables = [name for name in ("readings", *PUBLIC_TABLES) if any((f / name).is_dir() for f in there.values())]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with working_folder(target.parent, "union") as folder:
            fresh = folder / target.name
            _write_views(fresh, there, tables)
            flush(fresh)
            fresh.replace(target)
    except OSError as error:
        raise ConfigurationError(f"{target} cannot be written: {error.strerror}. Name another file.") from None
    manifest = {
        "made_at": f"{utc_now().isoformat(timespec='seconds')}Z",
        "plants": {name: str(folder) for name, folder in there.items()},
        "left_out": sorted(set(plants) - set(there)),
        "tables": tables,
    }
    put_file(target.with_name(f"{target.name}.json"), json.dumps(manifest, indent=1, ensure_ascii=False).encode())
    return Union(target, there, sorted(set(plants) - set(there)), tables)


def _write_views(fresh: Path, plants: Mapping[str, Path], tables: list[str]) -> None:
    with duckdb.connect() as connection:
        connection.execute(
            f"ATTACH {quote_literal(str(fresh))} AS made (STORAGE_VERSION {quote_literal(_STORAGE_VERSION)})"
        )
        connection.execute("CREATE SCHEMA made.mart")
        for table in tables:
            parts = [
                f"SELECT {quote_literal(name)} AS plant_name, * FROM read_parquet("
                f"{quote_literal(escape_glob(folder / table) + '/**/*.parquet')}, "
                "hive_partitioning = false, union_by_name = true)"
                for name, folder in plants.items()
                if (folder / table).is_dir()
            ]
            connection.execute(
                f"CREATE VIEW made.mart.{quote_identifier(table)} AS {' UNION ALL BY NAME '.join(parts)}"
            )
        connection.execute("DETACH made")
