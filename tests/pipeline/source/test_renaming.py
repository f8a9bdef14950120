"""Files under another name: a moved folder is not read again, and a corrected file is taken wherever it lies."""

import os
import shutil

import pytest

from pwflow_core.pipeline.source.ingest import ingest_files
from tests.conftest import put_file, query, read_all

HEADER = "ts,machine,temperature,pressure"


def day(number: int, value: float, n: int = 50) -> str:
    rows = [f"2024-01-{number:02d}T00:{i:02d}:00Z,m,{value + i},1" for i in range(n)]
    return "\n".join([HEADER, *rows]) + "\n"


def state(plant) -> list[tuple]:
    return query(plant, "SELECT path, status, n_rows FROM ingest.files WHERE superseded_in IS NULL ORDER BY path")


def test_a_folder_that_was_moved_is_not_read_again_and_a_correction_in_it_is_taken(make_plant, tmp_path):
    plant = make_plant({"old/a.csv": day(1, 0), "old/sub/b.csv": day(2, 0)}, source={"path": "data/old"})
    read_all(plant)
    shutil.move(tmp_path / "data" / "old", tmp_path / "data" / "new")
    put_file(tmp_path / "data" / "new" / "sub" / "b.csv", day(2, 100))
    moved = make_plant(source={"path": "data/new"})
    summary = ingest_files(moved)
    assert (summary.n_new, summary.n_changed, summary.n_unchanged) == (0, 1, 1)
    read_all(moved)
    assert query(moved, "SELECT count(*), min(temperature), max(temperature) FROM core.readings") == [(100, 0.0, 149.0)]
    assert query(moved, "SELECT count(*) FROM mart.rejected_readings") == [(0,)]
    assert [row[0] for row in state(moved)] == ["a.csv", "sub/b.csv"]


def test_a_file_that_was_renamed_is_not_read_again(make_plant, tmp_path):
    plant = make_plant({"a.csv": day(1, 0), "b.csv": day(2, 0)})
    read_all(plant)
    (tmp_path / "data" / "a.csv").rename(tmp_path / "data" / "archive-a.csv")
    summary = ingest_files(plant)
    assert (summary.n_new, summary.n_changed, summary.n_unchanged) == (0, 0, 2)
    assert [row[0] for row in state(plant)] == ["archive-a.csv", "b.csv"]
    assert ingest_files(plant).n_unchanged == 2


def test_a_file_that_was_renamed_and_corrected_at_once_takes_the_place_of_the_old_one(make_plant, tmp_path):
    plant = make_plant({"a.csv": day(1, 0), "b.csv": day(2, 0)})
    read_all(plant)
    (tmp_path / "data" / "a.csv").unlink()
    put_file(tmp_path / "data" / "a-corrected.csv", day(1, 100))
    read_all(plant)
    assert query(plant, "SELECT min(temperature) FROM core.readings WHERE ts < '2024-01-02'") == [(100.0,)]
    assert query(plant, "SELECT count(*) FROM core.readings") == [(100,)]
    assert query(plant, "SELECT count(*) FROM mart.rejected_readings") == [(0,)]


def test_a_file_that_is_deleted_keeps_its_readings_and_one_with_some_of_its_times_takes_no_place(make_plant, tmp_path):
    plant = make_plant({"a.csv": day(1, 0), "b.csv": day(2, 0)})
    read_all(plant)
    (tmp_path / "data" / "a.csv").unlink()
    put_file(tmp_path / "data" / "c.csv", day(1, 500, n=10) + day(3, 0).partition("\n")[2])
    read_all(plant)
    assert query(plant, "SELECT count(*), min(temperature) FROM core.readings") == [(150, 0.0)]
    assert query(plant, "SELECT DISTINCT reason FROM mart.rejected_readings") == [("duplicate",)]


def test_files_that_an_older_release_knew_by_their_whole_path_are_not_read_again(make_plant, tmp_path):
    plant = make_plant({"a.csv": day(1, 0), "sub/b.csv": day(2, 0)}, source={"path": "data"})
    read_all(plant)
    with plant.warehouse.transaction() as connection:
        connection.execute("UPDATE ingest.files SET path = ? || '/' || path", [str(tmp_path / "data")])
    assert ingest_files(plant).n_unchanged == 2
    with plant.warehouse.transaction() as connection:
        connection.execute("UPDATE ingest.files SET path = '/elsewhere/exports/' || path")
    assert ingest_files(plant).n_unchanged == 2
    assert [row[0] for row in state(plant)] == ["a.csv", "sub/b.csv"]


def test_a_file_whose_name_is_not_utf_8_is_read_once(make_plant, tmp_path):
    plant = make_plant({"a.csv": day(1, 0)}, source={"path": "data"})
    name = os.fsdecode(b"M\xfcnchen.csv")
    try:
        (tmp_path / "data" / name).write_text(day(2, 0))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    read_all(plant)
    assert query(plant, "SELECT count(*) FROM core.readings") == [(100,)]
    assert [row[0] for row in state(plant)] == ["M\\xfcnchen.csv", "a.csv"]
    assert ingest_files(plant).n_unchanged == 2
