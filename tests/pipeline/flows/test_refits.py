"""Refits: a regime is learned again from what it has been lately, and takes over only if that is proven better."""

import json
import shutil
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from pwflow_core.errors import NotFittedError, UnknownEventError
from pwflow_core.modelling import ClusterFlow
from pwflow_core.pipeline.decisions.confirmations import confirm_event
from pwflow_core.pipeline.flows.challenges import Gain, compare_flows, judge_refit
from pwflow_core.pipeline.flows.registry import rollback
from pwflow_core.pipeline.flows.training import FlowSummary, retraining_starts, train_cluster_flows
from pwflow_core.pipeline.flows.training_sets import RegimeRows
from pwflow_core.pipeline.readings.folds import CALIBRATION_FOLDS, TRAINING_FOLDS
from pwflow_core.pipeline.scoring.checks import check_scores
from pwflow_core.pipeline.scoring.contributions import explain_anomalies
from pwflow_core.pipeline.scoring.detectability import measure_detectability
from pwflow_core.pipeline.scoring.events import derive_events
from pwflow_core.pipeline.scoring.objections import find_objection
from pwflow_core.plant import Plant
from pwflow_core.warehouse import insert_row
from tests.conftest import (
    TRAINED,
    copy_folder,
    frame,
    open_plant,
    plant_readings,
    put_file,
    query,
    read_all,
    reopen,
    score_all,
)

SINCE = datetime(2024, 4, 1)  # noqa: DTZ001 - UTC, as everywhere in the warehouse
OF_A = ["c0001", "c0002"]
VERSIONS = "SELECT * FROM mart.flow_versions WHERE cluster_key = ? ORDER BY trained_at"


def arrive(plant, n_times=1500, seed=7, start="2024-04-01", shift=0.8, recipe="A") -> None:
    """Let readings arrive whose pressure in one recipe has moved, by 1.6 standard deviations of its noise."""
    night = plant_readings(n_times, seed=seed, start=start)
    night.loc[night.recipe == recipe, "pressure"] += shift
    put_file(plant.config.folder / "data" / f"night-{seed}.parquet", night)
    read_all(plant)
    score_all(plant)
    explain_anomalies(plant)
    derive_events(plant)


def refit(plant, *keys, since=SINCE, **options):
    options |= {"reason": "it moved", "promoted_by": "night", "learn_from": dict.fromkeys(keys, since)}
    return train_cluster_flows(plant, list(keys), **options)


def share_of_alarms(plant, keys, where) -> float:
    [(share,)] = query(
        plant,
        f"SELECT avg(is_anomaly::INT) FROM mart.anomaly_scores WHERE status = 'scored' AND {where} "
        "AND cluster_key IN (SELECT unnest(?::VARCHAR[]))",
        keys,
    )
    return share


def learnable(plant, key, folds) -> tuple[int, int]:
    """Count the readings of a regime since the drift, and those of them that are anomalies in an event."""
    [counts] = query(
        plant,
        f"""
        SELECT count(*), count(*) FILTER (score.is_anomaly AND EXISTS (
            SELECT 1 FROM mart.anomaly_events AS event
            WHERE event.machine_id = score.machine_id AND score.ts BETWEEN event.started_at AND event.ended_at))
        FROM core.readings AS reading
        JOIN core.cluster_assignments AS assigned USING (reading_id)
        JOIN mart.anomaly_scores AS score USING (reading_id)
        WHERE assigned.cluster_key = ? AND responsibility > 1e-3 AND reading.ts >= ? AND quality = 'ok'
          AND fold IN {folds}
        """,
        key,
        SINCE,
    )
    return counts


@dataclass
class Refitted:
    """A plant whose recipe A moved and whose c0001 was then refitted, and what came of it."""

    plant: Plant
    summary: FlowSummary


