"""What Python users expect of the estimators: one cluster again, files, frames, names of other libraries, pictures."""

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from pwflow_core import PiecewiseFlow, PiecewiseFlowDetector, plots
from pwflow_core.errors import ModelFileError
from pwflow_core.modelling import FlowSettings
from tests.modelling.conftest import BRIEF

mpl.use("agg")


def draw(n_rows, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    high = rng.random(n_rows) < 0.4
    first = np.where(high, 8.0 + shift, 0.0) + rng.standard_normal(n_rows)
    return pd.DataFrame({"speed": first, "flow": 2 * first + 0.3 * rng.standard_normal(n_rows)})


@pytest.fixture(scope="module")
def model():
    return PiecewiseFlow(2, flow=BRIEF, shared_flow=False, random_state=0).fit(draw(3000))


@pytest.fixture(scope="module")
def detector():
    return PiecewiseFlowDetector(PiecewiseFlow(2, flow=BRIEF), random_state=0).fit(draw(1500))


def again(model):
    return PiecewiseFlow.from_bytes(model.to_bytes())


def test_retraining_one_cluster_leaves_the_others_bit_equal_and_follows_its_readings(model):
    moved, fresh = draw(3000, seed=1, shift=3.0), draw(2000, seed=2, shift=3.0)
    high = int(model.predict(pd.DataFrame({"speed": [8.0], "flow": [16.0]}))[0])
    other = 1 - high
    retrained = again(model).fit_cluster(high, moved[moved.speed > 6])
    rows = fresh.to_numpy()
    assert (retrained.flows_[other].log_prob(rows) == model.flows_[other].log_prob(rows)).all()
    assert (retrained.weights_ == model.weights_).all()
    assert retrained.score(fresh[fresh.speed > 6]) > model.score(fresh[fresh.speed > 6]) + 1
    assert (retrained.predict(fresh[fresh.speed > 6]) == high).mean() > 0.99
    assert retrained.score_samples(fresh) == pytest.approx(retrained.score_samples(fresh, rule="exact"), abs=1e-3)


def test_retraining_one_cluster_is_the_same_as_training_it_with_the_same_weights_repeated(model):
    rows = draw(600, seed=3)
    rows = rows[rows.speed > 4]
    twice = again(model).fit_cluster(0, pd.concat([rows, rows]))
    weighted = again(model).fit_cluster(0, rows, sample_weight=np.full(len(rows), 2.0))
    assert (twice.score_samples(rows) == weighted.score_samples(rows)).all()


@pytest.mark.parametrize("cluster", [-1, 2, 1.0, "c0001"])
def test_a_cluster_that_is_not_there_is_refused(model, cluster):
    with pytest.raises(ValueError, match="cluster from 0 to 1"):
        again(model).fit_cluster(cluster, draw(100))


def test_a_saved_model_keeps_its_parameters(model, tmp_path):
    model.save(tmp_path / "model.safetensors")
    loaded = PiecewiseFlow.load(tmp_path / "model.safetensors")
    assert loaded.get_params() == model.get_params()
    assert clone(loaded).get_params() == model.get_params()
    assert (loaded.score_samples(draw(200)) == model.score_samples(draw(200))).all()


@pytest.mark.parametrize("density", [None, PiecewiseFlow(2, flow=BRIEF)], ids=["defaults", "given"])
def test_a_saved_detector_scores_bit_equal_and_keeps_its_parameters(density, tmp_path):
    fitted = PiecewiseFlowDetector(density, alpha=0.02, random_state=0).fit(draw(400))
    fitted.save(tmp_path / "detector.safetensors")
    loaded = PiecewiseFlowDetector.load(tmp_path / "detector.safetensors")
    x = draw(300, seed=4)
    assert (loaded.decision_function(x) == fitted.decision_function(x)).all()
    pd.testing.assert_frame_equal(loaded.contributions(x), fitted.contributions(x))
    assert loaded.alpha == 0.02
    assert str(loaded.density) == str(fitted.density)
    assert (loaded.labels_ == fitted.labels_).all()
    with pytest.raises(ModelFileError, match="piecewise_flow_detector"):
        PiecewiseFlow.load(tmp_path / "detector.safetensors")


def test_contributions_of_a_frame_are_a_frame_with_what_was_expected(detector):
    x = draw(50, seed=5).set_axis(pd.date_range("2026-01-01", periods=50, freq="min"))
    x.iloc[7, 1] += 10
    found = detector.contributions(x)
    assert found.index.equals(x.index)
    assert found["contribution"].columns.tolist() == ["speed", "flow"]
    assert found["contribution"].sum(axis=1).to_numpy() == pytest.approx(-np.log10(detector.p_values(x)))
    assert (found["observed"] == x).all().all()
    row = found.iloc[7]
    assert row["contribution"].idxmax() == "flow"
    assert row["low", "flow"] < 2 * x.speed.iloc[7] < row["high", "flow"]
    assert np.asarray(found["contribution"]) == pytest.approx(detector.contributions(x.to_numpy()))


def test_names_of_pyod_mean_the_same(detector):
    rows = draw(1500)
    assert detector.decision_scores_ == pytest.approx(-detector.score_samples(rows))
    assert (detector.labels_ == (detector.predict(rows) == -1)).all()


def test_contamination_flags_that_share_of_the_training_rows():
    rows = draw(400)
    fitted = PiecewiseFlowDetector(PiecewiseFlow(2, flow=BRIEF), contamination=0.1, random_state=0).fit(rows)
    assert fitted.labels_.sum() == 40
    for wrong in (0.0, 0.6, -1.0):
        with pytest.raises(ValueError, match=r"contamination above 0 and at most 0\.5"):
            fitted.set_params(contamination=wrong).fit(rows)


@pytest.mark.parametrize("build", [PiecewiseFlow, PiecewiseFlowDetector])
def test_a_column_of_text_is_refused_by_its_name_before_any_work(build):
    rows = draw(50).assign(recipe=["A", "B"] * 25, started=pd.Timestamp("2026-01-01"))
    with pytest.raises(ValueError, match=r"'recipe' \(such as 'A'\), 'started' \(such as '2026-01-01"):
        build().fit(rows)
    assert build(random_state=0).fit(draw(50).astype(object)).n_features_in_ == 2


@pytest.mark.parametrize("wrong", [{"flow": "spline"}, {"flow": {"hidden": 8}}, {"n_jobs": 0}, {"n_jobs": -2}])
def test_wrong_parameters_are_refused_before_any_work(wrong):
    with pytest.raises(ValueError, match="Expected"):
        PiecewiseFlow(**wrong).fit(draw(50))
    with pytest.raises(ValueError, match="density"):
        PiecewiseFlowDetector(density="spline").fit(draw(50))


def test_verbose_says_what_is_tried_and_only_then(capsys):
    rows = draw(600)
    PiecewiseFlow(candidates=(1, 2), flow=BRIEF, random_state=0).fit(rows)
    assert not capsys.readouterr().err
    PiecewiseFlow(candidates=(1, 2), flow=BRIEF, random_state=0, verbose=True).fit(rows)
    said = capsys.readouterr().err
    assert "2 clusters: held-out log-density" in said
    assert "1 clusters: held-out log-density" in said


def test_more_threads_change_little(model):
    rows = draw(600)
    few = replace(BRIEF, max_steps=32)
    one, two = (PiecewiseFlow(2, flow=few, random_state=0, n_jobs=n).fit(rows).score(rows) for n in (1, 2))
    assert one == pytest.approx(two, abs=1e-3)
    assert PiecewiseFlow(flow=FlowSettings(threads=3))._settings().threads == 3


def test_pictures_show_what_the_model_says(model, detector):
    rows = draw(1000, seed=6)
    ax = plots.plot_density(model, rows, "flow")
    readings = np.array([bar.get_height() for bar in ax.containers[0]])
    outline = ax.patches[-1].get_xy()
    drawn = np.array([outline[outline[:, 0] > bar.get_x()][0, 1] for bar in ax.containers[0]])
    assert ax.get_xlabel() == "flow"
    assert np.corrcoef(readings, drawn)[0, 1] > 0.9
    ax = plots.plot_calibration(detector, rows)
    x, y = ax.lines[1].get_data()
    assert np.abs(np.asarray(y) - np.asarray(x))[np.asarray(x) > 0.1].max() < 0.15
    wrong = rows.iloc[0].copy()
    wrong["flow"] += 10
    ax = plots.plot_contributions(detector, wrong)
    assert [label.get_text() for label in ax.get_yticklabels()][-1] == "flow"
    assert "expected" in ax.texts[-1].get_text()
    plots.plot_contributions(detector, wrong.to_numpy(), ax=ax)


def test_pictures_refuse_what_they_cannot_draw(model, detector):
    for sensor in ("pressure", 2, -1):
        with pytest.raises(ValueError, match="speed, flow"):
            plots.plot_density(model, draw(10), sensor)
    with pytest.raises(ValueError, match="one reading, got 3"):
        plots.plot_contributions(detector, draw(3))
