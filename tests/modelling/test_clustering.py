"""Seeds of clustering: every method, every way to choose K, and files."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from pwflow_core.errors import ModelFileError
from pwflow_core.modelling import ClusterSeeds, FitSettings, fit_clusters


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(0)
    centre = np.array([[0, 0], [10, 0], [0, 10.0]])
    return centre[rng.integers(3, size=1500)] + rng.standard_normal((1500, 2))


@pytest.mark.parametrize("method", ["gmm", "kmeans"])
@pytest.mark.parametrize("selection", ["held_out", "bic", "silhouette"])
def test_finds_three_blobs(blobs, method, selection):
    seeds = fit_clusters(blobs, FitSettings(method=method, selection=selection))
    assert seeds.n_clusters == 3
    assert np.sort(seeds.means[:, 0]) == pytest.approx([0, 0, 10], abs=0.5)
    assert seeds.weights.sum() == pytest.approx(1)


def test_one_gaussian_is_one_cluster():
    x = np.random.default_rng(0).standard_normal((2000, 3))
    assert fit_clusters(x).n_clusters == 1


def test_log_joint_is_the_weighted_gaussian_density(blobs):
    seeds = fit_clusters(blobs, FitSettings(3))
    expected = np.stack(
        [
            np.log(w) + multivariate_normal(m, c).logpdf(blobs)
            for w, m, c in zip(seeds.weights, seeds.means, seeds.covariances, strict=True)
        ],
        axis=1,
    )
    assert seeds.log_joint(blobs) == pytest.approx(expected)


def test_fits_as_well_as_scikit_learn(blobs):
    theirs = GaussianMixture(3, random_state=0).fit(blobs).score(blobs)
    ours = np.logaddexp.reduce(fit_clusters(blobs, FitSettings(3)).log_joint(blobs), axis=1).mean()
    assert ours > theirs - 0.01


@pytest.mark.parametrize("method", ["gmm", "kmeans"])
def test_responsibilities_are_shares_and_the_best_cluster_is_a_candidate(blobs, method):
    seeds = fit_clusters(blobs, FitSettings(3, method=method))
    rows = np.concatenate([blobs, [[1e30, 0], [-1e200, 1e300]]])
    share, candidate = seeds.responsibilities(rows), seeds.candidates(rows)
    assert share.sum(axis=1) == pytest.approx(1)
    assert candidate[np.arange(len(rows)), share.argmax(axis=1)].all()
    if method == "kmeans":
        assert np.array_equal(candidate, share == 1)


def test_known_labels_are_the_clusters(blobs):
    labels = (blobs[:, 0] + blobs[:, 1] > 5).astype(int)
    seeds = fit_clusters(blobs, labels=labels)
    assert seeds.n_clusters == 2
    assert seeds.weights[1] == pytest.approx(labels.mean(), abs=0.02)


def test_some_labels_seed_the_clusters_and_are_kept(blobs):
    labels = np.full(len(blobs), -1)
    right = np.flatnonzero(blobs[:, 0] > 5)
    labels[right[:40]] = 0
    seeds = fit_clusters(blobs, FitSettings(3), labels=labels)
    assert seeds.means[0] == pytest.approx([10, 0], abs=0.3)


def test_weight_two_equals_a_row_repeated():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((150, 2))
    weight = rng.integers(1, 4, size=150)
    first = fit_clusters(x, FitSettings(1), sample_weight=weight)
    second = fit_clusters(np.repeat(x, weight, axis=0)[rng.permutation(weight.sum())], FitSettings(1),
                          held_out=np.zeros(weight.sum(), dtype=bool))  # fmt: skip
    assert first.covariances == pytest.approx(second.covariances)


def test_constant_duplicate_and_collinear_sensors_are_handled():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((500, 2))
    x = np.column_stack([a, a[:, 0], 7.0 * np.ones(500), a.sum(axis=1), np.zeros(500)])
    seeds = fit_clusters(x)
    assert np.isfinite(seeds.log_joint(x)).all()
    assert seeds.means[:, 3] == pytest.approx(7.0)


def test_bytes_are_the_same_and_damage_is_noticed(blobs):
    seeds = fit_clusters(blobs, FitSettings(3))
    data = seeds.to_bytes()
    again = ClusterSeeds.from_bytes(data)
    assert again.to_bytes() == data == fit_clusters(blobs, FitSettings(3)).to_bytes()
    assert np.array_equal(again.log_joint(blobs), seeds.log_joint(blobs))
    with pytest.raises(ModelFileError):
        ClusterSeeds.from_bytes(data[:-9] + b"\x00" + data[-8:])


@pytest.mark.parametrize("wrong", [{"method": "dbscan"}, {"selection": "eye"}, {"n_clusters": 5000}])
def test_impossible_requests_are_refused(blobs, wrong):
    with pytest.raises(ValueError, match="Expected"):
        fit_clusters(blobs, FitSettings(**wrong))


def test_clustering_does_not_import_torch():
    code = "import sys, pwflow_core.modelling as m; m.fit_clusters; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
