"""A warehouse whose log or file is damaged: noticed, named, and made again; nothing is silently missing."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from pwflow_core.errors import WarehouseDamagedError
from pwflow_core.pipeline.publishing.publishing import publish_warehouse
from pwflow_core.pipeline.scoring.checks import check_scores
from pwflow_core.pipeline.scoring.densities import score_slices
from pwflow_core.plant import Plant
from tests.conftest import plant_readings, put_file, query
from tests.faults.conftest import UNTIL_PUBLISHED, open_copy

TABLES = (
    "SELECT (SELECT count(*) FROM ingest.raw_readings), (SELECT count(*) FROM core.readings), "
    "(SELECT md5(string_agg((cluster_key, reading_id, log_density)::VARCHAR, '|' ORDER BY cluster_key, reading_id)) "
    "FROM core.component_log_density), "
    "(SELECT md5(string_agg((reading_id, p_value, status)::VARCHAR, '|' ORDER BY reading_id)) FROM mart.anomaly_scores)"
)
DIES_BEHIND_A_COMMIT = """
from pwflow_core.warehouse import file
write_ledger = file.write_ledger
file.write_ledger = lambda *arguments: (write_ledger(*arguments), os.kill(os.getpid(), 9))
"""
"""Before DuckDB folds the log into the file."""


def finish(plant, stem):
    ended = stem.run(plant, UNTIL_PUBLISHED)
    assert ended.code == 0, ended.output


@dataclass(frozen=True)
class Interrupted:
    """A plant whose run died behind its last commit, which is only in the log; what a whole run ends with."""

    plant: Plant
    log: Path
    expected: list[tuple]


@pytest.fixture(scope="module")
def _interrupted(_trained_folder, stem, tmp_path_factory) -> tuple[Path, list[tuple]]:
    folder, night = tmp_path_factory.mktemp("interrupted") / "plant", plant_readings(60, seed=7, start="2024-04-01")
    shutil.copytree(_trained_folder, folder)
    plant = open_copy(folder)
    put_file(folder / "data" / "night.csv", night)
    shutil.copytree(folder, folder.with_name("before"))
    finish(plant, stem)
    expected = query(plant, TABLES)
    shutil.rmtree(folder)
    folder.with_name("before").rename(folder)  # under the same path, so that no file counts as another one
    assert stem.run(plant, UNTIL_PUBLISHED.split("list(")[0]).code == 0
    assert stem.run(plant, f"{DIES_BEHIND_A_COMMIT}\nlist(score_slices(plant))").was_killed
    folder.rename(folder.with_name("saved"))
    return folder, expected


@pytest.fixture
def interrupted(_interrupted) -> Interrupted:
    folder, expected = _interrupted
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(folder.with_name("saved"), folder)
    log = folder / "warehouse.duckdb.wal"
    assert log.stat().st_size > 1000
    return Interrupted(open_copy(folder), log, expected)


AT_NIGHT = pytest.mark.long(reason="8 CPU s each: one place stays at each push")


@pytest.mark.parametrize(
    "kept",
    [pytest.param(0, marks=AT_NIGHT), 0.5, pytest.param(-1, marks=AT_NIGHT)],
    ids=["all of it", "half of it", "one byte"],
)
def test_a_log_cut_short_is_noticed_what_is_lost_is_named_and_made_again(interrupted, stem, caplog, kept):
    plant, log = interrupted.plant, interrupted.log
    data = log.read_bytes()
    log.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with duckdb.connect(str(plant.warehouse.path), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM core.readings").fetchone(), "DuckDB itself says nothing"
    list(score_slices(plant))
    assert "lacks its last 1 commits; missing are steps: score c0001" in caplog.text
    assert "core.component_log_density" in caplog.text
    [(what,)] = query(plant, "SELECT what FROM core.recoveries")
    assert what in caplog.text
    finish(plant, stem)
    assert query(plant, TABLES) == interrupted.expected
    [warning] = [result for result in check_scores(plant) if not result.passed]
    assert what in warning.sentence, "the run says so"
    assert query(plant, "SELECT count(*) FROM core.recoveries") == [(1,)]


# not among the bytes from 9 to 30: they are a random name, some bits of which mean nothing
@pytest.mark.parametrize(
    "place",
    [0.5, *(pytest.param(place, marks=AT_NIGHT) for place in (2, 8, 40, -2))],
)
def test_a_log_with_a_flipped_bit_is_set_aside_and_what_is_lost_is_made_again(interrupted, stem, caplog, place):
    plant, log = interrupted.plant, interrupted.log
    data = bytearray(log.read_bytes())
    data[int(place * len(data)) if isinstance(place, float) else place] ^= 8
    log.write_bytes(data)
    try:
        duckdb.connect(str(plant.warehouse.path), read_only=True).close()
        is_refused = False  # a length was hit: to DuckDB the log ends there
    except duckdb.Error:
        is_refused = True
    list(score_slices(plant))
    assert "missing are steps: score c0001" in caplog.text
    aside = list(plant.config.folder.glob("warehouse.duckdb.wal.damaged-*"))
    assert [path.read_bytes() for path in aside] == [data] * is_refused
    assert all(str(path) in caplog.text for path in aside)
    finish(plant, stem)
    assert query(plant, TABLES) == interrupted.expected


def test_of_a_log_with_several_commits_those_before_the_damage_are_kept(make_plant, stem, caplog):
    plant = make_plant()
    write = "\n".join(
        f"with plant.warehouse.transaction() as c: c.execute(\"INSERT INTO core.plant_facts VALUES ('{n}', '')\")"
        for n in range(4)
    )
    assert stem.run(plant, write).code == 0
    log = plant.warehouse.path.with_name("warehouse.duckdb.wal")
    one_log = (
        "import duckdb\nc = duckdb.connect(str(plant.warehouse.path))\n"
        "for n in range(4, 8):\n"
        "    c.begin(); c.execute(\"INSERT INTO core.plant_facts VALUES (?, '')\", [str(n)])\n"
        "    c.execute('UPDATE core.warehouse_state SET commit_number = commit_number + 1'); c.commit()\n"
        "os.kill(os.getpid(), 9)"
    )
    assert stem.run(plant, one_log).was_killed
    ledger = json.loads(plant.warehouse.ledger_path.read_text())
    ledger["commit_number"] += 4
    ledger["rows"]["core.plant_facts"] += 4
    plant.warehouse.ledger_path.write_text(json.dumps(ledger))
    data = bytearray(log.read_bytes())
    data[int(0.7 * len(data))] ^= 8
    log.write_bytes(data)
    facts = query(plant, "SELECT fact FROM core.plant_facts ORDER BY fact")
    assert facts[:5] == [("0",), ("1",), ("2",), ("3",), ("4",)]
    assert len(facts) < 8
    assert f"lacks its last {8 - len(facts)} commits" in caplog.text
    assert f"core.plant_facts ({8 - len(facts)} rows)" in caplog.text


def test_a_damaged_file_is_named_with_the_remedy_and_nothing_is_published_from_it(trained_plant):
    plant = trained_plant
    published = plant.config.published_path.read_bytes()
    data = bytearray(plant.warehouse.path.read_bytes())
    for position in range(5000, len(data), 40_000):
        data[position] ^= 8
    plant.warehouse.path.write_bytes(data)
    with pytest.raises(WarehouseDamagedError, match=r"warehouse\.duckdb is damaged.*restore it from a backup"):
        query(plant, "SELECT sum(hash(r)) FROM core.readings AS r")
    with pytest.raises(WarehouseDamagedError):
        publish_warehouse(plant)
    assert plant.config.published_path.read_bytes() == published


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_of_a_file_cut_short_nothing_is_read_in_part(trained_plant, share):
    """Each table is as it was, or cannot be read."""
    tables = ("core.readings", "core.component_log_density", "core.cluster_assignments", "mart.anomaly_scores")
    checksum = "SELECT count(*), sum(hash(t)) FROM {} AS t"
    before = {table: query(trained_plant, checksum.format(table)) for table in tables}
    data = trained_plant.warehouse.path.read_bytes()
    trained_plant.warehouse.path.write_bytes(data[: int(share * len(data))])
    refused = 0
    for table in tables:
        try:
            found = query(trained_plant, checksum.format(table))
        except WarehouseDamagedError:
            refused += 1
        else:
            assert found == before[table]
    assert refused


def test_an_older_copy_put_in_its_place_is_noticed(trained_plant, tmp_path_factory, stem, caplog):
    old = shutil.copy(trained_plant.warehouse.path, tmp_path_factory.mktemp("old"))
    put_file(trained_plant.config.folder / "data" / "night.csv", plant_readings(60, seed=7, start="2024-04-01"))
    finish(trained_plant, stem)
    expected = query(trained_plant, TABLES)
    shutil.copy(old, trained_plant.warehouse.path)
    assert query(trained_plant, "SELECT count(*) FROM core.recoveries") == [(1,)]
    assert "ingest.raw_readings (120 rows)" in caplog.text
    finish(trained_plant, stem)
    assert query(trained_plant, TABLES) == expected
