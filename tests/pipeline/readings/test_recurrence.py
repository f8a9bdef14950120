"""A history that holds a fault: it is found, it teaches and calibrates nothing, and a person has the last word."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pwflow_core.errors import RegimeError, UnknownStretchError
from pwflow_core.pipeline.cases.undoing import undo
from pwflow_core.pipeline.decisions.verdicts import Decider
from pwflow_core.pipeline.flows.training import train_cluster_flows
from pwflow_core.pipeline.looking.status import read_status
from pwflow_core.pipeline.readings.recurrence import decide_stretch, reopen_stretch, screen_history
from pwflow_core.pipeline.regimes import changing
from pwflow_core.pipeline.regimes.assigning import assign_readings
from pwflow_core.pipeline.regimes.changing import approve_stretch, update_weights
from pwflow_core.pipeline.regimes.finding import fit_cluster_model, needs_cluster_model
from tests.conftest import copy_folder, learn_all, open_plant, put_file, query, read_all, score_all

CONFIG = {"clustering": {"n_clusters": 2}, "flow": {"min_rows": 100_000}}
FROM, TO = "2024-03-06 10:00", "2024-03-06 20:00"


def history(days=12, seed=3):
    """Two machines at one reading in five minutes; on one of them the pressure is off for ten hours."""
    rng = np.random.default_rng(seed)
    parts = []
    for machine in ("press-1", "press-2"):
        ts = pd.date_range("2024-03-01", periods=days * 288, freq="5min")
        load = np.repeat(rng.choice(2, size=len(ts) // 24 + 1), 24)[: len(ts)]
        temperature = 20 + 8 * load + rng.normal(size=len(ts))
        pressure = 3 + 0.2 * (temperature - 20) + rng.normal(0, 0.1, len(ts))
        parts.append(pd.DataFrame({"ts": ts, "machine": machine, "temperature": temperature, "pressure": pressure}))
    readings = pd.concat(parts, ignore_index=True)
    wrong = (readings.machine == "press-1") & readings.ts.between(FROM, TO)
    readings.loc[wrong, "pressure"] += 3.0
    return readings


@pytest.fixture(scope="module")
def _folders(tmp_path_factory) -> dict[str, Path]:
    """The plant that has read its history, and the same one that has learned from it."""
    home = tmp_path_factory.mktemp("recurrence")
    put_file(home / "read" / "data" / "a.parquet", history())
    read_all(open_plant(home / "read", CONFIG))
    learn_all(open_plant(copy_folder(home / "read", home / "learned"), CONFIG))
    return {name: home / name for name in ("read", "learned")}


@pytest.fixture
def plant(_folders, tmp_path):
    return open_plant(copy_folder(_folders["read"], tmp_path / "plant"), CONFIG)


@pytest.fixture
def learned(_folders, tmp_path):
    """A plant in which a regime may be small."""
    folder = copy_folder(_folders["learned"], tmp_path / "learned")
    return open_plant(folder, CONFIG | {"scoring": {"min_calibration_rows": 10}})


def share_flagged(plant):
    inside = f"machine_id = 'press-1' AND ts BETWEEN '{FROM}' AND '{TO}'"
    rows = query(plant, f"SELECT avg(is_anomaly::INT) FROM mart.anomaly_scores WHERE {inside}")
    return float(rows[0][0] or 0.0)


def test_the_stretch_is_found_and_named(plant):
    [stretch] = screen_history(plant)
    assert stretch.machine_id == "press-1"
    assert abs((stretch.started_at - pd.Timestamp(FROM)).total_seconds()) <= 1200
    assert abs((stretch.ended_at - pd.Timestamp(TO)).total_seconds()) <= 1200
    assert stretch.top_sensors[0] == "pressure"
    assert stretch.stretch_id.startswith("U-")
    assert [again.stretch_id for again in screen_history(plant)] == [stretch.stretch_id]


def test_what_was_wrong_once_is_not_learned_and_alarms(learned):
    plant = learned
    assert share_flagged(plant) > 0.95
    others = query(plant, "SELECT avg(is_anomaly::INT) FROM mart.anomaly_scores WHERE machine_id = 'press-2'")
    assert others[0][0] < 0.01
    assert read_status(plant).stretches[0].machine_id == "press-1"


def test_what_a_person_calls_normal_gets_a_regime_of_its_own_and_the_others_stay(learned):
    plant = learned
    before = query(plant, "SELECT cluster_key, flow_version FROM mart.flow_versions WHERE in_force ORDER BY 1")
    [stretch] = screen_history(plant)
    [key] = approve_stretch(plant, stretch.stretch_id, approved_by="kim", reason="a trial")
    assert not needs_cluster_model(plant)
    assign_readings(plant, [key])
    train_cluster_flows(plant, [key], reason="approved", promoted_by="test")
    score_all(plant)
    after = query(plant, "SELECT cluster_key, flow_version FROM mart.flow_versions WHERE in_force ORDER BY 1")
    assert after[:-1] == before
    assert share_flagged(plant) < 0.2
    assert query(plant, "SELECT status, decided_by, cluster_key FROM mart.unusual_stretches") == [
        ("normal", "kim: a trial", key)
    ]
    assert read_status(plant).stretches == ()


def test_an_approval_that_ends_half_way_leaves_nothing_and_the_next_try_adds_one_regime(learned, monkeypatch):
    plant = learned
    [stretch] = screen_history(plant)
    regimes = "SELECT cluster_key FROM mart.clusters ORDER BY cluster_key"
    before = query(plant, regimes)

    def end(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(changing, "record_decision", end)
        with pytest.raises(KeyboardInterrupt):
            approve_stretch(plant, stretch.stretch_id, approved_by="kim")
    assert query(plant, regimes) == before
    assert query(plant, "SELECT status, cluster_key FROM mart.unusual_stretches") == [("open", None)]
    [key] = approve_stretch(plant, stretch.stretch_id, approved_by="kim")
    assert approve_stretch(plant, stretch.stretch_id, approved_by="kim") == [key]
    assert query(plant, regimes) == [*before, (key,)]


def test_an_approval_beside_another_change_of_the_regimes_is_refused_and_nothing_is_recorded(learned, monkeypatch):
    plant = learned
    [stretch] = screen_history(plant)
    segment = stretch.segment
    make = changing._with_regime

    def make_beside_another_change(*arguments):
        weights = dict.fromkeys(("c0001", "c0002"), 1.0)
        update_weights(plant, segment, weights, decided_by="night", reason="x")
        return make(*arguments)

    monkeypatch.setattr(changing, "_with_regime", make_beside_another_change)
    with pytest.raises(RegimeError, match="changed by another run"):
        approve_stretch(plant, stretch.stretch_id, approved_by="kim")
    assert query(plant, "SELECT status, cluster_key FROM mart.unusual_stretches") == [("open", None)]


def test_the_last_word_counts_for_a_stretch_with_a_regime_too(learned):
    plant = learned
    [stretch] = screen_history(plant)
    [key] = approve_stretch(plant, stretch.stretch_id, approved_by="kim")
    decide_stretch(plant, stretch.stretch_id, is_normal=False, decided_by="lee")
    assert approve_stretch(plant, stretch.stretch_id, approved_by="kim") == [key]
    assert query(plant, "SELECT status, decided_by FROM mart.unusual_stretches") == [("normal", "kim")]


def test_a_normal_stretch_too_short_for_a_regime_is_learned_from_the_next_time(learned):
    plant = open_plant(learned.config.folder, CONFIG)
    [stretch] = screen_history(plant)
    assert approve_stretch(plant, stretch.stretch_id, approved_by="kim") == []
    assert needs_cluster_model(plant)
    assert fit_cluster_model(plant).stretches == []
    assert not needs_cluster_model(plant)


def test_what_a_person_calls_a_fault_stays_left_out_and_is_not_asked_about_again(learned):
    plant = open_plant(learned.config.folder, CONFIG)
    [stretch] = screen_history(plant)
    decide_stretch(plant, stretch.stretch_id, is_normal=False, decided_by="kim")
    assert not needs_cluster_model(plant)
    assert screen_history(plant) == []
    learn_all(plant)
    assert share_flagged(plant) > 0.95


def test_the_last_word_counts(plant):
    [stretch] = screen_history(plant)
    decide_stretch(plant, stretch.stretch_id, is_normal=True, decided_by="kim")
    decide_stretch(plant, stretch.stretch_id, is_normal=False, decided_by="lee")
    assert query(plant, "SELECT status, decided_by FROM mart.unusual_stretches") == [("fault", "lee")]


def test_every_decision_and_its_undoing_are_kept_with_who_and_why(plant):
    [stretch] = screen_history(plant)
    decide_stretch(plant, stretch.stretch_id, is_normal=False, decided_by="kim", reason="a leak", run_id="run-1")
    assert undo(plant, stretch.stretch_id, by=Decider("lee", "run-2"), reason="a wrong id").startswith(
        f"{stretch.stretch_id}: open again"
    )
    decide_stretch(plant, stretch.stretch_id, is_normal=True, decided_by="kim")
    reopen_stretch(plant, stretch.stretch_id, decided_by="lee")
    assert query(plant, "SELECT status, decided_by FROM mart.unusual_stretches") == [("open", None)]
    kept = "SELECT from_status, to_status, changed_by, run_id, reason FROM mart.stretch_changes "
    assert query(plant, f"{kept} WHERE stretch_id = '{stretch.stretch_id}' ORDER BY changed_at") == [
        ("open", "fault", "kim", "run-1", "a leak"),
        ("fault", "open", "lee", "run-2", "a wrong id"),
        ("open", "normal", "kim", None, None),
        ("normal", "open", "lee", None, None),
    ]


def test_a_stretch_that_is_not_there_is_refused_with_those_that_are(plant):
    [stretch] = screen_history(plant)
    with pytest.raises(UnknownStretchError, match=stretch.stretch_id):
        decide_stretch(plant, "U-000000", is_normal=True, decided_by="kim")
