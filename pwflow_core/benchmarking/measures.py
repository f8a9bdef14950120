"""What is measured of a fitted model, and how."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pwflow_core.benchmarking.models import DensityModel
from pwflow_core.modelling.targets import Target

__all__ = ["bridge_mass", "mean_and_error", "peak_memory_mb", "rows_per_second", "target_bridge_mass"]

Array = NDArray[np.float64]

FAR_SHARE = 0.01
"""Share of held-out rows that counts as far from the training rows."""
RARE_SHARE = 0.001
"""Share of a target's own points that counts as improbable."""
_NEIGHBOUR_ROWS = 20_000
_TIMED_ROWS = 20_000


def mean_and_error(values: Array, block: NDArray[np.intp]) -> tuple[float, float]:
    """Return the mean and its standard error, with blocks of rows, not rows, as the independent units.

    Arguments:
        values: One per row, shape (M,).
        block: Block of each row, shape (M,).

    """
    mean = float(values.mean())
    _, position = np.unique(block, return_inverse=True)
    deviation = np.bincount(position, weights=values - mean)
    n = len(deviation)
    return mean, float(np.sqrt((deviation**2).sum() * n / max(n - 1, 1)) / len(values))


def target_bridge_mass(target: Target, drawn: Array, fresh: Array) -> float:
    """Return the share of drawn points that are less probable than all but 0.1% of the target's own points.

    The 0.1% that even the target itself would draw there are taken off; a perfect model has 0, give or take.
    """
    rare = float(np.quantile(target.log_prob(fresh), RARE_SHARE))
    return float(np.mean(target.log_prob(drawn) < rare)) - RARE_SHARE


def bridge_mass(drawn: Array, train: Array, test: Array) -> float:
    """Return the share of drawn points farther from the nearest training row than all but 1% of held-out rows.

    Distances are Euclidean over columns in standard deviations, to at most 20,000 training rows. The 1% that
    held-out rows have themselves are taken off; a model as good as the data has 0, give or take.
    """
    centre, scale = train.mean(axis=0), train.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    known = train[:: max(1, -(-len(train) // _NEIGHBOUR_ROWS))]
    tree = cKDTree((known - centre) / scale)
    usual, _ = tree.query((test - centre) / scale)
    reached, _ = tree.query((drawn - centre) / scale)
    return float(np.mean(reached > np.quantile(usual, 1 - FAR_SHARE))) - FAR_SHARE


def rows_per_second(model: DensityModel, X: Array) -> float:
    """Return how many rows the model scores per CPU second: the median of three runs over 20,000 rows or more."""
    rows = np.tile(X, (-(-_TIMED_ROWS // len(X)), 1))
    model.score_samples(rows[:1000])
    taken = []
    for _ in range(3):
        started = time.process_time()
        model.score_samples(rows)
        taken.append(time.process_time() - started)
    return len(rows) / statistics.median(taken)


def peak_memory_mb() -> float:
    """Return the most memory that this process has held so far, MB.

    Linux's getrusage starts from what the parent held when it made this process; /proc does not.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1000
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
