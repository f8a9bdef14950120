"""Objections: a new flow must not take the place of one that sees more, however well it describes readings."""

from datetime import UTC, datetime

import numpy as np

from pwflow_core.config import TrainingConfig
from pwflow_core.modelling import ClusterFlow
from pwflow_core.modelling.whitening import Whitening
from pwflow_core.pipeline.decisions.confirmations import confirm_event
from pwflow_core.pipeline.flows.training_sets import TrainingWindow
from pwflow_core.pipeline.scoring.contributions import explain_anomalies
from pwflow_core.pipeline.scoring.events import derive_events
from pwflow_core.pipeline.scoring.objections import find_objection
from pwflow_core.warehouse import insert_row
from tests.conftest import frame, plant_readings, put_file, query, read_all, score_all

SINCE = datetime(2024, 4, 1)  # noqa: DTZ001 - UTC, as everywhere in the warehouse


def test_a_flow_that_would_no_longer_see_an_event_is_refused_unless_it_was_normal_or_the_move_itself(trained_plant):
    """For an hour one regime of press-2 reads 8 bar too much, and the new flow takes half of that as normal."""
    plant = trained_plant
    night = plant_readings(1500, seed=7, start="2024-04-01")
    hour = night[night.machine == "press-2"].iloc[600:660]
    night.loc[hour[(hour.recipe == "B") & (hour.temperature < 32)].index, "pressure"] += 8
    put_file(plant.config.folder / "data" / "night.parquet", night)
    read_all(plant)
    score_all(plant)
    explain_anomalies(plant)
    derive_events(plant)
    [worst] = query(
        plant,
        "SELECT event_id, cluster_key, started_at, ended_at FROM mart.anomaly_events WHERE machine_id = 'press-2' "
        "AND started_at BETWEEN '2024-04-01 09:50' AND '2024-04-01 11:10' ORDER BY n_readings DESC LIMIT 1",
    )
    event_id, key, started_at, ended_at = worst
    faulty = frame(
        plant,
        f"SELECT temperature, pressure FROM core.readings JOIN mart.anomaly_scores AS score USING (reading_id) "
        f"WHERE is_anomaly AND score.cluster_key = '{key}' AND score.machine_id = 'press-2' "
        f"AND score.ts BETWEEN '{started_at}' AND '{ended_at}'",
    ).to_numpy()
    [(version,)] = query(plant, "SELECT flow_version FROM mart.flow_versions WHERE in_force AND cluster_key = ?", key)
    in_use, blind = (ClusterFlow.from_bytes(plant.models.get(version)) for _ in range(2))
    both = np.concatenate([in_use.sample(len(faulty), random_state=0), faulty])
    blind.whitening, blind.parameters = Whitening.from_gaussian(both.mean(axis=0), np.cov(both.T)), None
    window = TrainingWindow.since(SINCE, plant.config)
    assert find_objection(plant, key, in_use, window) == ""
    assert f"it would no longer see what happened on press-2 at {started_at:%Y-%m-%d %H:%M} UTC" in find_objection(
        plant, key, blind, window
    )
    before = TrainingWindow(TrainingConfig(until=datetime(2024, 4, 1, tzinfo=UTC)), 10_000)
    assert "2024-04-01" not in find_objection(plant, key, blind, before), "only what it could learn from"

    with plant.warehouse.transaction() as connection:
        insert_row(connection, "mart.drift_verdicts", a_move(key, sensors=["temperature"]))
    assert f"{started_at:%H:%M}" in find_objection(plant, key, blind, window), "the move is about another sensor"
    with plant.warehouse.transaction() as connection:
        connection.execute("UPDATE mart.drift_verdicts SET sensors = ['pressure']")
    assert f"{started_at:%H:%M}" not in find_objection(plant, key, blind, window)
    with plant.warehouse.transaction() as connection:
        connection.execute("UPDATE mart.drift_verdicts SET status = 'done'")
    assert f"{started_at:%H:%M}" in find_objection(plant, key, blind, window)
    confirm_event(plant, event_id, confirmed_by="Ada")
    assert f"{started_at:%H:%M}" not in find_objection(plant, key, blind, window)

    put_in_a_case(plant, event_id)
    assert "it would no longer see case K-1" in find_objection(plant, key, blind, window), "a person marked it"
    [(another,)] = query(
        plant,
        "SELECT event_id FROM mart.anomaly_events AS event WHERE started_at > '2024-04-01' AND NOT EXISTS ("
        "SELECT 1 FROM mart.anomaly_scores AS score WHERE score.machine_id = event.machine_id AND is_anomaly "
        "AND cluster_key = ? AND ts BETWEEN event.started_at AND event.ended_at) LIMIT 1",
        key,
    )
    put_in_a_case(plant, another)
    assert find_objection(plant, key, blind, window) == "", "another event of the case is still seen"


def put_in_a_case(plant, event_id):
    with plant.warehouse.transaction() as connection:
        connection.execute("DELETE FROM mart.cases")
        insert_row(connection, "mart.cases", {"case_id": "K-1", "state": "closed", "label": "fault"})
        connection.execute(
            "INSERT INTO mart.case_events BY NAME SELECT 'K-1' AS case_id, event_id, machine_id, started_at, ended_at "
            "FROM mart.anomaly_events WHERE event_id = ?",
            [event_id],
        )


def a_move(key, sensors):
    return {
        "verdict_id": "v",
        "night": SINCE.date(),
        "verdict": "regime_moved",
        "answer": "retrain",
        "cluster_keys": [key],
        "machine_ids": [],
        "sensors": sensors,
        "since": SINCE.date(),
        "status": "open",
    }
