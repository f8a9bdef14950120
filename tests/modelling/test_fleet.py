"""Fleets: machines that differ are told apart where that helps, and a new one is learned from few readings."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from pwflow_core.modelling.alignment import find_shared_regimes
from pwflow_core.modelling.clustering import fit_clusters
from pwflow_core.modelling.fleet import Correction, Fleet, Typical, learn_fleet
from pwflow_core.modelling.settings import FitSettings

D = 3
TYPICAL = Typical(np.array([1.0, -2.0, 30.0]), np.array([1.0, 0.1, 5.0]), np.ones(D), np.full(D, 0.2), np.full(D, 2.0))


def of_machines(shifts, n=400, seed=0, scale=1.0):
    """Readings of machines, of shape (N, D), with their machines and their blocks of twenty."""
    rng = np.random.default_rng(seed)
    X = np.concatenate([scale * rng.standard_normal((n, D)) + shift for shift in shifts])
    machine = np.repeat([f"M{number}" for number in range(len(shifts))], n)
    return X, machine, np.arange(len(X)) // 20


def log_prob(X):
    return multivariate_normal(TYPICAL.location, np.diag(TYPICAL.scale**2)).logpdf(X)


def test_what_is_corrected_is_restored_and_unknown_machines_stay_as_they_are():
    own = Correction(np.array([0.5, 0.0, -3.0]), np.array([1.2, 1.0, 0.5]))
    fleet = Fleet(TYPICAL, {"A": own})
    X, machine = np.random.default_rng(0).standard_normal((20, D)), np.array(["A", "B"] * 10)
    seen, log_volume = fleet.correct(X, machine)
    np.testing.assert_allclose(fleet.restore(seen, machine, np.arange(D)), X, atol=1e-12)
    assert (seen[1::2] == X[1::2]).all()
    assert (log_volume[1::2] == 0).all()
    assert fleet.knows(machine).tolist() == [True, False] * 10
    step = 1e-6
    slopes = [(fleet.correct(X + step * axis, machine)[0] - seen)[0] / step for axis in np.eye(D)]
    np.testing.assert_allclose(log_volume[0], np.linalg.slogdet(np.array(slopes))[1], rtol=1e-6)


def test_the_density_of_a_corrected_machine_is_that_of_its_own_readings():
    own = Correction(np.array([0.5, 0.02, -3.0]), np.array([1.2, 0.9, 0.5]))
    X = np.random.default_rng(1).standard_normal((50, D)) * TYPICAL.scale + TYPICAL.location
    seen, log_volume = Fleet(TYPICAL, {"A": own}).correct(X, np.full(50, "A"))
    exact = multivariate_normal(TYPICAL.location + own.shift, np.diag((own.stretch * TYPICAL.scale) ** 2)).logpdf(X)
    np.testing.assert_allclose(log_prob(seen) + log_volume, exact, rtol=1e-12)


def test_machines_that_differ_become_a_fleet_and_lie_on_each_other():
    shifts = np.random.default_rng(2).standard_normal((8, D))
    X, machine, block = of_machines(shifts)
    fleet = learn_fleet(X, machine, block, 5)
    assert fleet is not None
    assert fleet.gain > 0.3
    seen, _ = fleet.correct(X, machine)
    centres = np.stack([seen[machine == name].mean(axis=0) for name in np.unique(machine)])
    assert np.abs(centres - centres.mean(axis=0)).max() < 0.1
    assert 0.4 < fleet.typical.spread.mean() < 2.0


@pytest.mark.parametrize(("n_machines", "spread"), [(8, 0.0), (4, 1.0)], ids=["alike", "few"])
def test_machines_that_are_alike_or_few_are_no_fleet(n_machines, spread):
    shifts = spread * np.random.default_rng(3).standard_normal((n_machines, D))
    assert learn_fleet(*of_machines(shifts), 5) is None


def test_machines_that_only_wander_are_no_fleet():
    X, machine, block = of_machines(np.zeros((8, D)))
    wander = np.random.default_rng(4).standard_normal((8 * 3, D))
    assert learn_fleet(X + np.repeat(wander, 1 + len(X) // 24, axis=0)[: len(X)], machine, block, 5) is None


def newcomer(shift, n=300, wander=None):
    X = np.random.default_rng(5).standard_normal((n, D)) * TYPICAL.scale + TYPICAL.location + shift * TYPICAL.scale
    return X if wander is None else X + wander * TYPICAL.scale


def test_a_new_machine_is_learned_and_confirmed_on_readings_that_it_was_not_learned_from():
    fleet = Fleet(TYPICAL, {})
    shift = np.array([1.5, -1.0, 0.8])
    X, block = newcomer(shift), np.arange(300) // 20
    found = fleet.meet(X, block, log_prob)
    assert found.is_confirmed
    assert not found.is_outside.any()
    np.testing.assert_allclose(found.correction.shift / TYPICAL.scale, shift, atol=0.25)
    later = newcomer(shift, 20_000)
    seen, _ = fleet.joined_by("new", found.correction).correct(later, np.full(len(later), "new"))
    limit = np.quantile(log_prob(newcomer(0, 20_000)), 0.001)
    before, after = (log_prob(later) < limit).mean(), (log_prob(seen) < limit).mean()
    assert before > 0.02
    assert after < 0.005


def test_a_new_machine_with_few_readings_is_not_judged_yet():
    fleet = Fleet(TYPICAL, {})
    assert fleet.meet(newcomer(1.0, 50), np.arange(50) // 5, log_prob) is None
    assert fleet.meet(newcomer(1.0, 100), np.arange(100) // 20, log_prob) is None


def test_what_moves_after_it_was_learned_is_not_confirmed():
    moves = np.where(np.arange(300) < 200, 1.5, -1.5)[:, None]
    found = Fleet(TYPICAL, {}).meet(newcomer(0.0, 300, moves), np.arange(300) // 20, log_prob)
    assert not found.is_confirmed


def test_a_fault_as_large_as_no_difference_between_machines_is_never_taken_out():
    found = Fleet(TYPICAL, {}).meet(newcomer(np.array([0.0, 8.0, 0.0])), np.arange(300) // 20, log_prob)
    assert found.is_outside.tolist() == [False, True, False]


REGIMES = np.array([[0.0, 0.0, 0.0], [12.0, 0.0, 3.0], [0.0, 15.0, -5.0]])


def plant(spread, n_machines=8, n=400, seed=6, without=()):
    rng = np.random.default_rng(seed)
    regime = rng.integers(0, 3, (n_machines, n))
    regime[0][np.isin(regime[0], without)] = 1
    own = spread * rng.standard_normal((n_machines, 3, D))
    X = np.concatenate([REGIMES[k] + own[m, k] + rng.standard_normal((n, D)) for m, k in enumerate(regime)])
    return X, np.repeat([f"M{m}" for m in range(n_machines)], n), regime.ravel(), np.arange(len(X)) % 40 < 6


def find(X, held_out):
    return fit_clusters(X, FitSettings(n_clusters="auto", candidates=[1, 2, 3, 4, 6, 8, 12]), held_out=held_out)


def test_regimes_of_machines_that_lie_apart_are_those_that_they_share():
    X, machine, regime, held_out = plant(1.3)
    pooled = find(X, held_out)
    shared = find_shared_regimes(X, machine, held_out, pooled, find, 5)
    assert pooled.n_clusters > 3
    assert shared.n_clusters == 3
    found = shared.responsibilities(X).argmax(axis=1)
    assert sum(np.bincount(found[regime == k]).max() for k in range(3)) > 0.99 * len(X)


def test_regimes_of_machines_that_are_alike_stay_as_they_are():
    X, machine, _, held_out = plant(0.0)
    assert find_shared_regimes(X, machine, held_out, find(X, held_out), find, 5) is None
