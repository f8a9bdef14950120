"""A full disk: the run fails and names the path, and what was there before is as it was.

The disk is a small tmpfs of its own where mounting is permitted, else a limit on the size of files.
"""

import contextlib
import errno
import os
import shutil
import subprocess
from pathlib import Path

import duckdb
import pytest

from pwflow_core.config import parse_config
from pwflow_core.errors import StorageFullError
from pwflow_core.model_store import ModelStore
from pwflow_core.plant import Plant
from pwflow_core.storage import explain_full_disk
from pwflow_core.warehouse import FileWarehouse
from tests.conftest import plant_readings, put_file, query
from tests.faults.conftest import (
    NIGHT,
    UNTIL_PUBLISHED,
    add_night,
    copy_plant,
    leftovers,
    published,
    whole_models,
)
from tests.processes import Ended, Stem, largest_file

FAILS = """
import sys
from pwflow_core.errors import StorageFullError
try:
    {step}
except StorageFullError as error:
    print(error)
    sys.stdout.flush()
    os._exit(7)
"""
LONG = pytest.mark.long(reason="7 CPU s each: one step that takes in and one that publishes stay")
READING_STATE = (
    "SELECT (SELECT sum(hash(r)) FROM core.readings AS r), (SELECT sum(hash(s)) FROM mart.anomaly_scores AS s)"
)


class SmallDisk:
    """A folder that can be filled up."""

    def __init__(self, folder: Path, is_mounted: bool) -> None:
        self.folder = folder
        self.is_mounted = is_mounted

    @contextlib.contextmanager
    def filled(self, left_bytes: int):
        """Leave so many bytes for the time of the block."""
        filler = self.folder / "filler"
        if self.is_mounted:
            filler.write_bytes(b"x" * max(0, shutil.disk_usage(self.folder).free - left_bytes))
        try:
            yield
        finally:
            filler.unlink(missing_ok=True)

    def run(self, stem: Stem, plant: Plant, step: str, left_bytes: int) -> Ended:
        """Run a step that may find the disk full; it ends with 7 and prints the error then."""
        limit = None if self.is_mounted else left_bytes
        return stem.run(plant, FAILS.format(step=step), file_limit=limit)


@pytest.fixture
def small_disk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    is_mounted = (
        shutil.which("mount") is not None and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    )
    yield SmallDisk(folder, is_mounted)
    if is_mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def on(disk: SmallDisk, plant: Plant) -> Plant:
    """Return a copy of a plant on the small disk."""
    return copy_plant(plant, disk.folder / "plant")


def test_while_a_model_is_stored_nothing_half_is_left(small_disk):
    store = ModelStore(str(small_disk.folder / "models"))
    before = store.put(b"a model that was there before")
    room, said = largest_file(100_000), pytest.raises(StorageFullError, match=f"{small_disk.folder}/models")
    with small_disk.filled(100_000), room, said:
        store.put(b"m" * 1_000_000)
    assert [path.stem for path in (small_disk.folder / "models").iterdir()] == [before]
    assert store.get(before) == b"a model that was there before"
    assert store.get(store.put(b"m" * 1_000_000))


STEPS = {
    "training": ("train_cluster_flows(plant, ['c0001'], reason='drift', promoted_by='night')", 2_000),
    "ingesting": ("ingest_files(plant)", 60_000),
    "scoring": ("list(score_slices(plant))", 60_000),
    "following drift": ("follow_drift(plant)", 20_000),
    "publishing": ("publish_warehouse(plant)", 100_000),
    "reporting": ('build_report(plant, report_path(plant.config, "en"))', 20_000),
}


