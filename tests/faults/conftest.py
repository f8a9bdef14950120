"""What the faults are made with: processes to kill, plants to damage, disks to fill."""

from __future__ import annotations

import functools
import hashlib
import json
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pytest

from pwflow_core.plant import Plant
from pwflow_core.warehouse import describe_table, quote_identifier, quote_literal
from tests.conftest import TRAINED, copy_folder, merge, open_plant, plant_readings, put_file
from tests.processes import Stem

UNTIL_PUBLISHED = """
ingest_files(plant)
derive_readings(plant)
assign_readings(plant)
list(score_slices(plant))
derive_scores(plant)
explain_anomalies(plant)
derive_events(plant)
derive_health(plant)
follow_drift(plant)
publish_warehouse(plant)
"""
NIGHT = f"""{UNTIL_PUBLISHED}
collect_model_files(plant)
build_report(plant, report_path(plant.config, "en"))
"""
"""What the nightly job does, step by step, in another process."""


@dataclass(frozen=True)
class OldLayout:
    """A layout of an earlier time: its tables, and today's expression for each column that has another name now."""

    tables: Path
    renamed: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def expression(self, table: str, column: str) -> str:
        """Return what the layout had in a column, as SQL on the table of today."""
        return self.renamed.get((table, column), quote_identifier(column))


_SHARES = {
    ("mart.cluster_health", "evidence"): "coalesce(evidence, share)",
    ("mart.cluster_health", "threshold"): "coalesce(threshold, share_threshold)",
}
_NUMBERS = {
    (table, "event_id"): "('0x' || substr(event_id, 3))::BIGINT"
    for table in ("mart.anomaly_events", "core.confirmations")
}
"""Ids of events were numbers; of their readings, whose last digits stand in the id."""
RELEASE_0_1 = OldLayout(
    Path(__file__).with_name("release_0_1.sql"),
    {("core.calibration", "company"): "2 * tail_dependence", ("core.calibration_steps", "log_density"): "conformity"}
    | _SHARES
    | _NUMBERS,
)
LAYOUT_3 = OldLayout(Path(__file__).with_name("layout_3.sql"), _SHARES | _NUMBERS)
OLD_LAYOUTS = {"release 0.1": RELEASE_0_1, "layout 3": LAYOUT_3}

_SEEN = """
CASE WHEN contains(model, ' given ')
    THEN concat(
        (
            SELECT count(*) FROM core.changed_days
            WHERE changed_at > try_cast(split_part(model, ' given ', 1) AS TIMESTAMP)
        ),
        ' days to look at, given ', split_part(model, ' given ', 2)
    )
    ELSE model
END AS model"""
"""Of `core.progress`: the moment of a change is another one in another run."""

Check = Callable[[Plant], None]


@pytest.fixture
def kill_often(stem: Stem, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[float]]:
    """Return a function that runs code on copies of a plant, kills each at a random moment, and checks what is left.

    It returns the moments, in seconds after the start, of the runs that really were killed.
    """

    def kill(plant: Plant, code: str, check: Check, *, times: int, seed: int = 0) -> list[float]:
        base = tmp_path_factory.mktemp("killed")
        whole = copy_plant(plant, base / "whole")
        finished = stem.run(whole, code)
        assert finished.code == 0, finished.output
        chance = random.Random(seed)  # noqa: S311 - moments, no secrets
        moments: list[float] = []
        longest, tries = finished.seconds, 0
        while len(moments) < times:
            tries += 1
            assert tries < 4 * times, "too many runs ended before they were killed"
            copy, moment = copy_plant(plant, base / "copy"), chance.uniform(0, longest)
            ended = stem.run(copy, code, kill_after=moment)
            assert ended.was_killed or ended.code == 0, ended.output
            if ended.was_killed:
                moments.append(moment)
                check(copy)
            shutil.rmtree(copy.config.folder)
        return moments

    return kill


def copy_plant(plant: Plant, folder: Path) -> Plant:
    """Return a plant on a copy of all files of another one."""
    return open_copy(copy_folder(plant.config.folder, folder))


def open_copy(folder: Path) -> Plant:
    """Open the plant that lies in a folder, as its configuration there says."""
    return open_plant(folder, json.loads((folder / "config.json").read_text()))


def changed(plant: Plant, **changes: object) -> Plant:
    """Open a trained plant under a changed configuration."""
    return open_plant(plant.config.folder, merge(TRAINED, changes))


