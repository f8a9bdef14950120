"""Laws of the baselines: the same interface, normalised, drawing what they say, and no weaker than a Gaussian."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.base import clone

from pwflow_core.modelling import FlowSettings
from pwflow_core.modelling.baselines import BicGaussianMixture, MixtureBaseFlow, ResampledBaseFlow, SingleFlow

QUICK = FlowSettings(transforms=3, hidden=24, max_steps=320)
MODELS = {
    "single": SingleFlow(flow=QUICK, random_state=0),
    "mixture base": MixtureBaseFlow(candidates=(1, 2, 3), flow=QUICK, random_state=0),
    "resampled base": ResampledBaseFlow(flow=replace(QUICK, max_steps=640), hidden=32, random_state=0),
    "gaussian mixture": BicGaussianMixture(candidates=(1, 2, 3), random_state=0),
}


def draw_two_modes(n, seed):
    """Draw from two bent, separate modes."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 2))
    x[:, 1] += 0.5 * x[:, 0] ** 2
    x[rng.random(n) < 0.4] += [7.0, 3.0]
    return x


@pytest.fixture(scope="module")
def rows():
    return draw_two_modes(2500, seed=0)


@pytest.fixture(scope="module")
def fitted(rows):
    """Return each model fitted; draw from a copy, because the next draws are others."""
    return {name: clone(model).fit(rows) for name, model in MODELS.items()}


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


def test_density_integrates_to_one(fitted, name):
    model = fitted[name]
    edge = np.linspace(-30, 40, 700)
    grid = np.stack(np.meshgrid(edge, edge), axis=-1).reshape(-1, 2)
    total = np.exp(model.score_samples(grid)).sum() * (edge[1] - edge[0]) ** 2
    monte_carlo = 4 * getattr(model, "log_density_error_", 0.0)
    assert total == pytest.approx(1, abs=5e-3 + monte_carlo)  # 5e-3: the tail outside of the grid


def test_draws_have_the_density_that_the_model_says(fitted, name):
    """Compare histograms: the shares of draws in the cells of a grid against the integrated density."""
    model = fitted[name]
    drawn = deepcopy(model).sample(20_000)[0]
    edge = np.linspace(-4, 12, 9)
    counted, _, _ = np.histogram2d(drawn[:, 0], drawn[:, 1], bins=[edge, edge])
    fine = (np.arange(8 * 25) + 0.5) * (16 / 200) - 4
    grid = np.stack(np.meshgrid(fine, fine, indexing="ij"), axis=-1).reshape(-1, 2)
    mass = np.exp(model.score_samples(grid)).reshape(8, 25, 8, 25).sum(axis=(1, 3)) * (16 / 200) ** 2
    deviation = (counted / len(drawn) - mass) / np.sqrt(mass * (1 - mass) / len(drawn) + 1e-4 * mass**2 + 1e-7)
    assert np.abs(deviation).max() < 5


def test_the_same_seed_gives_the_same_scores_and_draws(fitted, rows, name):
    again = clone(MODELS[name]).fit(rows)
    assert np.array_equal(again.score_samples(rows), fitted[name].score_samples(rows))
    assert np.array_equal(again.sample(50)[0], deepcopy(fitted[name]).sample(50)[0])


def test_two_modes_are_told_from_one_gaussian(fitted, rows, name):
    fresh = draw_two_modes(4000, seed=1)
    gaussian = multivariate_normal(rows.mean(axis=0), np.cov(rows.T)).logpdf(fresh).mean()
    assert fitted[name].score(fresh) > gaussian + 0.2


@pytest.mark.long(reason="7 CPU s: each integrates to one, whatever its scale")
def test_scaling_a_sensor_shifts_the_log_density_by_minus_log_scale(fitted, rows, name):
    scaled = clone(MODELS[name]).fit(rows * [1000.0, 1.0])
    shift = scaled.score_samples(rows * [1000.0, 1.0]) - fitted[name].score_samples(rows)
    assert np.median(shift) == pytest.approx(-np.log(1000), abs=0.02)


def test_far_readings_stay_finite(fitted, name):
    far = np.array([[1e6, -1e6], [1e12, 0.0]])
    assert np.isfinite(fitted[name].score_samples(far)).all()


def test_parameters_are_counted(fitted):
    assert fitted["gaussian mixture"].n_parameters_ == 6 * fitted["gaussian mixture"].n_components_ - 1
    for name in MODELS:
        assert fitted[name].n_parameters_ > 0


def test_nan_is_refused_with_its_row_and_column(rows, name):
    bad = rows.copy()
    bad[7, 1] = np.nan
    with pytest.raises(ValueError, match=r"rows 7 and columns 1"):
        clone(MODELS[name]).fit(bad)


def test_a_repeated_row_is_one_row_with_more_weight(rows):
    model = MODELS["mixture base"]
    twice = clone(model).fit(np.concatenate([rows, rows]))
    weighted = clone(model).fit(rows, sample_weight=np.full(len(rows), 2.0))
    assert np.allclose(twice.score_samples(rows), weighted.score_samples(rows))


def test_a_resampled_base_that_accepts_everywhere_alike_is_its_gaussian():
    """The acceptance network starts at 1/2 everywhere, where resampling changes nothing."""
    import torch

    from pwflow_core.modelling.baselines.bases import ResampledBase

    base = ResampledBase(3)
    theta, z = base.initial(), torch.randn(50, 3)
    base.freeze(theta, 10_000)
    normal = -0.5 * (z**2).sum(dim=1) - 1.5 * np.log(2 * np.pi)
    assert torch.allclose(base.log_prob(theta, z), normal, atol=1e-5)
    assert base.standard_error < 1e-6
