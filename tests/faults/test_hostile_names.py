"""Names and keys that try to be more than names: text everywhere, or refused with the valid ones."""

import duckdb
import pytest

from pwflow_core.errors import UnknownClusterError
from pwflow_core.pipeline.flows.training import train_cluster_flows
from pwflow_core.pipeline.regimes.assigning import assign_readings
from pwflow_core.pipeline.scoring.densities import score_slices
from tests.conftest import plant_readings, put_file, query
from tests.faults.conftest import NIGHT

KEYS = [
    "",
    "../../x",
    "c0001,c0002",
    "c" * 5000,
    "c9999",
    "C0001",
    "c0001 ",
    "c0001'; DROP TABLE mart.clusters; --",
    "c0001\x00",
]
STEPS = {
    "assign": lambda plant, key: assign_readings(plant, [key]),
    "train": lambda plant, key: train_cluster_flows(plant, [key], reason="x", promoted_by="test"),
    "score": lambda plant, key: list(score_slices(plant, [key])),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_key_that_is_none_is_refused_with_the_valid_ones_and_nothing_is_made(trained_plant, step):
    everything = "SELECT (SELECT sum(hash(p)) FROM core.progress AS p), (SELECT count(*) FROM mart.flow_versions)"
    files = sorted(trained_plant.config.folder.rglob("*"))
    before = query(trained_plant, everything)
    for key in KEYS:
        with pytest.raises(UnknownClusterError, match=r"c0001, c0002, c0003, c0004") as raised:
            STEPS[step](trained_plant, key)
        assert len(str(raised.value)) < 400, "it says no more of a key than fits a line"
    assert query(trained_plant, everything) == before
    assert sorted(trained_plant.config.folder.rglob("*")) == files


def test_a_retired_key_is_refused_like_an_unknown_one(trained_plant):
    from pwflow_core.pipeline.regimes.finding import fit_cluster_model
    from tests.conftest import reopen

    fit_cluster_model(reopen(trained_plant, clustering={"n_clusters": 1}))
    [(retired,)] = query(trained_plant, "SELECT min(cluster_key) FROM mart.clusters WHERE status = 'retired'")
    [(active,)] = query(trained_plant, "SELECT min(cluster_key) FROM mart.clusters WHERE status = 'active'")
    with pytest.raises(UnknownClusterError, match=rf"in use \({active}.*got '{retired}'"):
        assign_readings(trained_plant, [retired])


MACHINES = [
    "m'; DROP TABLE mart.anomaly_scores; --",
    'm" OR 1=1',
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "{0} %s $now /*instant*/",
    "Müller ‮ 机 🤖",
    "a,b;c|d\\e",
    "NULL",
    "=cmd|' /C calc'!A0",
    "m" * 3000,
]


def test_machines_segments_and_files_with_hostile_names_come_out_as_the_text_they_are(trained_plant, stem):
    night = plant_readings(20, seed=3, start="2024-04-01")
    for number, name in enumerate(MACHINES):
        table = night[night.machine == "press-1"].assign(machine=name)
        table.loc[table.index[10:], "recipe"] = name
        stem_of_file = name.replace("/", "_")[:60]
        put_file(trained_plant.config.folder / "data" / f"{number} {stem_of_file}.csv", table)
    ended = stem.run(trained_plant, NIGHT)
    assert ended.code == 0, ended.output
    with duckdb.connect(str(trained_plant.config.published_path), read_only=True) as connection:
        for column in ("machine_id", "segment"):
            for table in ("anomaly_scores", "readings"):
                found = {row[0] for row in connection.execute(f"SELECT DISTINCT {column} FROM mart.{table}").fetchall()}
                assert set(MACHINES) <= found
        assert connection.execute("SELECT count(*) FROM mart.anomaly_scores").fetchall() == [(3000 + 200,)]
        reasons = connection.execute("SELECT DISTINCT reason FROM mart.anomaly_scores WHERE status = 'thin'").fetchall()
        files = {row[0] for row in connection.execute("SELECT file FROM mart.source_files").fetchall()}
    assert {f"No operating regime has been learned for segment {name}" for name in MACHINES} <= {
        row[0] for row in reasons
    }
    assert {f"{number} {name.replace('/', '_')[:60]}.csv" for number, name in enumerate(MACHINES)} <= files
    assert {path.name for path in trained_plant.config.folder.iterdir()} == {
        ".published.versions", "config.json", "data", "models", "plant-report-en.html", "published", "published.duckdb",
        "warehouse.duckdb", "warehouse.duckdb.ledger", "warehouse.duckdb.lock",
    }  # fmt: skip
