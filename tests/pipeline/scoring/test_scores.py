"""Scores: the exact mixture and calibrated p-values, derived from the slices, and re-derived only where they change."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp

from pwflow_core.errors import ConfigurationError, NotFittedError
from pwflow_core.modelling import calibrate
from pwflow_core.pipeline.flows.training import train_cluster_flows
from pwflow_core.pipeline.readings.folds import CALIBRATION_FOLDS
from pwflow_core.pipeline.regimes.assigning import assign_readings
from pwflow_core.pipeline.regimes.finding import fit_cluster_model
from pwflow_core.pipeline.scoring.calibration import load_calibration
from pwflow_core.pipeline.scoring.densities import score_slices
from pwflow_core.pipeline.scoring.levels import load_levels
from pwflow_core.pipeline.scoring.scores import alpha_in_force, derive_scores
from pwflow_core.plant import Plant
from tests.conftest import TRAINED, frame, open_plant, plant_readings, put_file, query, read_all, reopen, score_all
from tests.reporting.conftest import open_again

SCORES = "SELECT * FROM mart.anomaly_scores ORDER BY reading_id"
UNKNOWN_SEGMENT = "No operating regime has been learned for segment C"
NUMBERS = ["log_density", "p_value", "anomaly_score"]
JOINT = """
    SELECT slice.reading_id, cluster_key, weight, slice.log_density, slice.conformity, slice.flow_version
    FROM core.component_log_density AS slice JOIN mart.clusters USING (cluster_key) ORDER BY reading_id, cluster_key
