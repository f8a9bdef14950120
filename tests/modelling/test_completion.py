"""Missing values: the conditional mean is what it says, and a completed reading never looks more surprising."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from pwflow_core.modelling import ClusterSeeds, FitSettings, fit_clusters
from pwflow_core.modelling.completion import complete_by_likeliest, complete_rows, share_among_clusters

SCALE = np.array([1.0, 1e3, 1e-4, 5.0])


@pytest.fixture
def gaussian() -> tuple[np.ndarray, np.ndarray]:
    """A correlated Gaussian in four units that differ by many orders of magnitude."""
    root = np.random.default_rng(3).normal(size=(4, 4))
    return np.array([1.0, -2e3, 3e-4, 0.0]), (root @ root.T + np.eye(4)) * np.outer(SCALE, SCALE)


def sample(mean: np.ndarray, covariance: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).multivariate_normal(mean, covariance, n)


def log_density(X: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Evaluate the Gaussian in units that scipy can invert."""
    return multivariate_normal(mean / SCALE, covariance / np.outer(SCALE, SCALE)).logpdf(X / SCALE)


def test_a_missing_value_becomes_the_most_probable_one_given_the_others(gaussian):
    X = sample(*gaussian, 200)
    X[np.random.default_rng(1).random(X.shape) < 0.3] = np.nan
    completed = complete_rows(X, *gaussian)
    np.testing.assert_array_equal(completed[~np.isnan(X)], X[~np.isnan(X)])
    best = log_density(completed, *gaussian)
    for column in range(4):
        for step in (-1e-2, 1e-2):
            moved = completed.copy()
            gap = np.isnan(X[:, column])
            moved[gap, column] += step * SCALE[column]
            assert (log_density(moved, *gaussian)[gap] < best[gap]).all()


def test_whole_readings_stay_what_they_are(gaussian):
    X = sample(*gaussian, 50)
    assert complete_rows(X, *gaussian) is X


def test_a_reading_without_any_value_becomes_the_mean(gaussian):
    completed = complete_rows(np.full((1, 4), np.nan), *gaussian)
    np.testing.assert_allclose(completed[0], gaussian[0])


@pytest.mark.parametrize("missing", [[0], [1, 3], [0, 1, 2]])
def test_p_values_of_completed_readings_are_conservative(gaussian, missing):
    """20,000 readings: the share of p <= alpha is at most alpha, by far more than the noise of the sample."""
    reference = np.sort(log_density(sample(*gaussian, 20_000), *gaussian))
    X = sample(*gaussian, 20_000, seed=1)
    X[:, missing] = np.nan
    found = log_density(complete_rows(X, *gaussian), *gaussian)
    p = (1 + np.searchsorted(reference, found, side="right")) / 20_001
    for alpha in (0.1, 0.01, 0.001):
        assert (p <= alpha).mean() < alpha


def test_regimes_of_an_incomplete_reading_are_those_of_the_values_that_it_has():
    rng = np.random.default_rng(0)
    centre = np.array([[0.0, 0.0], [10.0, 0.0]])
    seeds = fit_clusters(centre[rng.integers(2, size=2000)] + rng.standard_normal((2000, 2)), FitSettings(2))
    left, right = np.argsort(seeds.means[:, 0])
    candidates, shares = share_among_clusters(seeds, np.array([[0.0, np.nan], [10.0, np.nan], [np.nan, 0.0]]))
    assert candidates[:, left].tolist() == [True, False, True]
    assert candidates[:, right].tolist() == [False, True, True]
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(shares[2, left], seeds.weights[left], atol=0.02)


@pytest.mark.parametrize("method", ["gmm", "kmeans"])
def test_whole_readings_are_shared_as_the_clusters_share_them(method):
    X = np.random.default_rng(0).normal(size=(500, 3))
    seeds: ClusterSeeds = fit_clusters(X, FitSettings(3, method=method))
    candidates, shares = share_among_clusters(seeds, X)
    np.testing.assert_array_equal(candidates, seeds.candidates(X))
    np.testing.assert_array_equal(shares, seeds.responsibilities(X))


def test_what_is_computed_of_clusters_is_computed_once_for_each_set_of_columns():
    rng = np.random.default_rng(0)
    seeds = fit_clusters(rng.normal(size=(500, 3)), FitSettings(3))
    seen = np.array([True, False, True])
    part = seeds.restricted(seen)
    assert seeds.restricted(seen.copy()) is part
    assert seeds.restricted(~seen) is not part
    X = rng.normal(0, 9, (1000, 3))
    joint = seeds.log_joint(X)
    for k in range(3):
        normal = multivariate_normal(seeds.means[k], seeds.covariances[k])
        np.testing.assert_allclose(joint[:, k], np.log(seeds.weights[k]) + normal.logpdf(X))
    candidates, shares = seeds.share(X, 5.0)
    np.testing.assert_array_equal(candidates, joint >= joint.max(axis=1, keepdims=True) - 5.0)
    np.testing.assert_allclose(shares, np.exp(joint - seeds.log_prob(X)[:, None]), atol=1e-12)


def test_a_reading_is_completed_by_its_likeliest_cluster():
    rng = np.random.default_rng(0)
    centre = np.array([[0.0, 0.0], [10.0, 5.0]])
    seeds = fit_clusters(centre[rng.integers(2, size=2000)] + rng.standard_normal((2000, 2)), FitSettings(2))
    X = np.array([[0.0, np.nan], [3.0, 4.0], [10.0, np.nan]])
    np.testing.assert_allclose(complete_by_likeliest(seeds, X)[[0, 2], 1], [0.0, 5.0], atol=0.3)
    assert complete_by_likeliest(seeds, X[1:2])[0].tolist() == [3.0, 4.0]
    assert np.isnan(X[0, 1])