@pytest.mark.parametrize(
    "step",
    [step if step in ("ingesting", "publishing") else pytest.param(step, marks=LONG) for step in STEPS],
)
def test_while_a_step_runs_it_fails_with_the_path_and_leaves_what_was_there(small_disk, trained_plant, stem, step):
    plant = on(small_disk, trained_plant)
    code, left_bytes = STEPS[step]
    if step == "ingesting":
        put_file(plant.config.folder / "data" / "a.csv", plant_readings(10_000, start="2024-05-01"))
    elif step == "scoring":
        with plant.warehouse.transaction() as connection:
            connection.execute("UPDATE core.component_log_density SET flow_version = 'an earlier one'")
    before = query(plant, READING_STATE), published(plant), query(plant, "FROM mart.flow_versions ORDER BY ALL")
    with small_disk.filled(left_bytes):
        ended = small_disk.run(stem, plant, code, left_bytes)
        assert ended.code == 7, ended.output
        assert f"{plant.config.folder}" in ended.output or str(small_disk.folder) in ended.output
        assert "make room there and run again" in ended.output
        assert (query(plant, READING_STATE), published(plant)) == before[:2]
    assert query(plant, "FROM mart.flow_versions ORDER BY ALL") == before[2]
    assert whole_models(plant)
    add_night(plant)
    (plant.config.folder / "data" / "a.csv").unlink(missing_ok=True)
    ended = stem.run(plant, NIGHT if step == "reporting" else UNTIL_PUBLISHED)
    assert ended.code == 0, ended.output
    assert leftovers(plant) == []


@pytest.mark.parametrize(
    "left_bytes",
    [pytest.param(2_000_000, marks=LONG), 700_000, pytest.param(100_000, marks=LONG), pytest.param(0, marks=LONG)],
)
def test_whenever_it_is_full_in_a_night_it_fails_with_the_path_and_the_next_run_completes(
    small_disk, trained_plant, stem, left_bytes
):
    """With less and less room, until the night does not even begin."""
    plant = on(small_disk, trained_plant)
    add_night(plant)
    before = published(plant)
    with small_disk.filled(left_bytes):
        ended = small_disk.run(stem, plant, UNTIL_PUBLISHED.strip().replace("\n", "\n    "), left_bytes)
        assert ended.code in ((0, 7) if left_bytes else (7,)), ended.output
        assert ended.code == 0 or published(plant) == before
    if ended.code == 7:
        assert "is full" in ended.output
        ended = stem.run(plant, UNTIL_PUBLISHED)
        assert ended.code == 0, ended.output
    assert published(plant)[0][0] == before[0][0] + 120


def test_a_commit_holds_where_only_the_ledger_cannot_be_written(make_plant, caplog):
    plant = make_plant()
    with plant.warehouse.transaction():
        pass
    too_small = plant.warehouse.ledger_path.stat().st_size - 1
    with largest_file(too_small), plant.warehouse.transaction() as connection:
        connection.execute("INSERT INTO core.plant_facts VALUES ('kept', '')")
    assert f"The last commit is in the warehouse, but not in {plant.warehouse.ledger_path}" in caplog.text
    assert query(plant, "SELECT fact FROM core.plant_facts") == [("kept",)]
    assert query(plant, "SELECT * FROM core.recoveries") == []


@pytest.mark.parametrize(("number", "what"), [(errno.ENOSPC, "is full"), (errno.EDQUOT, "has no quota left")])
def test_what_duckdb_passes_on_is_named_as_what_it_is(tmp_path, number, what):
    error = duckdb.IOException(f'Could not write file "/w.duckdb": {os.strerror(number)}')
    said = f"The disk of {tmp_path} {what} ({os.strerror(number)})"
    assert said in str(explain_full_disk(error, tmp_path))
    assert said in str(explain_full_disk(OSError(number, os.strerror(number)), tmp_path))


def test_the_file_limit_of_a_user_is_named_too(tmp_path):
    """Where a disk cannot be mounted, this is the real fault that is left."""
    config = parse_config(
        {"source": {"path": "x"}, "warehouse": {"url": "duckdb:///w.duckdb"}}, name="test", folder=tmp_path
    )
    warehouse = FileWarehouse.from_config(config)
    with warehouse.transaction() as connection:
        connection.execute("INSERT INTO core.plant_facts VALUES ('kept', '')")
    room, said = largest_file(2_000_000), pytest.raises(StorageFullError, match=str(tmp_path))
    with room, said, warehouse.transaction() as connection:
        connection.execute("CREATE TABLE core.large AS SELECT range, hash(range) FROM range(2000000)")
    with duckdb.connect(str(warehouse.path)) as connection:
        assert connection.execute("SELECT fact FROM core.plant_facts").fetchall() == [("kept",)]
