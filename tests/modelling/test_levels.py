"""Laws of levels: shares are those of counting, p-values stay valid and ordered, and a loose regime hides nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from pwflow_core.modelling.levels import Levels, fit_levels

pytestmark = pytest.mark.quick

WEIGHTS = np.array([0.5, 0.3, 0.2])
ONE = np.zeros(1, dtype=np.intp)


def draw(n, seed=0):
    """Return p-values within regimes, regimes and levels of readings."""
    rng = np.random.default_rng(seed)
    regime = rng.choice(3, size=n, p=WEIGHTS)
    own = rng.random(n)
    return own, regime, np.array([0.0, -2.0, -9.0])[regime] + norm.ppf(own)


def with_share(share):
    """Return levels of which a reading of the first of two regimes has this share below, and none of its own."""
    return Levels(np.array([-np.inf]), np.array([[share, share]]), np.array([0.0, 1.0]))


@pytest.mark.parametrize("n", [0, 1, 7, 350])
def test_shares_are_those_of_counting_each_regime_and_one_more(n):
    own, regime, level = draw(n)
    levels = fit_levels(own, regime, level, WEIGHTS)
    _, of, at = draw(200, seed=1)
    for value, own_regime in zip(at, of, strict=True):
        counted = sum(
            WEIGHTS[j] * (1 + (level[regime == j] <= value).sum()) / (1 + (regime == j).sum())
            for j in range(3)
            if j != own_regime
        )
        assert levels.share_below(np.array([own_regime]), np.array([value]))[0] == pytest.approx(counted)


def test_of_many_readings_few_steps_are_kept_and_shares_are_never_smaller_for_it():
    own, regime, level = draw(20_000)
    levels = fit_levels(own, regime, level, WEIGHTS)
    assert len(levels.level) < 500
    _, of, at = draw(2000, seed=1)
    each = np.stack(
        [
            WEIGHTS[j]
            * (1 + np.searchsorted(np.sort(level[regime == j]), at, side="right"))
            / (1 + (regime == j).sum())
            for j in range(3)
        ]
    )
    of_own = each[of, np.arange(len(at))]
    exact, found = each.sum(axis=0) - of_own, levels.share_below(of, at)
    assert (found >= exact * (1 - 1e-12)).all()
    assert (found + of_own <= 1.05 * (exact + of_own) + 1e-4).all()


def test_equal_levels_count_together():
    halves = np.repeat([0, 1], 25)
    levels = fit_levels(np.full(50, 0.5), halves, np.zeros(50), np.array([0.5, 0.5]))
    below, at = (levels.share_below(ONE, np.array([value]))[0] for value in (-1e-9, 0.0))
    assert (below, at) == (pytest.approx(0.5 / 26), pytest.approx(0.5))


@given(st.floats(1e-300, 1.0), st.floats(1e-300, 1.0))
def test_a_merged_p_value_is_one_and_follows_both(own, share):
    def merged(own, share):
        return float(with_share(share).p_values(np.array([own]), ONE, np.zeros(1))[0])

    found = merged(own, share)
    assert min(own, share) * (1 - 1e-12) <= found <= 1
    assert found <= own / 0.7 * (1 + 1e-12)
    assert found <= share / 0.3 * (1 + 1e-12)
    assert merged(own / 2, share) <= found
    assert merged(own, share / 2) <= found
    log = with_share(share).surprises(-np.log(np.array([own])), ONE, np.zeros(1))[0]
    assert log == pytest.approx(-np.log(found), abs=1e-9)


def test_surprises_have_no_ceiling():
    found = with_share(1.0).surprises(np.array([5000.0]), ONE, np.zeros(1))[0]
    assert found == pytest.approx(5000 + np.log(0.7))


@pytest.mark.parametrize("dependence", [-0.9, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("alpha", [0.1, 0.01])
def test_merged_p_values_are_valid_whatever_the_dependence(dependence, alpha):
    rng = np.random.default_rng(0)
    first, noise = rng.standard_normal((2, 400_000))
    own = norm.cdf(first)
    share = norm.cdf(dependence * first + np.sqrt(1 - dependence**2) * noise)
    levels = Levels(np.append(-np.inf, np.sort(share)), np.append(0.0, np.sort(share))[:, None], np.array([1e-300]))
    p = levels.p_values(own, np.zeros(len(own), dtype=np.intp), share)
    chance = 4 * np.sqrt(alpha / len(p))
    assert 0.7 * alpha - chance < np.mean(p <= alpha) < alpha + alpha**2 / 2 + chance


def test_p_values_of_normal_readings_keep_their_promise():
    levels = fit_levels(*draw(20_000), WEIGHTS)
    own, regime, level = draw(400_000, seed=1)
    p = levels.p_values(own, regime, level)
    for alpha in (0.9, 0.7, 0.5, 0.3, 0.1, 0.01, 0.001):
        assert 0.85 * alpha < np.mean(p <= alpha) < 1.1 * alpha
    np.testing.assert_allclose(np.exp(-levels.surprises(-np.log(own), regime, level)), p, rtol=1e-9)


def test_readings_of_a_loose_regime_that_faults_made_rank_above_normal_ones():
    """A fiftieth of the readings lie far below all others; within their own regime they look like any."""
    rng = np.random.default_rng(0)
    regime, own = (rng.random(20_000) < 0.02).astype(int), rng.random(20_000)
    level = np.where(regime == 1, -25.0, 0.0) + norm.ppf(own)
    levels = fit_levels(own[::2], regime[::2], level[::2], np.array([0.98, 0.02]))
    p = levels.p_values(own, regime, level)

    def area(values):
        return np.mean([np.mean(values[regime == 0] > value) for value in values[regime == 1]])

    assert area(own) == pytest.approx(0.5, abs=0.05)
    assert area(p) > 0.9
