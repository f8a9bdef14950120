"""Compressed nights with random kills, and backup and restore: in the end, the tables of a full recomputation."""

import random
import shutil

import duckdb
import pytest

from tests.conftest import plant_readings, put_file, query
from tests.faults.conftest import NIGHT, UNTIL_PUBLISHED, copy_plant, leftovers, open_copy

# what says when a row was made, by which run, and in which order files came, differs
TABLES = {
    "anomaly_scores": "scored_at, model_set_id",
    "anomaly_events": "",
    "sensor_contributions": "scored_at",
    "cluster_health": "",
    "clusters": "",
    "flow_versions": "",
    "rejected_readings": "file, file_id, kept_file_id, rejected_at",
    "readings": "",
}


def content(plant) -> dict[str, list[tuple]]:
    """Return what analysts see, apart from what names a run."""
    with duckdb.connect(str(plant.config.published_path), read_only=True) as connection:
        return {
            table: connection.execute(
                f"SELECT count(*), sum(hash(t)) FROM (SELECT * {f'EXCLUDE ({left_out})' if left_out else ''} "
                f"FROM mart.{table}) AS t"
            ).fetchall()
            for table, left_out in TABLES.items()
        }


def add_nights(plant, numbers) -> None:
    for number in numbers:
        start = f"2024-{4 + number // 28:02d}-{1 + number % 28:02d}"
        put_file(plant.config.folder / "data" / f"{number:03d}.csv", plant_readings(30, seed=number, start=start))


def soak(plant, stem, folder, n_nights: int, kills_per_night: int) -> int:
    """Run nights that are killed at random moments, then compare with all of them in one run; return the kills."""
    chance, kills, longest = random.Random(0), 0, 3.0  # noqa: S311 - moments, no secrets
    recomputed = copy_plant(plant, folder / "recomputed")
    for number in range(n_nights):
        add_nights(plant, [number])
        for _ in range(kills_per_night):
            kills += stem.run(plant, NIGHT, kill_after=chance.uniform(0, longest)).was_killed
        ended = stem.run(plant, NIGHT)
        assert ended.code == 0, ended.output
        longest = ended.seconds
    assert leftovers(plant) == []
    assert query(plant, "SELECT count(*) FROM core.recoveries") == [(0,)], "a kill loses no commit"
    add_nights(recomputed, range(n_nights))
    ended = stem.run(recomputed, NIGHT)
    assert ended.code == 0, ended.output
    assert content(plant) == content(recomputed)
    return kills


@pytest.mark.long
def test_three_nights_with_kills_end_with_the_tables_of_a_full_recomputation(trained_plant, stem, tmp_path_factory):
    assert soak(trained_plant, stem, tmp_path_factory.mktemp("soak"), 3, kills_per_night=1) >= 1


@pytest.mark.long
def test_sixty_nights_with_kills_end_with_the_tables_of_a_full_recomputation(trained_plant, stem, tmp_path_factory):
    kills = soak(trained_plant, stem, tmp_path_factory.mktemp("soak"), 60, kills_per_night=2)
    print(f"{kills} kills in 60 nights")
    assert kills >= 60


@pytest.mark.long(reason="15 CPU s: copies of plants are opened and go on in most tests")
def test_a_backup_of_three_things_restores_the_plant_as_it_was(trained_plant, stem, tmp_path_factory):
    """Warehouse with its ledger, model store, configuration: copied while nothing runs, put back, and on it goes."""
    backup = tmp_path_factory.mktemp("backup") / "plant"
    add_nights(trained_plant, [0])
    assert stem.run(trained_plant, UNTIL_PUBLISHED).code == 0
    shutil.copytree(trained_plant.config.folder, backup)
    add_nights(trained_plant, [1])
    assert stem.run(trained_plant, UNTIL_PUBLISHED).code == 0
    expected = content(trained_plant)
    for name in ("warehouse.duckdb", "warehouse.duckdb.ledger", "models", "published.duckdb"):
        path = trained_plant.config.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        found = backup / name
        shutil.copytree(found, path) if found.is_dir() else shutil.copy(found, path)
    plant = open_copy(trained_plant.config.folder)
    assert content(plant) != expected
    ended = stem.run(plant, UNTIL_PUBLISHED)
    assert ended.code == 0, ended.output
    assert content(plant) == expected
    assert query(plant, "SELECT count(*) FROM core.recoveries") == [(0,)]
