"""Laws of levels: shares are those of counting, p-values stay valid and ordered, and a loose regime hides nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from pwflow_core.modelling.levels import OWN_WEIGHT, fit_levels, merge_p_values, merge_surprises

pytestmark = pytest.mark.quick

WEIGHTS = np.array([0.5, 0.3, 0.2])


def draw(n, seed=0):
    rng = np.random.default_rng(seed)
    regime = rng.choice(3, size=n, p=WEIGHTS)
    return np.array([0.0, -2.0, -9.0])[regime] + rng.standard_normal(n), regime


@pytest.mark.parametrize("n", [0, 1, 7, 350])
def test_shares_are_those_of_counting_each_regime_and_one_more(n):
    level, regime = draw(n)
    levels = fit_levels(level, regime, WEIGHTS)
    at, of = draw(200, seed=1)
    for value, own in zip(at, of, strict=True):
        counted = sum(
            WEIGHTS[j] * (1 + (level[regime == j] <= value).sum()) / (1 + (regime == j).sum())
            for j in range(3)
            if j != own
        )
        assert levels.share_below(np.array([own]), np.array([value]))[0] == pytest.approx(counted)


def test_of_many_readings_few_steps_are_kept_and_shares_are_never_smaller_for_it():
    level, regime = draw(20_000)
    levels = fit_levels(level, regime, WEIGHTS)
    assert len(levels.level) < 500
    at, of = draw(2000, seed=1)
    each = np.stack(
        [
            WEIGHTS[j]
            * (1 + np.searchsorted(np.sort(level[regime == j]), at, side="right"))
            / (1 + (regime == j).sum())
            for j in range(3)
        ]
    )
    own = each[of, np.arange(len(at))]
    exact, found = each.sum(axis=0) - own, levels.share_below(of, at)
    assert (found >= exact * (1 - 1e-12)).all()
    assert (found + own <= 1.05 * (exact + own) + 1e-4).all()


def test_equal_levels_count_together():
    levels = fit_levels(np.zeros(50), np.repeat([0, 1], 25), np.array([0.5, 0.5]))
    below, at = (levels.share_below(np.array([0]), np.array([value]))[0] for value in (-1e-9, 0.0))
    assert (below, at) == (pytest.approx(0.5 / 26), pytest.approx(0.5))


@given(st.floats(1e-300, 1.0), st.floats(1e-300, 1.0))
def test_a_merged_p_value_is_one_and_follows_both(own, share):
    found = float(merge_p_values(np.array(own), np.array(share)))
    assert 0 < found <= 1
    assert found <= own / OWN_WEIGHT * (1 + 1e-12)
    assert found <= share / (1 - OWN_WEIGHT) * (1 + 1e-12)
    assert found >= min(own, share) * (1 - 1e-12)
    assert merge_p_values(np.array(own / 2), np.array(share)) <= found
    assert merge_p_values(np.array(own), np.array(share / 2)) <= found
    logs = merge_surprises(-np.log(np.array(own)), -np.log(np.array(share)))
    assert logs == pytest.approx(-np.log(found), abs=1e-9)


def test_surprises_have_no_ceiling():
    assert merge_surprises(np.array(5000.0), np.array(0.0)) == pytest.approx(5000 + np.log(OWN_WEIGHT))


@pytest.mark.parametrize("dependence", [-0.9, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("alpha", [0.1, 0.01])
def test_merged_p_values_are_valid_whatever_the_dependence(dependence, alpha):
    rng = np.random.default_rng(0)
    first, noise = rng.standard_normal((2, 400_000))
    second = dependence * first + np.sqrt(1 - dependence**2) * noise
    p = merge_p_values(norm.cdf(first), norm.cdf(second))
    assert 0.88 * alpha < np.mean(p <= alpha) < 1.03 * alpha


def test_readings_of_a_loose_regime_that_faults_made_rank_above_normal_ones():
    """A fiftieth of the readings lie far below all others; within their own regime they look like any."""
    rng = np.random.default_rng(0)
    regime = (rng.random(20_000) < 0.02).astype(int)
    level = np.where(regime == 1, -25.0, 0.0) + rng.standard_normal(len(regime))
    weights = np.array([0.98, 0.02])
    own = np.empty(len(level))
    for k in (0, 1):
        mine = regime == k
        own[mine] = (1 + level[mine].argsort().argsort()) / (1 + mine.sum())
    levels = fit_levels(level[::2], regime[::2], weights)
    share = levels.share_below(regime, level) + weights[regime] * own
    p = merge_p_values(own, share)
    area = np.mean([np.mean(p[regime == 0] > value) for value in p[regime == 1]])
    alone = np.mean([np.mean(own[regime == 0] > value) for value in own[regime == 1]])
    assert alone == pytest.approx(0.5, abs=0.05)
    assert area > 0.85
