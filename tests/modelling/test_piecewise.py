"""Laws of the estimator: the mixture of flows, and the detector on top of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp
from sklearn.utils.estimator_checks import check_estimator

from pwflow_core.errors import ModelFileError
from pwflow_core.modelling import FlowSettings, PiecewiseFlow, PiecewiseFlowDetector
from pwflow_core.modelling.mixture import PRUNING_ERROR, FlowMixture

from .conftest import BRIEF, draw_bananas

BARELY = FlowSettings(max_steps=16, patience=2)
"""For what holds of an estimator however little it has learned."""


def draw_curved(n_rows, seed=0):
    """Draw rows from one mode that is bent throughout: clusters of it know less than all of it."""
    x = np.random.default_rng(seed).standard_normal((n_rows, 4))
    x[:, 1] += x[:, 0] ** 2
    x[:, 3] += 2 * np.sin(2 * x[:, 2])
    x[:, 2] += x[:, 0] * x[:, 1] / 2
    return x


@pytest.fixture(scope="module")
def curved():
    return draw_curved(2000, seed=9)


@pytest.fixture(scope="module")
def shared_model():
    return PiecewiseFlow(candidates=(1, 4), flow=BRIEF, random_state=0).fit(draw_curved(1200))


@pytest.fixture(params=["clusters alone", "with a shared flow"])
def either(request, model, bananas, shared_model, curved):
    return (model, bananas) if request.param == "clusters alone" else (shared_model, curved)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(PiecewiseFlow(flow=BARELY), id="PiecewiseFlow"),
        pytest.param(
            PiecewiseFlowDetector(PiecewiseFlow(flow=BARELY)),
            id="PiecewiseFlowDetector",
            marks=pytest.mark.long(reason="20 CPU s: each of thirty checks calibrates as well; the model itself stays"),
        ),
    ],
)
def test_scikit_learn_contract(estimator):
    """What scikit-learn itself skips asks for another array library than NumPy."""
    results = check_estimator(estimator, on_skip=None, on_fail=None)
    outcomes = {result["check_name"]: result["status"] for result in results}
    assert {name: status for name, status in outcomes.items() if status != "passed"} == {
        name: "skipped" for name in outcomes if "array_api" in name
    }
    assert len(outcomes) > 30


def test_flows_beat_the_gaussians_they_start_from(model, bananas):
    gaussian = logsumexp(model.seeds_.log_joint(bananas), axis=1)
    assert model.score(bananas) > gaussian.mean() + 0.1


def test_density_integrates_to_one(model):
    edge = np.linspace(-12, 50, 800)
    grid = np.stack(np.meshgrid(edge, edge), axis=-1).reshape(-1, 2)
    mass = np.exp(model.score_samples(grid, rule="exact")).sum() * (edge[1] - edge[0]) ** 2
    assert mass == pytest.approx(1, abs=5e-3)


def test_pruned_and_exact_agree_within_the_stated_bound():
    rng = np.random.default_rng(0)
    centre = rng.normal(scale=3.0, size=(6, 3))
    x = centre[rng.integers(6, size=4000)] + rng.standard_normal((4000, 3)) * [1, 0.3, 0.5]
    model = PiecewiseFlow(6, flow=BRIEF, random_state=0).fit(x)
    far = rng.normal(scale=30, size=(500, 3))
    for rows in (x, model.sample(4000)[0], x + rng.normal(scale=0.5, size=x.shape), far, 1e6 * far):
        exact, pruned = (model.score_samples(rows, rule=rule) for rule in ("exact", "pruned"))
        assert np.abs(exact - pruned).max() <= PRUNING_ERROR
        assert (model.score_samples(rows, rule="own") <= exact + 1e-6).all()


def test_pruning_leaves_the_shared_flow_in(shared_model, curved):
    rows = np.concatenate([curved, 10 * curved])
    mixture = replace(shared_model.mixture_, margin=6.0, floor=-np.inf)
    cut, full = mixture.log_prob(rows), mixture.log_prob(rows, "exact")
    assert (cut <= full + 1e-4).all()
    assert (cut >= mixture.log_joint(rows)[:, -1] - 1e-4).all()


def test_a_shared_flow_is_one_more_term_of_the_density_and_no_cluster(shared_model, curved):
    (shared,) = shared_model.shared_flows_
    share = shared_model.mixture_.weights[-1]
    assert 0 < share < 1
    assert shared_model.weights_.sum() == pytest.approx(1)
    joint = [
        flow.log_prob(curved) + np.log(w) for flow, w in zip(shared_model.flows_, shared_model.weights_, strict=True)
    ]
    clusters = logsumexp(joint, axis=0)
    expected = np.logaddexp(np.log1p(-share) + clusters, np.log(share) + shared.log_prob(curved))
    assert shared_model.score_samples(curved, rule="exact") == pytest.approx(expected, abs=1e-9)
    assert shared_model.predict_proba(curved).shape == (len(curved), len(shared_model.flows_))
    assert shared_model.predict(curved).tolist() == np.argmax(joint, axis=0).tolist()


def test_draws_follow_a_mixture_with_a_shared_flow_and_have_a_cluster(shared_model):
    drawn, cluster = shared_model.sample(20_000)
    assert drawn.shape == (20_000, 4)
    assert (np.diff(cluster) >= 0).all()
    assert 0 <= cluster.min() <= cluster.max() < len(shared_model.flows_)
    rows = draw_curved(20_000, seed=8)
    low, middle, high = (np.quantile(rows, q, axis=0) for q in (0.1, 0.5, 0.9))
    assert np.quantile(drawn, 0.1, axis=0) == pytest.approx(low, abs=0.4)
    assert np.median(drawn, axis=0) == pytest.approx(middle, abs=0.4)
    assert np.quantile(drawn, 0.9, axis=0) == pytest.approx(high, abs=0.4)


def test_a_shared_flow_is_mixed_in_only_where_held_out_rows_gain(shared_model):
    rows = draw_curved(1200)
    alone = PiecewiseFlow(candidates=(1, 4), shared_flow=False, flow=BRIEF, random_state=0).fit(rows)
    assert alone.shared_flows_ == []
    assert np.array_equal(alone.weights_, shared_model.weights_)
    judged = rows[shared_model.held_out_]
    assert shared_model.score(judged) > alone.score(judged)


def test_no_flow_is_shared_among_modes_that_lie_far_apart():
    rng = np.random.default_rng(0)
    x = draw_bananas(6000)
    x[rng.random(6000) < 0.5] += [200.0, -300.0]
    model = PiecewiseFlow(candidates=(1, 4), flow=BRIEF, random_state=0).fit(x)
    assert len(model.flows_) == 4
    assert model.shared_flows_ == []


def test_permuting_the_clusters_changes_nothing(model, bananas):
    other = FlowMixture(model.weights_[::-1].copy(), model.flows_[::-1])
    assert other.log_prob(bananas) == pytest.approx(model.score_samples(bananas, rule="exact"), abs=1e-9)


def test_the_same_seed_gives_the_same_model(model, bananas):
    again = PiecewiseFlow(2, flow=BRIEF, random_state=0).fit(bananas)
    assert np.array_equal(model.score_samples(bananas), again.score_samples(bananas))


@pytest.mark.parametrize("scale", [2.0**20, 1000.0])
def test_scaling_a_sensor_shifts_the_log_density_by_minus_log_scale(model, bananas, scale):
    scaled = bananas * [scale, 1.0]
    other = PiecewiseFlow(2, flow=BRIEF, random_state=0).fit(scaled)
    shift = model.score_samples(bananas) - other.score_samples(scaled) - np.log(scale)
    assert np.abs(shift).max() < (1e-5 if scale == 2.0**20 else 2e-2)


def test_a_duplicated_row_equals_weight_two():
    x = draw_bananas(800, seed=3)
    weight = np.where(np.arange(800) < 200, 2.0, 1.0)
    first = PiecewiseFlow(2, flow=BRIEF, random_state=0).fit(x, sample_weight=weight)
    second = PiecewiseFlow(2, flow=BRIEF, random_state=0).fit(np.concatenate([x, x[:200]]))
    assert np.array_equal(first.score_samples(x), second.score_samples(x))


def test_save_then_load_is_bit_equal(either, tmp_path):
    fitted, rows = either
    fitted.save(tmp_path / "model.safetensors")
    again = PiecewiseFlow.load(tmp_path / "model.safetensors")
    for rule in ("pruned", "exact", "own"):
        before, after = (m.score_samples(rows, rule=rule) for m in (fitted, again))
        assert np.array_equal(before, after)
    assert np.array_equal(fitted.predict(rows), again.predict(rows))
    assert len(again.shared_flows_) == len(fitted.shared_flows_)
    data = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "broken").write_bytes(data[:-3] + b"abc")
    with pytest.raises(ModelFileError):
        PiecewiseFlow.load(tmp_path / "broken")


@pytest.mark.parametrize("value", [1e30, -1e300, 1e-30])
def test_extreme_readings_get_finite_log_densities(model, value):
    assert np.isfinite(model.score_samples([[value, 0.0], [0.0, value], [value, value]])).all()


@pytest.mark.parametrize("case", ["outliers", "collinear", "five_rows", "one_repeated_row", "constant"])
def test_awkward_training_data_end_in_a_finite_model(case):
    x = draw_bananas(600, 3)
    if case == "outliers":
        x[::100] = 1e9
    elif case == "collinear":
        x[:, 2] = 2 * x[:, 0] - x[:, 1]
    elif case == "five_rows":
        x = x[:5]
    elif case == "one_repeated_row":
        x = np.repeat(x[:1], 400, axis=0)
    else:
        x[:, 1] = 3.0
    model = PiecewiseFlow(flow=BRIEF, random_state=0).fit(x)
    assert np.isfinite(model.score_samples(np.concatenate([x, -1e30 * x]))).all()
    assert np.isfinite(model.sample(100)[0]).all()


def test_one_dimension_works():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.exponential(size=1500), 20 + rng.standard_normal(500)])[:, None]
    for kind in ("affine", "spline"):
        model = PiecewiseFlow(4, flow=replace(BRIEF, kind=kind), random_state=0).fit(x)
        edge = np.linspace(-20, 60, 20_000)
        mass = np.exp(model.score_samples(edge[:, None])).sum() * (edge[1] - edge[0])
        assert mass == pytest.approx(1, abs=1e-2)


def test_float32_and_frames_are_taken_and_feature_names_are_checked(bananas):
    frame = pd.DataFrame(bananas, columns=["T_101", "P_204"])
    model = PiecewiseFlow(1, flow=BRIEF, random_state=0).fit(frame)
    single = model.score_samples(frame.astype(np.float32))
    assert single.dtype == np.float64
    assert single == pytest.approx(model.score_samples(frame), abs=1e-3)
    with pytest.raises(ValueError, match="feature names"):
        model.score_samples(frame.rename(columns={"P_204": "P_205"}))
    frame.loc[7, "P_204"] = np.inf
    with pytest.raises(ValueError, match=r"infinity.*rows 7 and columns P_204"):
        model.score_samples(frame)


def test_known_labels_are_kept(bananas):
    labels = np.where(bananas.sum(axis=1) > 9, 1, 0)
    model = PiecewiseFlow(flow=BRIEF, random_state=0).fit(bananas, labels=labels)
    assert len(model.flows_) == 2
    assert (model.predict(bananas) == labels).mean() > 0.95


def test_segments_are_split_first_and_scored_within(bananas):
    segments = np.where(np.arange(len(bananas)) % 3 == 0, "steel", "brass")
    moved = bananas + np.where(segments == "steel", 40.0, 0.0)[:, None]
    model = PiecewiseFlow(2, flow=BRIEF, random_state=0).fit(moved, segments=segments)
    assert model.segments_.tolist() == ["brass", "brass", "steel", "steel"]
    within = model.score_samples(moved, segments=segments)
    share = np.where(segments == "steel", 1 / 3, 2 / 3)
    assert within + np.log(share) == pytest.approx(model.score_samples(moved), abs=0.01)
    wrong = model.score_samples(moved, segments=segments[::-1])
    assert np.median(wrong[segments != segments[::-1]]) < np.median(within) - 10
    with pytest.raises(ValueError, match="Expected segments"):
        model.score_samples(moved[:1], segments=["wood"])


def test_segments_may_share_a_flow_each_or_none(tmp_path):
    x = draw_curved(1200)
    segments = np.where(np.arange(1200) % 2 == 0, "steel", "brass")
    moved = x + np.where(segments == "steel", 40.0, 0.0)[:, None]
    model = PiecewiseFlow(candidates=(1, 4), flow=BRIEF, random_state=0).fit(moved, segments=segments)
    assert 1 <= len(model.shared_segments_) == len(model.shared_flows_) <= 2
    of_flow = np.concatenate([model.segments_, model.shared_segments_])
    assert model.mixture_.weights[of_flow == "steel"].sum() == pytest.approx(0.5)
    within = model.score_samples(moved, rule="exact", segments=segments)
    assert within + np.log(0.5) == pytest.approx(model.score_samples(moved, rule="exact"), abs=0.01)
    model.save(tmp_path / "model.safetensors")
    again = PiecewiseFlow.load(tmp_path / "model.safetensors")
    assert np.array_equal(again.score_samples(moved, segments=segments), model.score_samples(moved, segments=segments))


def test_joint_refinement_never_loses_on_held_out_rows(model, bananas):
    joint = PiecewiseFlow(2, flow=BRIEF, refine="joint", random_state=0).fit(bananas)
    judged = bananas[joint.held_out_]
    assert joint.score(judged) >= model.score(judged) - 1e-9


def test_sampling_one_cluster_stays_in_it(model):
    drawn, cluster = model.sample(2000, cluster=1)
    assert (cluster == 1).all()
    assert (model.predict(drawn) == 1).mean() > 0.95
    assert model.sample(5)[0].shape == (5, 2)


def test_more_rows_than_max_rows_are_thinned(bananas):
    model = PiecewiseFlow(1, flow=BRIEF, max_rows=500, random_state=0).fit(bananas)
    assert model.held_out_.shape == (len(bananas),)
    assert 0 < model.held_out_.sum() < 200


def test_a_flow_over_all_readings_changes_nothing_that_the_detector_says(curved):
    rows = draw_curved(1200)
    settings = PiecewiseFlow(candidates=(1, 4), flow=BRIEF, random_state=0)
    detector = PiecewiseFlowDetector(settings, random_state=0).fit(rows)
    assert len(detector.density_.shared_flows_) == 1
    alone = PiecewiseFlowDetector(settings.set_params(shared_flow=False), random_state=0).fit(rows)
    assert alone.decision_function(curved) == pytest.approx(detector.decision_function(curved), abs=1e-9)


def test_the_detector_scores_are_logs_of_its_p_values(bananas):
    detector = PiecewiseFlowDetector(PiecewiseFlow(2, flow=BRIEF), random_state=0).fit(bananas)
    fresh = draw_bananas(500, seed=9)
    assert detector.score_samples(fresh) == pytest.approx(np.log(detector.p_values(fresh)), abs=1e-9)
    assert ((detector.predict(fresh) == -1) == (detector.p_values(fresh) < detector.alpha)).all()


def test_detector_flags_about_alpha_and_blames_the_sensor_that_is_wrong(bananas):
    detector = PiecewiseFlowDetector(PiecewiseFlow(2, flow=BRIEF), random_state=0).fit(bananas)
    fresh = draw_bananas(4000, seed=9)
    assert np.mean(detector.predict(fresh) == -1) == pytest.approx(0.01, abs=0.02)
    p = detector.p_values(fresh)
    assert ((p > 0) & (p <= 1)).all()
    assert np.mean(p < 0.2) == pytest.approx(0.2, abs=0.05)
    wrong = np.array([[0.0, 20.0]])
    assert detector.predict(wrong)[0] == -1
    assert detector.contributions(wrong).argmax() == 1
