"""Fleets in the pipeline: machines that differ share a flow, a new one waits until it is known, and is judged then."""

import shutil

import numpy as np
import pandas as pd
import pytest

from pwflow_core.edge import EdgeScorer
from pwflow_core.pipeline.decisions.verdicts import Decider, dismiss_verdict
from pwflow_core.pipeline.flows.training import train_cluster_flows
from pwflow_core.pipeline.scoring.contributions import explain_anomalies
from pwflow_core.pipeline.using.bundling import export_bundle
from pwflow_core.pipeline.using.scoring_files import score_file
from tests.conftest import copy_folder, frame, learn_all, open_plant, put_file, query, read_all, score_all

SETTINGS = {
    "clustering": {"n_clusters": 2},
    "scoring": {"alpha": 0.005},
    "flow": {"max_steps": 100},
}
OFF = np.random.default_rng(11).standard_normal((8, 2, 2))
"""Of each machine, in standard deviations, by regime and sensor."""
NEW = OFF[6]


def readings(machine: str, off, start="2024-03-01", n=900, seed=0) -> pd.DataFrame:
    rng = np.random.default_rng([seed, int(machine[1:])])
    regime = (np.arange(n) // 10) % 2
    noise = rng.standard_normal((n, 2)) + np.asarray(off)[regime]
    return pd.DataFrame(
        {
            "ts": pd.date_range(start, periods=n, freq="60s").strftime("%Y-%m-%dT%H:%M:%SZ"),
            "machine": machine,
            "temperature": 20 + 25 * regime + noise[:, 0],
            "pressure": 3 + 0.2 * regime + 0.1 * noise[:, 1],
        }
    )


def night(plant, machine, off, start="2024-03-02", n=900, seed=1, **values) -> pd.DataFrame:
    made = readings(machine, off, start, n, seed).assign(**values)
    put_file(plant.config.folder / "data" / f"{machine}-{start}.parquet", made)
    read_all(plant)
    score_all(plant)
    return made


@pytest.fixture(scope="module")
def fleet_folder(make_once):
    def make(folder):
        for number in range(6):
            put_file(folder / "data" / f"M{number}.parquet", readings(f"M{number}", OFF[number]))
        plant = open_plant(folder, SETTINGS)
        read_all(plant)
        learn_all(plant)

    return make_once("fleet", make)


@pytest.fixture
def fleet(fleet_folder, tmp_path):
    return open_plant(copy_folder(fleet_folder, tmp_path / "plant"), SETTINGS)


def statuses(plant, machine):
    return dict(
        query(plant, "SELECT status, count(*) FROM mart.anomaly_scores WHERE machine_id = ? GROUP BY ALL", machine)
    )


def test_machines_that_differ_are_corrected_and_judged_at_their_alarm_rate(fleet):
    rows = frame(fleet, "FROM mart.machine_corrections")
    assert sorted(rows.machine_id.unique()) == [f"M{number}" for number in range(6)]
    assert len(rows) == 12
    assert rows.is_final.all()
    [(n, alarms)] = query(fleet, "SELECT count(*), count(*) FILTER (is_anomaly) FROM mart.anomaly_scores")
    assert n == 6 * 900
    assert alarms / n < 2 * 0.005
    for key, volume in query(
        fleet, "SELECT cluster_key, any_value(log_volume) FROM core.component_log_density GROUP BY 1"
    ):
        assert volume is not None, key


def test_a_new_machine_waits_is_judged_within_its_budget_and_its_faults_are_found(fleet):
    night(fleet, "M6", NEW, n=60)
    assert statuses(fleet, "M6") == {"thin": 60}
    [(reason,)] = query(fleet, "SELECT DISTINCT left(reason, 17) FROM mart.anomaly_scores WHERE machine_id = 'M6'")
    assert reason == "Machine M6 is new"
    night(fleet, "M6", NEW, start="2024-03-02T01:00:00", n=900, seed=2)
    assert statuses(fleet, "M6") == {"scored": 960}
    learned = frame(fleet, "FROM mart.machine_corrections WHERE machine_id = 'M6'")
    assert set(learned.status) <= {"corrected", "typical"}
    assert "corrected" in set(learned.status)
    rate = "SELECT avg(is_anomaly::INTEGER) FROM mart.anomaly_scores WHERE machine_id = 'M6' AND ts >= ?"
    assert query(fleet, rate, "2024-03-02")[0][0] < 0.03
    later = "2024-03-04T00:00:00"
    night(fleet, "M6", NEW, start=later, n=300, seed=3, pressure=lambda r: r.pressure + 0.6)
    assert query(fleet, rate, later)[0][0] > 0.9
    explain_anomalies(fleet)
    told = frame(fleet, "FROM mart.sensor_contributions WHERE machine_id = 'M6' AND ts >= ?", later)
    seen = told.merge(frame(fleet, "SELECT reading_id, pressure FROM core.readings"), on="reading_id")
    of = seen[seen.sensor == "pressure"]
    np.testing.assert_allclose(of.observed, of.pressure, rtol=1e-9)
    assert (told.loc[told.groupby("reading_id").contribution.idxmax()].sensor == "pressure").mean() > 0.9


def test_what_was_learned_stays_and_is_learned_again_with_the_regime(fleet):
    night(fleet, "M6", NEW, n=900)
    before = frame(fleet, "FROM mart.machine_corrections ORDER BY decided_at, machine_id")
    night(fleet, "M6", NEW, start="2024-03-08", n=300, seed=2)
    night(fleet, "M6", NEW + 1, start="2024-03-09", n=900, seed=3)
    after = frame(fleet, "FROM mart.machine_corrections ORDER BY decided_at, machine_id")
    pd.testing.assert_frame_equal(after.head(len(before)), before)
    of_new = after[after.machine_id == "M6"]
    final = of_new[of_new.is_final]
    assert final.learned_until.max() < pd.Timestamp("2024-03-05")
    key = of_new.cluster_key.iloc[0]
    trained = train_cluster_flows(fleet, [key], reason="test", promoted_by="test", challenge=False)
    rows = frame(fleet, "FROM mart.machine_corrections WHERE flow_version = ?", trained[key].flow_version)
    assert "M6" in set(rows.machine_id)
    others = frame(fleet, "FROM mart.machine_corrections WHERE cluster_key <> ?", key)
    assert set(others.flow_version) == set(before[before.cluster_key != key].flow_version)
    score_all(fleet)
    assert statuses(fleet, "M6") == {"scored": 2100}


def test_a_machine_further_out_than_the_others_is_judged_as_it_is_and_a_person_is_asked(fleet):
    far = np.array([[0.0, 9.0], [0.0, 9.0]])
    night(fleet, "M7", far)
    assert set(statuses(fleet, "M7")) == {"thin"}
    night(fleet, "M7", far, start="2024-03-05", seed=2)
    assert statuses(fleet, "M7") == {"scored": 1800}
    assert set(frame(fleet, "FROM mart.machine_corrections WHERE machine_id = 'M7'").status) == {"outside"}
    [(verdict, sensors, said)] = query(fleet, "SELECT verdict_id, sensors, summary FROM mart.drift_verdicts")
    assert sensors == ["pressure"]
    assert said.startswith("M7 is new and differs from all other machines in c0001, c0002, most in pressure")
    rate = "SELECT avg(is_anomaly::INTEGER) FROM mart.anomaly_scores WHERE machine_id = 'M7'"
    assert query(fleet, rate)[0][0] > 0.9
    dismiss_verdict(fleet, verdict, by=Decider("a person"), reason="it has another pump")
    night(fleet, "M7", far, start="2024-03-06", n=120, seed=3)
    assert query(fleet, rate)[0][0] < 0.05


def test_a_machine_that_is_not_new_is_judged_in_a_regime_where_it_never_was(fleet):
    def only_first(r):
        return r.temperature - 25 * ((np.arange(len(r)) // 10) % 2)

    night(fleet, "M7", np.zeros((2, 2)), n=4400, temperature=only_first)
    assert set(statuses(fleet, "M7")) == {"scored"}
    night(fleet, "M7", np.zeros((2, 2)), start="2024-03-06", n=6, seed=2, temperature=62.0)
    said = frame(fleet, "FROM mart.anomaly_scores WHERE machine_id = 'M7' AND ts >= '2024-03-06'")
    known = frame(fleet, "SELECT cluster_key, status, n_readings FROM mart.machine_corrections WHERE machine_id = 'M7'")
    assert set(said.cluster_key).isdisjoint(known[known.n_readings > 0].cluster_key)
    assert set(said.status) == {"scored"}
    assert said.is_anomaly.all()


def test_the_edge_and_a_scored_file_say_of_corrected_and_of_new_machines_what_the_night_says(fleet, tmp_path):
    export_bundle(fleet, tmp_path / "bundle")
    scorer = EdgeScorer.open(tmp_path / "bundle")
    made = pd.concat([readings(f"M{m}", OFF[m], "2024-03-02", 40, 5) for m in (0, 3, 7)], ignore_index=True)
    made.loc[5, "pressure"] += 3
    at = pd.to_datetime(made.ts).dt.tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)
    said = scorer.score(made.machine.tolist(), at, made[["temperature", "pressure"]].to_numpy())
    edge = pd.DataFrame([vars(one) for one in said])
    file = put_file(tmp_path / "more.parquet", made)
    score_file(fleet, file, tmp_path / "scored.parquet")
    apart = frame(fleet, f"FROM '{tmp_path / 'scored.parquet'}'").sort_values(["machine_id", "ts"], ignore_index=True)
    put_file(fleet.config.folder / "data" / "more.parquet", made)
    read_all(fleet)
    score_all(fleet)
    explain_anomalies(fleet)
    there = frame(fleet, "FROM mart.anomaly_scores WHERE ts >= '2024-03-02' ORDER BY machine_id, ts")
    edge = edge.sort_values(["machine_id", "at"], ignore_index=True)
    assert set(there[there.machine_id == "M7"].status) == {"thin"}
    for other in (edge, apart):
        assert other.status.tolist() == there.status.tolist()
        assert other.reason.fillna("").tolist() == there.reason.fillna("").tolist()
        for name in ("log_density", "p_value"):
            np.testing.assert_allclose(other[name].astype(float), there[name], atol=1e-9)
    told = frame(fleet, "FROM mart.sensor_contributions WHERE ts >= '2024-03-02' ORDER BY machine_id, ts, sensor")
    found = [(one.machine_id, b.sensor, b.expected, b.observed) for one in said for b in one.contributions]
    found = pd.DataFrame(found, columns=["machine_id", "sensor", "expected", "observed"])
    both = told.merge(found, on=["machine_id", "sensor", "observed"], suffixes=("", "_edge"))
    assert len(both) == len(told) > 0
    np.testing.assert_allclose(both.expected_edge, both.expected, rtol=1e-9)


@pytest.mark.parametrize("n_machines", [1, 4])
def test_few_machines_are_judged_the_same_with_and_without(n_machines, tmp_path):
    found = []
    for name, fleet in (("with", {}), ("without", {"correct_machines": False})):
        folder = tmp_path / name
        for number in range(n_machines):
            put_file(folder / "data" / f"M{number}.parquet", readings(f"M{number}", OFF[number], n=600))
        plant = open_plant(folder, {**SETTINGS, "fleet": fleet})
        read_all(plant)
        learn_all(plant)
        columns = "SELECT machine_id, ts, cluster_key, flow_version, log_density, p_value, status"
        found.append(frame(plant, f"{columns} FROM mart.anomaly_scores ORDER BY machine_id, ts"))
        assert not query(plant, "FROM mart.machine_corrections")
        shutil.rmtree(folder)
    pd.testing.assert_frame_equal(*found, check_exact=True)
