"""The toy targets are what they claim: normalised densities, and draws that follow them."""

import numpy as np
import pytest

from pwflow_core.modelling.targets import TARGETS

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("name", ["two_moons", "two_rings", "circle_of_gaussians"])
def test_flat_targets_integrate_to_one(name):
    edge = np.linspace(-5, 5, 1500)
    grid = np.stack(np.meshgrid(edge, edge), axis=-1).reshape(-1, 2)
    total = np.exp(TARGETS[name]().log_prob(grid)).sum() * (edge[1] - edge[0]) ** 2
    assert total == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", TARGETS)
def test_draws_follow_the_density(name):
    """Over draws of p the mean of q / p is 1 for any density q; here q is p itself, moved a little."""
    target, rng = TARGETS[name](), np.random.default_rng(0)
    drawn = target.sample(200_000, rng)
    assert drawn.shape == (200_000, target.n_features)
    shift = np.full(target.n_features, 0.02)
    ratio = np.exp(target.log_prob(drawn - shift) - target.log_prob(drawn))
    assert ratio.mean() == pytest.approx(1, abs=5 * ratio.std() / np.sqrt(len(ratio)))


@pytest.mark.parametrize("name", TARGETS)
def test_the_same_seed_draws_the_same(name):
    draws = [TARGETS[name]().sample(100, np.random.default_rng(3)) for _ in range(2)]
    assert np.array_equal(*draws)