@pytest.fixture(scope="module")
def _moved_folder(_trained_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("moved") / "plant"
    shutil.copytree(_trained_folder, folder)
    arrive(open_plant(folder, TRAINED))
    return folder


@pytest.fixture
def moved_plant(_moved_folder, tmp_path) -> Plant:
    """A copy of a plant whose recipe A moved."""
    return open_plant(copy_folder(_moved_folder, tmp_path / "moved"), TRAINED)


@pytest.fixture(scope="module")
def _refitted(_moved_folder, tmp_path_factory) -> Refitted:
    plant = open_plant(copy_folder(_moved_folder, tmp_path_factory.mktemp("refitted") / "plant"), TRAINED)
    return Refitted(plant, refit(plant, "c0001")["c0001"])


@pytest.fixture
def refitted(_refitted, tmp_path) -> Refitted:
    copy = copy_folder(_refitted.plant.config.folder, tmp_path / "refitted")
    return Refitted(open_plant(copy, TRAINED), _refitted.summary)


def test_a_flow_that_describes_the_moved_regime_better_takes_over_and_says_by_how_much(refitted):
    plant, summary = refitted.plant, refitted.summary
    assert summary.decision.decision == "promoted"
    old, new = frame(plant, VERSIONS, "c0001").itertuples()
    assert (old.in_force, new.in_force) == (False, True)
    [decision] = frame(plant, "SELECT * FROM mart.flow_decisions WHERE previous_version IS NOT NULL").itertuples()
    assert (decision.flow_version, decision.previous_version) == (new.flow_version, old.flow_version)
    assert decision.gain_recent > 2 * decision.gain_recent_error > 0
    assert decision.gain_recent > 0.02
    assert decision.gain_reference < 0, "what was normal before no longer is"
    assert decision.n_recent > 100
    assert decision.reason.startswith("it moved: gain +")
    assert new.trained_from >= SINCE > old.trained_until
    window = json.loads(new.training_window)
    assert (window["start"], window["until"], window["without_events"]) == ("2024-04-01T00:00:00", None, True)
    assert json.loads(old.training_window)["start"] is None
    assert new.random_state == 0


def test_a_challenge_is_judged_on_readings_on_which_nothing_was_chosen(refitted):
    n_calibrating, n_flagged = learnable(refitted.plant, "c0001", CALIBRATION_FOLDS)
    assert refitted.summary.decision.n_recent == n_calibrating - n_flagged > 100


def test_a_flow_of_a_regime_that_did_not_move_is_refused_and_kept_in_the_registry(trained_plant, caplog):
    arrive(trained_plant, shift=0.0)
    before = query(trained_plant, "SELECT flow_version FROM mart.flow_versions WHERE in_force ORDER BY cluster_key")
    summary = refit(trained_plant, "c0001")["c0001"]
    assert summary.decision.decision == "refused"
    assert (
        query(trained_plant, "SELECT flow_version FROM mart.flow_versions WHERE in_force ORDER BY cluster_key")
        == before
    )
    [refused] = query(
        trained_plant,
        "SELECT flow_version, promoted_at, promoted_by FROM mart.flow_versions "
        "WHERE cluster_key = 'c0001' AND NOT in_force",
    )
    assert refused == (summary.flow_version, None, None)
    assert "the new flow is refused, the one in use stays" in caplog.text
    assert "two standard errors are asked for" in summary.decision.reason


def test_a_flow_that_wins_but_would_see_less_is_refused(moved_plant):
    measure_detectability(moved_plant)
    asked = []

    def object_to(*about):
        asked.append(about)
        return find_objection(*about)

    scale = "UPDATE mart.detectability SET shift = shift * {} WHERE sensor = 'pressure'"
    with moved_plant.warehouse.transaction() as connection:
        connection.execute(scale.format(0.2))
        insert_row(
            connection,
            "mart.drift_verdicts",
            {"verdict_id": "v", "cluster_keys": ["c0001"], "sensors": ["pressure"], "since": SINCE.date()}
            | {"answer": "retrain", "status": "open"},
        )
    refused = refit(moved_plant, "c0001", object_to=object_to)["c0001"].decision
    assert refused.decision == "refused"
    assert (
        "it would miss lasting shifts half as large again as those that alarm now, of pressure (now" in refused.reason
    )
    assert refused.gain_recent > 0.02
    with moved_plant.warehouse.transaction() as connection:
        connection.execute(scale.format(5))
    assert find_objection(*asked[0]) == "", "as it really was, it sees no less"


@pytest.mark.parametrize(("share", "decision"), [(1.01, "refused"), (0.99, "promoted")])
def test_a_refit_needs_a_margin(refitted, share, decision):
    rollback(refitted.plant, "c0001", decided_by="test", reason="once more")
    plant = reopen(refitted.plant, drift={"min_gain": share * refitted.summary.decision.gain_recent})
    assert refit(plant, "c0001")["c0001"].decision.decision == decision


def test_a_refit_needs_more_than_chance():
    assert not judge_refit(Gain(500, 0.1, 0.051), None, 0.0).is_won
    assert judge_refit(Gain(500, 0.1, 0.049), None, 0.0).is_won


def test_anomalies_in_alarm_events_are_not_learned_from_until_a_person_confirms_them(refitted):
    plant, summary = refitted.plant, refitted.summary
    n_all, n_flagged = learnable(plant, "c0001", TRAINING_FOLDS)
    assert n_flagged > 20
    assert summary.n_rows + summary.n_held_out == n_all - n_flagged
    events = query(plant, "SELECT event_id FROM mart.anomaly_events WHERE started_at >= ?", SINCE)
    for (event_id,) in [*events, events[0]]:
        confirm_event(plant, event_id, confirmed_by="Ada")
    assert query(plant, "SELECT count(*) FROM core.confirmations") == [(len(events),)]
    again = refit(plant, "c0001")["c0001"]
    assert again.n_rows + again.n_held_out == n_all


def test_a_fault_that_lasts_is_not_learned_as_normal(trained_plant):
    """One machine reads 8 bar too much for a day: its anomalies are in events, and the other machine teaches."""
    night = plant_readings(1500, seed=7, start="2024-04-01")
    night.loc[night.machine == "press-2", "pressure"] += 8
    put_file(trained_plant.config.folder / "data" / "night.parquet", night)
    read_all(trained_plant)
    score_all(trained_plant)
    derive_events(trained_plant)
    summary = refit(trained_plant, "c0001", since=SINCE)["c0001"]
    flow = ClusterFlow.from_bytes(trained_plant.models.get(summary.flow_version))
    faulty = frame(
        trained_plant,
        "SELECT temperature, pressure FROM core.readings JOIN core.cluster_assignments USING (reading_id) "
        "WHERE cluster_key = 'c0001' AND machine_id = 'press-2' AND ts >= ? AND quality = 'ok'",
        SINCE,
    ).to_numpy()
    own = flow.sample(2000, random_state=0)
    assert np.quantile(flow.log_prob(faulty), 0.9) < np.quantile(flow.log_prob(own), 0.01)
    assert summary.decision.decision == "refused"


def test_too_few_recent_readings_say_how_many_are_needed(trained_plant):
    arrive(trained_plant, n_times=100)
    match = (
        r"Cluster c0001 has \d+ readings to learn from and \d+ to judge by.* 200 and 50 in 8 are needed: wait for more"
    )
    before = query(trained_plant, "FROM mart.flow_versions ORDER BY ALL")
    with pytest.raises(NotFittedError, match=match):
        refit(trained_plant, "c0001")
    assert query(trained_plant, "FROM mart.flow_versions ORDER BY ALL") == before
    with pytest.raises(NotFittedError, match="c0001 has no readings to learn from"):
        refit(trained_plant, "c0001", since=datetime(2030, 1, 1))  # noqa: DTZ001


def test_fresh_readings_of_the_moved_regime_alarm_at_the_budget_after_the_refit(trained_plant):
    """alpha is .01; before the refit the moved regime alarms at many times that."""
    plant = reopen(trained_plant, training={"until": "2024-03-20T00:00:00+00:00"})
    arrive(plant, n_times=4000, shift=1.2)
    before = share_of_alarms(plant, OF_A, "ts >= '2024-04-01'")
    assert before > 0.05
    summaries = refit(plant, *OF_A)
    assert [summary.decision.decision for summary in summaries.values()] == ["promoted", "promoted"]
    score_all(plant)
    arrive(plant, n_times=4000, seed=8, start="2024-05-01", shift=1.2)
    fresh = share_of_alarms(plant, OF_A, "ts >= '2024-05-01'")
    assert 0.004 < fresh < 0.02
    [untouched] = {share_of_alarms(plant, ["c0003", "c0004"], "ts >= '2024-05-01'")}
    assert 0.004 < untouched < 0.02
    calibrated = dict(
        query(
            plant,
            "SELECT cluster_key, calibration.n_rows FROM core.calibration "
            "JOIN mart.flow_versions USING (cluster_key, flow_version) "
            "WHERE in_force AND training_window LIKE '%2024-04-01%'",
        )
    )
    assert set(calibrated) == set(OF_A)
    assert min(calibrated.values()) > 100
    failed = [check.sentence for check in check_scores(plant) if check.is_blocking and not check.passed]
    assert failed == [], "the moved regime is checked on its own window"


def test_a_version_that_comes_back_has_its_old_calibration(refitted):
    plant = refitted.plant
    calibrations = "FROM core.calibration WHERE cluster_key = 'c0001' ORDER BY calibrated_at"
    [first] = query(plant, calibrations)
    score_all(plant)
    rollback(plant, "c0001", decided_by="test", reason="x")
    score_all(plant)
    assert query(plant, calibrations)[0] == first
    assert len(query(plant, calibrations)) == 2


def test_a_flow_that_is_not_finite_is_refused(moved_plant, monkeypatch):
    import torch

    from pwflow_core import modelling

    train = modelling.train_flows

    def train_badly(*arguments, **options):
        flows = train(*arguments, **options)
        for flow in flows:
            flow.parameters = torch.full_like(flow.parameters, float("nan"))
        return flows

    before = query(moved_plant, "SELECT flow_version FROM mart.flow_versions WHERE in_force ORDER BY cluster_key")
    monkeypatch.setattr(modelling, "train_flows", train_badly)
    for learn_from, challenge in (({"c0001": SINCE}, True), (None, True), (None, False)):
        summary = train_cluster_flows(
            moved_plant, ["c0001"], reason="x", promoted_by="test", learn_from=learn_from, challenge=challenge
        )["c0001"]
        assert summary.decision.decision == "refused"
        assert "no finite log-density" in summary.decision.reason
    assert (
        query(moved_plant, "SELECT flow_version FROM mart.flow_versions WHERE in_force ORDER BY cluster_key") == before
    )


def test_a_person_who_retrains_gets_no_worse_flow_unless_it_is_forced(trained_plant, monkeypatch):
    from pwflow_core import modelling

    train = modelling.train_flows

    def train_beside_the_readings(*arguments, **options):
        flows = train(*arguments, **options)
        for flow in flows:
            flow.whitening = replace(flow.whitening, centre=flow.whitening.centre + 1.0)
        return flows

    monkeypatch.setattr(modelling, "train_flows", train_beside_the_readings)
    retrain = {"reason": "x", "promoted_by": "test"}
    refused = train_cluster_flows(trained_plant, ["c0001"], **retrain)["c0001"]
    assert refused.decision.decision == "refused"
    assert "worse by more than 0.05 nats and the standard error" in refused.decision.reason
    forced = train_cluster_flows(trained_plant, ["c0001"], challenge=False, **retrain)["c0001"]
    assert (forced.decision.decision, forced.flow_version) == ("promoted", refused.flow_version)
    monkeypatch.undo()
    other_seed = reopen(trained_plant, flow={"random_state": 1})
    better = train_cluster_flows(other_seed, ["c0001"], **retrain)["c0001"]
    assert better.decision.decision == "promoted"
    assert better.decision.gain_recent > 0.5


def test_a_flow_that_is_promoted_while_another_is_trained_stays_in_force(refitted, monkeypatch):
    from pwflow_core.pipeline.flows import training

    plant, first = refitted.plant, refitted.summary.decision
    register = training.register_flows

    def register_behind_a_person(*arguments):
        rollback(plant, "c0001", decided_by="Ada", reason="no")
        return register(*arguments)

    monkeypatch.setattr(training, "register_flows", register_behind_a_person)
    other = reopen(plant, flow={"random_state": 5})
    made = refit(other, "c0001")["c0001"].decision
    assert made.decision == "refused"
    in_force = query(plant, "SELECT flow_version FROM mart.flow_versions WHERE in_force AND cluster_key = 'c0001'")
    assert in_force == [(first.previous_version,)]


def test_a_few_impossible_readings_do_not_decide(trained_plant):
    [(version,)] = query(
        trained_plant, "SELECT flow_version FROM mart.flow_versions WHERE in_force AND cluster_key = 'c0001'"
    )
    old = ClusterFlow.from_bytes(trained_plant.models.get(version))
    new = ClusterFlow.from_bytes(old.to_bytes())
    X = old.sample(1000, random_state=1)
    X[:15] += 1e4
    rows = RegimeRows(
        X, np.ones(1000), np.zeros(1000, dtype=bool), np.arange(1000) // 20, None, None, np.full(1000, "M")
    )
    monotone = new.log_prob
    new.log_prob = lambda X: monotone(X) - 0.1 + 1e3 * (X[:, 0] > 1e3)
    gain = compare_flows(old, new, rows)
    assert gain.mean == pytest.approx(-0.1, abs=0.01)
    assert gain.error < 0.01


def test_gains_from_one_time_block_prove_nothing():
    rows = RegimeRows(
        np.zeros((50, 1)), np.ones(50), np.zeros(50, dtype=bool), np.zeros(50, dtype=int), None, None, np.full(50, "M")
    )

    class Constant:
        def __init__(self, value):
            self.value = value

        def log_prob(self, X):
            return np.full(len(X), self.value)

    gain = compare_flows(Constant(0.0), Constant(1.0), rows)
    assert (gain.mean, gain.error) == (1.0, np.inf)
    assert not judge_refit(gain, None, 0.02).is_won


def test_only_an_event_that_is_there_can_be_confirmed(trained_plant):
    with pytest.raises(UnknownEventError, match=r"such as E-3f9a2c, got '42': `pwflow events` lists them"):
        confirm_event(trained_plant, "42", confirmed_by="Ada")


def test_a_machine_under_suspicion_is_neither_learned_from_nor_calibrated_on(trained_plant):
    arrive(trained_plant, n_times=2000)
    with trained_plant.warehouse.transaction() as connection:
        connection.execute(
            "INSERT INTO mart.drift_verdicts BY NAME SELECT 'suspected' AS verdict_id, 'machine_moved' AS verdict, "
            "['press-1'] AS machine_ids, ['c0001', 'c0002'] AS cluster_keys, ?::DATE AS since, 'open' AS status",
            [SINCE],
        )
    refit(trained_plant, "c0001")
    [(learned, version)] = query(
        trained_plant,
        "SELECT n_rows + n_held_out, flow_version FROM mart.flow_versions WHERE cluster_key = 'c0001' "
        "ORDER BY trained_at DESC LIMIT 1",
    )
    counts = dict(
        query(
            trained_plant,
            "SELECT machine_id, count(*) FROM core.readings JOIN core.cluster_assignments USING (reading_id) "
            "WHERE cluster_key = 'c0001' AND responsibility > 1e-3 AND ts >= ? AND quality = 'ok' "
            "AND fold NOT IN (3, 8) GROUP BY machine_id",
            SINCE,
        )
    )
    assert counts["press-1"] > 200
    assert learned <= counts["press-2"]
    score_all(trained_plant)
    [(calibrated,)] = query(trained_plant, "SELECT n_rows FROM core.calibration WHERE flow_version = ?", version)
    [(of_other,)] = query(
        trained_plant,
        "SELECT count(*) FROM mart.anomaly_scores JOIN core.readings USING (reading_id) WHERE cluster_key = 'c0001' "
        "AND core.readings.machine_id = 'press-2' AND core.readings.ts >= ? AND fold IN (3, 8) AND status = 'scored'",
        SINCE,
    )
    assert 0 < calibrated <= of_other


def test_a_person_who_retrains_a_regime_of_an_open_verdict_retrains_it_on_what_it_has_been_since(moved_plant):
    with moved_plant.warehouse.transaction() as connection:
        connection.execute(
            "INSERT INTO mart.drift_verdicts BY NAME SELECT 'moved' AS verdict_id, 'regime_moved' AS verdict, "
            "['c0001'] AS cluster_keys, ?::DATE AS since, 'open' AS status, 'retrain' AS answer",
            [SINCE],
        )
    clicked = {"keys": ["c0001", "c0003"], "reason": "clicked", "promoted_by": "a person"}
    starts = retraining_starts(moved_plant, clicked["keys"])
    assert starts == {"c0001": SINCE}
    train_cluster_flows(moved_plant, **clicked, learn_from=starts)
    first = dict(
        query(
            moved_plant,
            "SELECT cluster_key, arg_max(trained_from, trained_at) FROM mart.flow_versions GROUP BY cluster_key",
        )
    )
    assert first["c0001"] >= SINCE
    assert first["c0003"] < SINCE


def test_a_refit_goes_on_from_the_flow_in_force_and_the_registry_says_so(refitted):
    plant, before = refitted.plant, refitted.summary.decision.previous_version
    [(settings,)] = query(
        plant,
        "SELECT settings FROM mart.flow_versions WHERE cluster_key = 'c0001' ORDER BY trained_at DESC LIMIT 1",
    )
    old = ClusterFlow.from_bytes(plant.models.get(before))
    assert json.loads(settings)["started_from"] == (None if old.is_gaussian else before)