def add_night(plant: Plant, start: str = "2024-04-01", seed: int = 7) -> None:
    """Put an hour of readings of both machines into the source."""
    put_file(plant.config.folder / "data" / f"{start}.csv", plant_readings(60, seed=seed, start=start))


def whole_models(plant: Plant) -> bool:
    """Whether every model file is what its name says."""
    files = list((plant.config.folder / "models").glob("*.safetensors"))
    return all(hashlib.sha256(file.read_bytes()).hexdigest() == file.stem for file in files)


def published(plant: Plant) -> list[tuple]:
    """Count and hash the published scores."""
    with duckdb.connect(str(plant.config.published_path), read_only=True) as connection:
        return connection.execute("SELECT count(*), sum(hash(s)) FROM mart.anomaly_scores AS s").fetchall()


def tables(plant: Plant) -> dict[tuple[str, str, str], tuple]:
    """Count and hash the rows of a warehouse and of its published copy, by table and regime.

    Left out is what says when a row was made and how long that took, and how many commits there were. For a step
    that keeps up to which moment it has seen changes, the days that it has yet to look at are counted.
    """
    published = plant.config.published_path
    copy = _count_copy(published, published.stat().st_mtime_ns)
    counted = {"kept": _count_rows(plant.warehouse.path), "published": copy}
    return {(where, *part): state for where, found in counted.items() for part, state in found.items()}


def _count_rows(path: Path) -> dict[tuple[str, str], tuple]:
    with duckdb.connect(str(path), read_only=True) as connection:
        columns: dict[str, list[str]] = {}
        for schema, table, column, kind in connection.execute(
            "SELECT schema_name, table_name, column_name, data_type FROM duckdb_columns() "
            "JOIN duckdb_tables() USING (schema_name, table_name) ORDER BY ALL"
        ).fetchall():
            was_made = kind == "TIMESTAMP" and column.endswith("_at") and column not in ("started_at", "ended_at")
            if not was_made and column not in ("train_seconds", "commit_number"):
                shown = _SEEN if (schema, table, column) == ("core", "progress", "model") else quote_identifier(column)
                columns.setdefault(f"{schema}.{table}", []).append(shown)
        found = {}
        for table, names in columns.items():
            regime = "coalesce(cluster_key, '')" if '"cluster_key"' in names else "''"
            for key, *state in connection.execute(
                f"SELECT {regime}, count(*), sum(hash(t)) FROM (SELECT {', '.join(names)} FROM {table}) AS t "
                "GROUP BY ALL"
            ).fetchall():
                found[table, key] = tuple(state)
        return found


@functools.cache
def _count_copy(path: Path, modified_ns: int) -> dict[tuple[str, str], tuple]:
    """Count a published copy once: it is never changed, only replaced."""
    return _count_rows(path)


def leftovers(plant: Plant) -> list[str]:
    """Return the working files in the folders of a plant: all that is hidden there but the published versions."""
    versions = f".{plant.config.published_folder.name}.versions"
    return sorted(str(path) for path in plant.config.folder.rglob(".*") if path.name != versions)


def as_of(plant: Plant, layout: OldLayout) -> None:
    """Put a warehouse of an old layout with the same rows into the place of a plant's warehouse."""
    path = plant.warehouse.path
    new = path.rename(path.with_name("new.duckdb"))
    plant.warehouse.ledger_path.unlink()
    with duckdb.connect(str(path)) as connection:
        connection.execute(layout.tables.read_text())
        known = connection.execute("SELECT schema_name, table_name FROM duckdb_tables()").fetchall()
        connection.execute(f"ATTACH {quote_literal(str(new))} AS new (READ_ONLY)")
        for schema, table in known:
            if table == "warehouse_state":
                continue
            if table in ("readings", "raw_readings", "filled_values"):
                for sensor in ("temperature", "pressure"):
                    connection.execute(f"ALTER TABLE {schema}.{table} ADD COLUMN {sensor} DOUBLE")
            columns = ", ".join(
                f"{layout.expression(f'{schema}.{table}', column.name)} AS {quote_identifier(column.name)}"
                for column in describe_table(connection, schema, table)
            )
            connection.execute(f"INSERT INTO {schema}.{table} BY NAME SELECT {columns} FROM new.{schema}.{table}")
        made = connection.execute(
            "SELECT sql FROM duckdb_tables() WHERE database_name = 'new' AND table_name = 'features' "
            "UNION ALL SELECT sql FROM duckdb_views() WHERE database_name = 'new' AND view_name = 'model_readings'"
        ).fetchall()
        connection.execute("DETACH new")
        for (statement,) in made:
            connection.execute(statement)
    new.unlink()
