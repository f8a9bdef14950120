"""Detectability: the judge says what scoring says, blindness has a reason, and only what changed is probed again."""

import numpy as np
import pytest

from pwflow_core.modelling import ClusterRows, FlowSettings, train_flows
from pwflow_core.modelling.alarms import AlarmRule
from pwflow_core.modelling.calibration import calibrate
from pwflow_core.modelling.seeds import ClusterSeeds
from pwflow_core.pipeline.readings.faulty import SensorFaults
from pwflow_core.pipeline.readings.features import FeatureSet
from pwflow_core.pipeline.regimes.model import SegmentClusters, load_cluster_model
from pwflow_core.pipeline.scoring.detectability import (
    explain_blindness,
    measure_detectability,
    probe_regime,
)
from pwflow_core.pipeline.scoring.judge import JudgedRegime, SegmentJudge, open_judge, read_model_set
from pwflow_core.pipeline.scoring.scores import SCORES_STEP, derive_scores
from pwflow_core.pipeline.scoring.sight import blind_sensors, read_sight
from pwflow_core.warehouse.progress import read_progress
from tests.conftest import frame, query, reopen


def sight_of(plant):
    with plant.warehouse.snapshot() as connection:
        return read_sight(connection)


def test_the_judge_gives_the_p_values_and_regimes_that_scoring_gave(trained_plant):
    _, model = load_cluster_model(trained_plant)
    with trained_plant.warehouse.snapshot() as connection:
        models = read_model_set(connection, read_progress(connection, SCORES_STEP).model)
    scored = frame(
        trained_plant,
        "SELECT score.segment, score.cluster_key, p_value, temperature, pressure FROM mart.anomaly_scores AS score "
        "JOIN core.readings USING (reading_id) WHERE status = 'scored' AND quality = 'ok'",
    )
    assert len(scored) > 2500
    for part in model.segments:
        rows = scored[scored.segment == part.segment]
        judged = open_judge(trained_plant, model, models, part.segment).judge(rows[list(model.columns)].to_numpy())
        np.testing.assert_allclose(judged.p_value, rows.p_value, rtol=1e-9)
        assert [part.keys[position] for position in judged.regime] == rows.cluster_key.tolist()


def test_every_regime_says_what_it_sees_and_is_probed_again_only_after_a_change(trained_plant):
    first = measure_detectability(trained_plant)
    assert first.probed == ["c0001", "c0002", "c0003", "c0004"]
    assert [(seen.cluster_key, seen.sensor) for seen in first.sight] == [
        (key, sensor) for key in first.probed for sensor in ("pressure", "temperature")
    ]
    for seen in first.sight:
        assert 0.1 < seen.shift_sigma < 10
        assert seen.shift == pytest.approx(seen.shift_sigma * seen.spread)
        assert seen.shift_sigma < seen.spike_sigma, "a lone reading has to be rarer"
        assert not seen.is_blind
    assert measure_detectability(trained_plant).probed == []

    with trained_plant.warehouse.transaction() as connection:
        connection.execute("UPDATE mart.clusters SET weight = 0.9 * weight WHERE cluster_key = 'c0002'")
    derive_scores(trained_plant)
    changed = measure_detectability(trained_plant)
    [(segment,)] = query(trained_plant, "SELECT segment FROM mart.clusters WHERE cluster_key = 'c0002'")
    keys = query(trained_plant, "SELECT cluster_key FROM mart.clusters WHERE segment = ? ORDER BY 1", segment)
    assert changed.probed == [key for (key,) in keys], "its neighbour judges shifted readings too"
    untouched = [seen for seen in first.sight if seen.cluster_key not in changed.probed]
    assert [seen for seen in changed.sight if seen.cluster_key not in changed.probed] == untouched


def test_a_regime_with_too_few_readings_to_judge_is_blind_and_says_so(trained_plant):
    plant = reopen(trained_plant, scoring={"min_calibration_rows": 10_000})
    derive_scores(plant)
    found = measure_detectability(plant).sight
    assert {seen.reason for seen in found} == {"few_readings"}
    assert list(blind_sensors(sight_of(plant))) == ["c0001", "c0002", "c0003", "c0004"]


def gaussian_judge(means, missing=(), gross=False):
    """Return a judge of Gaussian regimes with two independent sensors of spread 1."""
    means, shape, nothing = np.array(means, dtype=float), np.eye(2), np.empty(0)
    keys = tuple(f"c{place + 1:04}" for place in range(len(means)))
    seeds = ClusterSeeds(
        method="gmm",
        weights=np.full(len(means), 1 / len(means)),
        means=means,
        covariances=np.tile(shape, (len(means), 1, 1)),
        scale=np.ones(2),
    )
    no_rows = [ClusterRows(np.empty((0, 2)), nothing, np.empty((0, 2)), nothing, mean, shape) for mean in means]
    rng, regimes = np.random.default_rng(0), {}
    for key, mean, flow in zip(keys, means, train_flows(no_rows, FlowSettings(), random_state=0), strict=True):
        rows = mean + rng.standard_normal((3000, 2))
        rows[: 300 * gross] += 1e6
        regimes[key] = JudgedRegime(0.5, flow, calibrate(flow.evaluate(rows).conformity))
    return SegmentJudge(SegmentClusters("all", keys, seeds), {k: r for k, r in regimes.items() if k not in missing})


@pytest.mark.parametrize(
    ("means", "about", "reason", "hidden_by"),
    [
        ([[0, 0], [15, 0]], {}, "other_regime", "c0002"),
        ([[0, 0], [15, 0]], {"missing": ["c0002"]}, "unjudged_regime", "c0002"),
        ([[0, 0]], {"gross": True}, "calibration", None),
    ],
)
def test_a_blind_sensor_is_named_with_the_reason(means, about, reason, hidden_by):
    judge, rule = gaussian_judge(means, **about), AlarmRule(0.001, 1e-5)
    faults = SensorFaults(("a", "b"), FeatureSet(("a", "b")), 60.0)
    runs = np.random.default_rng(1).standard_normal((100, 2, 2))
    seen = probe_regime(judge, faults, runs, rule)
    assert seen.is_blind.tolist() == [True, reason == "calibration"]
    missed = float(seen.missed[0])
    assert explain_blindness(judge, faults, runs.reshape(-1, 2), 0, missed, "c0001", rule) == (reason, hidden_by)