"""


def add_night(plant, n_times=60, seed=7, **changes) -> pd.DataFrame:
    night = plant_readings(n_times, seed=seed, start="2024-04-01").assign(**changes)
    put_file(plant.config.folder / "data" / f"night-{seed}.parquet", night)
    read_all(plant)
    return night


def retrain(plant, *keys) -> None:
    """Train again and put in use what comes out, better or not: which seed wins depends on the processor."""
    changed = reopen(plant, flow={"random_state": 1})
    train_cluster_flows(changed, keys, reason="drift", promoted_by="test", challenge=False)


def mixture(plant) -> pd.DataFrame:
    """Return the mixture by numpy: log-density, best cluster and its own log-density per reading."""
    joint = frame(plant, JOINT)
    joint["log_joint"] = np.log(joint.weight) + joint.log_density
    groups = joint.groupby("reading_id")
    best = joint.loc[groups.log_joint.idxmax()].set_index("reading_id")
    total = groups.log_joint.apply(lambda values: logsumexp(values.to_numpy()))
    return pd.DataFrame(
        {"log_density": total, "cluster_key": best.cluster_key, "own": best.conformity, "level": best.log_joint}
    )


def merged(plant, key, of_key, calibration) -> np.ndarray:
    """Return the p-values of readings of one regime, by its calibration and the levels of its segment."""
    [(model_id, segment)] = query(
        plant, "SELECT cluster_model_id, segment FROM mart.clusters WHERE cluster_key = ?", key
    )
    keys = tuple(
        k for (k,) in query(plant, "SELECT cluster_key FROM mart.clusters WHERE segment = ? ORDER BY ALL", segment)
    )
    with plant.warehouse.snapshot() as connection:
        levels = load_levels(connection, model_id, segment, keys)
    own, position = calibration.p_values(of_key.own), np.full(len(of_key), keys.index(key))
    return levels.p_values(own, position, of_key.level.to_numpy())


@pytest.fixture(scope="module")
def plant_after_a_night(_trained_folder, tmp_path_factory) -> Plant:
    """The trained plant that got a night of 600 times and scored it, for tests that only look."""
    folder = tmp_path_factory.mktemp("night") / "plant"
    shutil.copytree(_trained_folder, folder)
    plant = open_plant(folder, TRAINED)
    add_night(plant, 600)
    score_all(plant)
    return plant


@pytest.fixture(scope="module")
def plant_trained_again(_trained_folder, tmp_path_factory) -> Plant:
    """The trained plant whose flows were all trained again before it got and scored a night, to be looked at."""
    folder = tmp_path_factory.mktemp("again") / "plant"
    shutil.copytree(_trained_folder, folder)
    plant = open_plant(folder, TRAINED)
    retrain(plant, "c0001", "c0002", "c0003", "c0004")
    add_night(plant, 300)
    score_all(plant)
    return plant


@pytest.fixture
def unchanged(_trained_folder: Path) -> Plant:
    """The trained plant itself, for tests that only look."""
    return open_again(_trained_folder)


def test_the_log_density_is_the_logsumexp_of_the_weighted_slices(unchanged):
    scores = frame(unchanged, "SELECT * FROM mart.anomaly_scores WHERE status = 'scored'").set_index("reading_id")
    expected = mixture(unchanged).loc[scores.index]
    np.testing.assert_allclose(scores.log_density, expected.log_density, rtol=0, atol=1e-12)
    assert (scores.cluster_key == expected.cluster_key).all()
    n_candidates = frame(unchanged, JOINT).groupby("reading_id").size()
    assert (n_candidates == 2).sum() > 100, "the sum has several terms"


@pytest.mark.parametrize("arrives", ["before training", "between training and scoring"])
def test_the_p_value_is_that_of_the_calibration_on_the_held_out_readings_of_the_regime(
    unchanged, plant_trained_again, arrives
):
    """Readings that arrive after the training are judged; they do not calibrate."""
    plant = unchanged if arrives == "before training" else plant_trained_again
    scores = frame(plant, SCORES).merge(frame(plant, "SELECT reading_id, fold FROM core.readings"), on="reading_id")
    scores = scores[scores.status == "scored"].merge(mixture(plant)[["own", "level"]], on="reading_id")
    trained = dict(query(plant, "SELECT cluster_key, trained_until FROM mart.flow_versions WHERE in_force"))
    for key, of_key in scores.groupby("cluster_key"):
        held_out = of_key[of_key.fold.isin(CALIBRATION_FOLDS) & (of_key.ts <= trained[key])]
        minutes = (held_out.ts - pd.Timestamp("1970-01-01")) // pd.Timedelta("60s")
        expected = calibrate(held_out.own, blocks=held_out.machine_id + (minutes // 32).astype(str))
        assert expected.n_rows >= 50
        np.testing.assert_allclose(of_key.p_value, merged(plant, key, of_key, expected), rtol=1e-6)
    np.testing.assert_allclose(scores.anomaly_score, -np.log10(scores.p_value), atol=1e-12)
    assert (scores.is_anomaly == (scores.p_value <= 0.01)).all()
    assert scores.is_anomaly.any()


def test_sql_and_the_stored_calibration_give_the_same_p_values_in_body_and_tail(trained_plant):
    night = plant_readings(60, seed=7, start="2024-04-01")
    night.loc[::3, "temperature"] += np.linspace(0, 60, len(night[::3]))
    put_file(trained_plant.config.folder / "data" / "night.parquet", night)
    read_all(trained_plant)
    score_all(trained_plant)
    scores = frame(trained_plant, "SELECT * FROM mart.anomaly_scores WHERE status = 'scored'").merge(
        mixture(trained_plant)[["own", "level"]], on="reading_id"
    )
    n_tail = 0
    for (key, version), of_key in scores.groupby(["cluster_key", "flow_version"]):
        with trained_plant.warehouse.snapshot() as connection:
            stored = load_calibration(connection, key, version)
        np.testing.assert_allclose(of_key.p_value, merged(trained_plant, key, of_key, stored), rtol=1e-12)
        n_tail += (of_key.own < stored.threshold).sum()
    assert n_tail > 50
    assert 0 < scores.p_value.min() < 1e-6


def test_a_flow_keeps_its_calibration_whatever_arrives_later(unchanged, plant_after_a_night):
    for table in ("SELECT * FROM core.calibration ORDER BY ALL", "SELECT * FROM core.calibration_steps ORDER BY ALL"):
        pd.testing.assert_frame_equal(frame(plant_after_a_night, table), frame(unchanged, table), check_exact=True)


def test_levels_are_learned_once_for_a_cluster_model_and_then_kept(unchanged, plant_trained_again):
    before = frame(unchanged, "SELECT * FROM core.level_steps ORDER BY ALL")
    assert len(before) > 100
    pd.testing.assert_frame_equal(frame(plant_trained_again, "SELECT * FROM core.level_steps ORDER BY ALL"), before)


def test_a_warehouse_without_levels_learns_them_and_judges_every_reading_again(trained_plant):
    """As one is that an earlier release wrote."""
    before = frame(trained_plant, SCORES)
    with trained_plant.warehouse.transaction() as connection:
        connection.execute(
            "DELETE FROM core.level_steps; DELETE FROM core.merged_steps; UPDATE mart.anomaly_scores SET p_value = 0.5"
        )
    assert derive_scores(trained_plant).n_derived == len(before)
    pd.testing.assert_series_equal(frame(trained_plant, SCORES).p_value, before.p_value)


def test_a_flow_that_is_scored_while_the_others_are_calibrated_is_taken_up_by_the_next_run(trained_plant, monkeypatch):
    before = frame(trained_plant, SCORES)
    retrain(trained_plant, "c0002")
    list(score_slices(trained_plant))
    with monkeypatch.context() as patch:
        patch.setattr("pwflow_core.pipeline.scoring.scores.calibrate_flows", lambda plant: None)
        derive_scores(trained_plant)
    pd.testing.assert_frame_equal(frame(trained_plant, SCORES), before, check_exact=True)
    assert derive_scores(trained_plant).n_derived > 0
    versions = query(trained_plant, "SELECT DISTINCT flow_version FROM mart.anomaly_scores WHERE cluster_key = 'c0002'")
    assert versions == query(
        trained_plant, "SELECT flow_version FROM mart.flow_versions WHERE cluster_key = 'c0002' AND in_force"
    )


def test_p_values_of_new_normal_readings_are_uniform(plant_after_a_night):
    new = "SELECT p_value FROM mart.anomaly_scores WHERE ts >= '2024-04-01' AND status = 'scored'"
    p = frame(plant_after_a_night, new)
    assert abs((p.p_value <= 0.1).mean() - 0.1) < 0.05
    assert abs(p.p_value.mean() - 0.5) < 0.05


def test_every_reading_has_exactly_one_score_and_unscored_ones_no_numbers(plant_after_a_night):
    both = "SELECT * FROM core.readings FULL JOIN mart.anomaly_scores AS score USING (reading_id)"
    rows = frame(plant_after_a_night, both)
    assert not rows.reading_id.duplicated().any()
    assert rows.status.notna().all()
    assert rows.quality.notna().all()
    assert (rows.status[rows.quality != "ok"] == rows.quality[rows.quality != "ok"]).all()
    assert set(rows.status) == {"scored", "missing", "invalid"}
    unscored = rows[rows.status != "scored"]
    assert unscored[[*NUMBERS, "is_anomaly"]].isna().all(axis=None)
    assert np.isfinite(rows.loc[rows.status == "scored", NUMBERS].to_numpy()).all()


def test_a_second_run_derives_nothing(trained_plant):
    before = frame(trained_plant, SCORES)
    assert derive_scores(trained_plant).n_derived == 0
    pd.testing.assert_frame_equal(frame(trained_plant, SCORES), before, check_exact=True)


def test_readings_without_the_retrained_cluster_keep_their_scores_to_the_byte(trained_plant):
    """Also scored_at and model_set_id."""
    before = frame(trained_plant, SCORES)
    affected = {
        r
        for (r,) in query(trained_plant, "SELECT reading_id FROM core.cluster_assignments WHERE cluster_key = 'c0002'")
    }
    retrain(trained_plant, "c0002")
    list(score_slices(trained_plant))
    assert derive_scores(trained_plant).n_derived == len(affected)
    after = frame(trained_plant, SCORES)
    stays = ~before.reading_id.isin(affected)
    assert 0 < stays.sum() < len(before)
    pd.testing.assert_frame_equal(after[stays.to_numpy()], before[stays], check_exact=True)
    assert (after.model_set_id != before.model_set_id)[~stays].all()
    assert (after.flow_version != before.flow_version)[~stays & (after.cluster_key == "c0002")].all()


def test_deriving_in_parts_gives_what_deriving_all_at_once_gives(trained_plant):
    add_night(trained_plant)
    score_all(trained_plant)
    retrain(trained_plant, "c0003")
    list(score_slices(trained_plant))
    derive_scores(trained_plant)
    add_night(trained_plant, seed=8, machine="press-3")
    score_all(trained_plant)
    in_parts = frame(trained_plant, SCORES)
    with trained_plant.warehouse.transaction() as connection:
        connection.execute("DELETE FROM core.progress WHERE step = 'scores'; DELETE FROM mart.anomaly_scores")
    assert derive_scores(trained_plant).n_derived == len(in_parts)
    at_once = frame(trained_plant, SCORES)
    ignored = ["scored_at", "model_set_id"]
    pd.testing.assert_frame_equal(at_once.drop(columns=ignored), in_parts.drop(columns=ignored), check_exact=True)


@pytest.mark.parametrize(
    "change", [{"alpha": 0.2}, {"alpha": None, "alarms_per_week": 800}, {"min_calibration_rows": 120}]
)
def test_a_changed_scoring_configuration_judges_every_reading_anew(trained_plant, change):
    before = frame(trained_plant, SCORES)
    plant = reopen(trained_plant, scoring=change)
    assert derive_scores(plant).n_derived == len(before)
    after = frame(plant, SCORES)
    assert (after.is_anomaly.sum() > before.is_anomaly.sum()) or (after.status == "thin").any()


def test_the_rate_in_force_is_that_of_the_last_scores_also_if_it_is_one_of_before(trained_plant):
    rates = []
    for alpha in (0.2, 0.1, 0.2):
        plant = reopen(trained_plant, scoring={"alpha": alpha})
        derive_scores(plant)
        with plant.warehouse.snapshot() as connection:
            rates.append(alpha_in_force(connection))
    assert rates == [0.2, 0.1, 0.2]
    assert query(plant, "SELECT count(DISTINCT model_set_id) FROM core.model_sets WHERE alpha = 0.2") == [(1,)]


def test_a_regime_with_too_few_held_out_readings_is_thin_and_never_judged(trained_plant):
    plant = reopen(trained_plant, scoring={"min_calibration_rows": 100_000})
    summary = derive_scores(plant)
    assert set(summary.n_by_status) == {"thin", "missing", "invalid"}
    assert summary.n_anomalies == 0
    assert frame(plant, SCORES)[[*NUMBERS, "is_anomaly"]].isna().all(axis=None)


def test_a_reading_that_is_not_judged_says_why_in_words(trained_plant):
    add_night(trained_plant, recipe="C")
    plant = reopen(trained_plant, scoring={"min_calibration_rows": 120})
    score_all(plant)
    reasons = frame(plant, "SELECT DISTINCT status, segment = 'C' AS is_new, reason FROM mart.anomaly_scores")
    assert (reasons.reason[(reasons.status == "thin") & reasons.is_new] == UNKNOWN_SEGMENT).all()
    thin = reasons.reason[(reasons.status == "thin") & ~reasons.is_new]
    assert len(thin) > 0
    assert thin.str.fullmatch(r"Regime c000\d has \d+ held-out readings; 120 are needed to calibrate it").all()
    assert reasons.reason[reasons.status == "scored"].isna().all()


def test_the_reason_of_a_reading_is_handed_on_and_a_filled_or_partial_one_is_scored(trained_plant):
    with trained_plant.warehouse.transaction() as connection:
        connection.execute(
            "UPDATE core.readings SET quality = ['filled', 'partial', 'stuck'][1 + row_number % 3], reason = 'told' "
            "WHERE quality = 'ok'"
        )
        connection.execute("DELETE FROM core.progress WHERE step = 'scores'")
    derive_scores(trained_plant)
    rows = query(
        trained_plant,
        "SELECT DISTINCT quality, status, score.reason, p_value IS NULL FROM mart.anomaly_scores AS score "
        "JOIN core.readings USING (reading_id) WHERE score.reason = 'told' ORDER BY quality",
    )
    assert rows == [
        ("filled", "scored", "told", False),
        ("partial", "scored", "told", False),
        ("stuck", "stuck", "told", True),
    ]


def test_a_budget_of_alarms_per_week_becomes_a_rate_per_reading_and_stays_that_rate(trained_plant):
    """Two machines, one reading a minute: 20,160 a week, less the few that cannot be scored."""
    plant = reopen(trained_plant, scoring={"alpha": None, "alarms_per_week": 100})
    rate = derive_scores(plant).rate
    assert rate.readings_per_week == pytest.approx(20_160, rel=0.05)
    [(tail_dependence,)] = query(plant, "SELECT sum(n_rows * tail_dependence) / sum(n_rows) FROM core.calibration")
    alone_or_two_of_ten = rate.alpha * (0.01 + tail_dependence + 10 * rate.alpha)
    assert rate.readings_per_week * alone_or_two_of_ten == pytest.approx(100)
    assert query(plant, "SELECT count(*) FROM mart.anomaly_scores WHERE is_anomaly <> (p_value <= ?)", rate.alpha) == [
        (0,)
    ]
    before = frame(plant, SCORES)
    add_night(plant, 600, machine="press-3")
    read_all(plant)
    score_all(plant)
    after = derive_scores(plant)
    assert after.rate == rate
    scores = frame(plant, SCORES)
    pd.testing.assert_frame_equal(
        scores[scores.reading_id.isin(before.reading_id)].reset_index(drop=True), before, check_exact=True
    )


def test_a_budget_of_more_alarms_than_readings_is_an_error(trained_plant):
    """It is refused before anything is learned, and where it is raised later."""
    plant = reopen(trained_plant, scoring={"alpha": None, "alarms_per_week": 1_000_000})
    for step in (fit_cluster_model, derive_scores):
        with pytest.raises(ConfigurationError, match=r"scoring.alarms_per_week below the [\d,]+ readings"):
            step(plant)


def test_a_segment_that_appears_at_night_is_thin_and_never_normal(trained_plant):
    before = frame(trained_plant, SCORES)
    add_night(trained_plant, recipe="C", temperature=np.linspace(20, 21, 120), pressure=np.linspace(3, 4, 120))
    score_all(trained_plant)
    night = frame(trained_plant, "SELECT * FROM mart.anomaly_scores WHERE segment = 'C'")
    assert len(night) == 120
    assert set(night.status) == {"thin"}
    assert night[[*NUMBERS, "is_anomaly", "cluster_key"]].isna().all(axis=None)
    after = frame(trained_plant, "SELECT * FROM mart.anomaly_scores WHERE segment <> 'C' ORDER BY reading_id")
    pd.testing.assert_frame_equal(after, before, check_exact=True)


def test_a_reading_that_a_regime_without_a_flow_could_have_produced_is_not_judged_by_the_others(trained_plant):
    with trained_plant.warehouse.transaction() as connection:
        connection.execute("UPDATE mart.flow_versions SET in_force = false WHERE cluster_key = 'c0002'")
        connection.execute(
            "DELETE FROM core.progress WHERE step = 'scores' OR (step = 'score' AND cluster_key = 'c0002')"
        )
        connection.execute("DELETE FROM core.component_log_density WHERE cluster_key = 'c0002'")
    list(score_slices(trained_plant))
    derive_scores(trained_plant)
    statuses = query(
        trained_plant,
        "SELECT DISTINCT status FROM mart.anomaly_scores JOIN core.cluster_assignments AS a USING (reading_id) "
        "WHERE a.cluster_key = 'c0002'",
    )
    assert statuses == [("thin",)]
    train_cluster_flows(trained_plant, ["c0002"], reason="x", promoted_by="test")
    score_all(trained_plant)
    assert query(trained_plant, "SELECT count(*) FROM mart.anomaly_scores WHERE status = 'thin'") == [(0,)]


def test_scores_wait_until_every_regime_has_been_assigned_and_then_are_those_of_a_straight_run(trained_plant):
    """Steps out of order after new regimes: what stands stays until all is known, and nothing stale remains."""
    before = frame(trained_plant, SCORES)
    plant = reopen(
        trained_plant, clustering={"random_state": 3, "n_clusters": 2}, training={"until": "2024-03-01T20:00Z"}
    )
    fit_cluster_model(plant)
    with pytest.raises(NotFittedError, match="materialize component_log_density"):
        derive_scores(plant)
    assign_readings(plant, ["c0001"])
    list(score_slices(plant, ["c0001"]))
    derive_scores(plant)
    pd.testing.assert_frame_equal(frame(plant, SCORES), before, check_exact=True)
    for key in ("c0002", "c0003", "c0004"):
        assign_readings(plant, [key])
        list(score_slices(plant, [key]))
        derive_scores(plant)
    scores = frame(plant, SCORES)
    scored = scores[scores.status == "scored"].set_index("reading_id")
    assert len(scored) == (before.status == "scored").sum()
    np.testing.assert_allclose(scored.log_density, mixture(plant).loc[scored.index].log_density, rtol=0, atol=1e-12)


def test_every_model_set_can_be_looked_up(plant_trained_again):
    missing = "SELECT DISTINCT model_set_id FROM mart.anomaly_scores ANTI JOIN core.model_sets USING (model_set_id)"
    assert query(plant_trained_again, missing) == []
    sets = query(
        plant_trained_again,
        "SELECT model_set_id, count(*), count(DISTINCT cluster_key) FROM core.model_sets GROUP BY 1",
    )
    assert [row[1:] for row in sets] == [(4, 4), (4, 4)]


def test_deriving_before_scoring_says_what_to_do(make_plant):
    plant = make_plant({"a.csv": "ts,machine,temperature,pressure\n2024-01-01,m,1,2\n"})
    read_all(plant)
    with pytest.raises(NotFittedError, match="materialize component_log_density"):
        derive_scores(plant)
