"""Regimes that machines share although they lie apart: found on readings that are aligned to those of one machine.

Where machines differ, a mixture of all their readings has a cluster for each group of machines that lie near each
other. So the regimes of one machine are found first, those of the others are laid upon them, each moved as a whole, and
the regimes are found again in what came of it. That is kept if it makes held-out readings more probable, and only if no
machine has to be moved far: what is far from all regimes of the first machine may be a regime that it never had.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pwflow_core.modelling.clustering import fit_clusters
from pwflow_core.modelling.fleet import FEWEST_ROWS, MIN_GAIN
from pwflow_core.modelling.seeds import ClusterSeeds
from pwflow_core.modelling.settings import FitSettings

__all__ = ["find_shared_regimes"]

Array = NDArray[np.float64]
Find = Callable[[Array, NDArray[np.bool_]], ClusterSeeds]

_FEWEST, _ROUNDS = 20, 8
_ALIKE, _FARTHEST = 0.25, 5.0  # standard deviations of a regime
_N_ERRORS = 2.0


def find_shared_regimes(
    X: Array,
    machine: NDArray[np.str_],
    held_out: NDArray[np.bool_],
    pooled: ClusterSeeds,
    find: Find,
    fewest_machines: int,
) -> ClusterSeeds | None:
    """Find regimes that all machines share; None where those of all readings as they are do as well.

    Arguments:
        X: Readings in raw units, shape (N, D).
        machine: Machine of each, shape (N,).
        held_out: Which only judge, shape (N,).
        pooled: The regimes of all readings as they are.
        find: Finds regimes in readings of which some only judge.
        fewest_machines: Fewer machines are no fleet.

    """
    names, number, n_rows = np.unique(machine, return_inverse=True, return_counts=True)
    known = np.flatnonzero(n_rows >= FEWEST_ROWS)
    if len(known) < fewest_machines:
        return None
    regime = pooled.responsibilities(X).argmax(axis=1)
    if _are_alike(X, number, regime, known):
        return None
    n_regimes = [len(np.unique(regime[number == m])) if m in known else 0 for m in range(len(names))]
    first = number == max(known, key=lambda m: (n_regimes[m], n_rows[m]))
    aligned = _aligned(X, number, find(X[first], held_out[first]))
    if aligned is None:
        return None
    shared = find(aligned, held_out)
    judged = held_out & np.isin(number, known)
    gain = shared.log_prob(aligned[judged]) - pooled.log_prob(X[judged])
    gain = np.clip(gain, *np.quantile(gain, (0.025, 0.975)))
    n_judged = np.bincount(number[judged], minlength=len(names))
    by_machine = np.bincount(number[judged], gain, minlength=len(names))[n_judged > 0] / n_judged[n_judged > 0]
    error = by_machine.std(ddof=1) / np.sqrt(len(by_machine))
    if by_machine.mean() < max(MIN_GAIN, _N_ERRORS * error):
        return None
    labels = shared.responsibilities(aligned).argmax(axis=1)
    names_of = np.unique(labels)
    labels = np.searchsorted(names_of, labels)
    return fit_clusters(X, FitSettings(n_clusters=len(names_of)), held_out=held_out, labels=labels)


def _are_alike(X: Array, number: NDArray[np.intp], regime: NDArray[np.intp], known: NDArray[np.intp]) -> bool:
    """Tell whether machines lie together in each regime."""
    for k in np.unique(regime):
        parts = [X[(regime == k) & (number == m)] for m in known]
        parts = [part for part in parts if len(part) >= _FEWEST]
        if len(parts) < 2:
            continue
        centres = np.stack([part.mean(axis=0) for part in parts])
        within = np.median([part.std(axis=0) for part in parts], axis=0)
        spread = 1.4826 * np.median(np.abs(centres - np.median(centres, axis=0)), axis=0)
        if (spread > _ALIKE * within).any():
            return False
    return True


def _aligned(X: Array, number: NDArray[np.intp], regimes: ClusterSeeds) -> Array | None:
    """Return readings laid upon the regimes of one machine; None if a machine would have to be moved far."""
    centre, spread = regimes.means, np.sqrt(np.diagonal(regimes.covariances, axis1=1, axis2=2))
    constant = np.log(regimes.weights) - np.log(spread).sum(axis=1)
    shift = np.zeros((number.max() + 1, *centre.shape))
    for _ in range(_ROUNDS):
        off = (X[:, None] - shift[number] - centre) / spread
        label = (constant - 0.5 * (off * off).sum(axis=2)).argmax(axis=1)
        for m, k in np.unique(np.stack([number, label], axis=1), axis=0):
            rows = np.flatnonzero((number == m) & (label == k))
            if len(rows) >= _FEWEST:
                low, high = np.quantile(X[rows], (0.05, 0.95), axis=0)
                shift[m, k] = np.clip(X[rows], low, high).mean(axis=0) - centre[k]
    if (np.abs(shift) > _FARTHEST * spread).any():
        return None
    return np.asarray(X - shift[number, label])
