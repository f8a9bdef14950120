"""Recurrence: what a plant does on many days is normal; what it did in a few stretches of time is a question."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree
from sklearn.cluster import KMeans

__all__ = ["Recurrence", "measure_recurrence"]

Array = NDArray[np.float64]

_DAY_SECONDS = 86400.0
_FEWEST_DAYS, _MOST_BLOCKS, _SHORT_BLOCKS = 10, 60, 20
"""A record of fewer days is cut into equal blocks of time instead; of more than 60 days several make a block."""
_LEAST_SHARE, _FEWEST_BLOCKS = 0.1, 5
"""Other blocks in which something like a normal reading has been: a tenth of them, and at least five."""
_WINDOW_READINGS = 4
_LIMIT, _LONE_LIMIT, _EDGE_LIMIT = 5.0, 7.0, 2.0
"""Upper spreads of the logarithm: of a stretch, of a reading by itself, and where a stretch ends."""
_NEAREST = 0.25
_N_CENTRES, _SAMPLE = 16, 20_000
_CLIP = 30.0
_LEAST_EIGENVALUE = 1e-2
_TYPICAL = 6.0


@dataclass(frozen=True, eq=False)
class Recurrence:
    """How far each reading lies from what the plant has done in other blocks of time.

    Attributes:
        excess: Logarithm of the recurrence distance, averaged over four readings of a machine, above what is
            usual in its surroundings, in units of its upper spread (median to 84% quantile), shape (N,).
        is_unusual: Whether a reading belongs to a stretch unlike the rest, shape (N,).
        deviation: How far each column of an unusual row is from the nearest usual row, in spreads within regimes,
            shape (N, D): which columns stand out; 0 for usual rows.
        n_blocks: Blocks of time that the record was cut into.
        n_required: In this many other blocks something like a reading has to have been.
    """

    excess: Array
    is_unusual: NDArray[np.bool_]
    deviation: Array
    n_blocks: int
    n_required: int


def measure_recurrence(X: object, seconds: object, machine: object, *, readings_per_row: int = 1) -> Recurrence | None:
    r"""Measure which readings are unlike what the plant does on other days.

    For a reading x and each block of time j other than its own let d_j(x) be the distance to the nearest reading of
    that block, in a space that is scaled robustly and whitened by the covariance within regimes. The recurrence
    distance is the m-th smallest of the d_j, with m a tenth of the blocks and at least five: small if something like
    x has been in at least m other blocks. Blocks are days; a short record is cut into 20 equal blocks, of a long one
    several days make a block. All machines together make a block, since a fault can touch all of them at once.

    A row is unusual if the logarithm of its distance, averaged over four readings of its machine, is 5 upper spreads
    above what is usual, or its own is 7; and so are the rows around it down to 2. Usual is the median, or what rows
    in the surroundings have to the blocks in which there are any, if that is more: a rare way of running recurs, too.

    What this cannot see: a fault that comes back in more than m blocks, and one whose readings are each like some
    normal reading.

    Arguments:
        X: Readings in raw units, complete and finite, shape (N, D), in the order of machine and time.
        seconds: Time of each, seconds since any moment, shape (N,).
        machine: Machine of each, shape (N,).
        readings_per_row: How many readings each row stands for, where rows are a sample at even distances.

    Returns:
        None if the record has fewer than twelve rows a block: too short to tell what recurs.

    References:
        Measured in docs/method.md, "What a history that holds faults teaches".
    """
    values = np.asarray(X, dtype=np.float64)
    block = _blocks(np.asarray(seconds, dtype=np.float64))
    names, block = np.unique(block, return_inverse=True)
    if len(names) <= _FEWEST_BLOCKS or len(values) < 12 * len(names):
        return None
    required = min(max(_FEWEST_BLOCKS, int(np.ceil(_LEAST_SHARE * len(names)))), len(names) - 1)
    scaled = _scale(values)
    white, spread, centre = _whiten(scaled)
    distance, usual = _distances(white, block, centre, required)
    smallest = np.median(distance) * 1e-3 + 1e-12
    own = np.log(np.maximum(distance, smallest))
    level = np.maximum(np.log(np.maximum(usual, smallest)), np.median(own))[centre]
    codes = np.unique(np.asarray(machine), return_inverse=True)[1].ravel()
    width = max(1, _WINDOW_READINGS // readings_per_row)
    excess = _in_spreads(_average(own, codes, width), _average(level, codes, width))
    core = (excess > _LIMIT) | (_in_spreads(own, level) > _LONE_LIMIT)
    unusual = _grow(core, excess > _EDGE_LIMIT, codes, width)
    deviation = np.zeros_like(scaled)
    if unusual.any() and not unusual.all():
        nearest = KDTree(white[~unusual]).query(white[unusual])[1]
        deviation[unusual] = np.abs(scaled[unusual] - scaled[~unusual][nearest]) / spread
    return Recurrence(excess, unusual, deviation, len(names), required)


def _blocks(seconds: Array) -> NDArray[np.int64]:
    """Return the block of time of each row: a day, or equal parts of a record that has few or very many."""
    day = np.floor(seconds / _DAY_SECONDS).astype(np.int64)
    n_days = len(np.unique(day))
    if n_days < _FEWEST_DAYS:
        span = max(float(seconds.max() - seconds.min()), 1.0)
        return np.asarray(
            np.minimum((seconds - seconds.min()) / span * _SHORT_BLOCKS, _SHORT_BLOCKS - 1), dtype=np.int64
        )
    return np.asarray((day - day.min()) // -(-n_days // _MOST_BLOCKS))


def _scale(values: Array) -> Array:
    """Centre by the median and scale by what most readings spread; what lies beyond 30 spreads is drawn to there."""
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9], axis=0)
    spread = (high - low) / 2.563
    spread = np.where(spread > 0, spread, np.abs(values - middle).mean(axis=0))
    centred = values - middle
    tiny = spread <= 1e-12 * np.abs(middle)
    return np.asarray(np.clip(centred / np.where(tiny | (spread == 0), 1.0, spread), -_CLIP, _CLIP))


def _whiten(scaled: Array) -> tuple[Array, Array, NDArray[np.intp]]:
    """Whiten by the covariance within regimes, that of the typical rows around the centres of k-means.

    Returns:
        Whitened rows of shape (N, D), the spread of each column within regimes, shape (D,), and the centre that each
        row is nearest to, shape (N,).
    """
    rng = np.random.default_rng(0)
    sample = scaled if len(scaled) <= _SAMPLE else scaled[np.sort(rng.choice(len(scaled), _SAMPLE, replace=False))]
    n_centres = min(_N_CENTRES, max(1, len(sample) // 50))
    found = KMeans(n_centres, n_init=1, random_state=0).fit(sample)
    inner = sample - found.cluster_centers_[found.labels_]
    spread = 1.4826 * np.median(np.abs(inner), axis=0)
    typical = (np.abs(inner) <= _TYPICAL * np.where(spread > 0, spread, np.inf)).all(axis=1)
    covariance = np.atleast_2d(np.cov(inner[typical].T)) if typical.sum() > scaled.shape[1] else np.eye(scaled.shape[1])
    scale = np.sqrt(np.diag(covariance))
    scale = np.where(scale > 0, scale, 1.0)
    eigenvalues, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    white = (scaled / scale) @ vectors / np.sqrt(np.maximum(eigenvalues, _LEAST_EIGENVALUE))
    return white, scale, found.predict(scaled).astype(np.intp)


def _distances(white: Array, block: NDArray[np.intp], centre: NDArray[np.intp], required: int) -> tuple[Array, Array]:
    """Return the distance of each row to the `required`-th nearest of the other blocks, and what is usual by centre.

    A way of running that is rare but recurs is further from the `required`-th nearest block than one that is there
    every day. Usual around a centre, if enough blocks have rows there, is the distance to the middle one of these
    blocks: for the nearest quarter of its rows, so that a fault that lies around the same centre does not count.
    """
    n_blocks = int(block.max()) + 1
    nearest = np.empty((len(white), n_blocks), dtype=np.float32)
    for number in range(n_blocks):
        inside = block == number
        nearest[:, number] = KDTree(white[inside]).query(white)[0]
        nearest[inside, number] = np.inf
    usual = np.zeros(int(centre.max()) + 1)
    for own in range(len(usual)):
        rows = centre == own
        present = np.unique(block[rows])
        if len(present) > required:
            usual[own] = np.quantile(np.median(nearest[rows][:, present], axis=1), _NEAREST)
    return np.partition(nearest, required - 1, axis=1)[:, required - 1].astype(np.float64), usual


def _average(values: Array, machine: NDArray[np.intp], width: int) -> Array:
    """Average over `width` rows of a machine around each; fewer at its ends."""
    if width == 1:
        return values
    averaged = np.empty_like(values)
    for code in range(int(machine.max()) + 1):
        own = values[machine == code]
        kernel = np.ones(min(width, len(own)))
        averaged[machine == code] = np.convolve(own, kernel, "same") / np.convolve(np.ones(len(own)), kernel, "same")
    return averaged


def _in_spreads(own: Array, level: Array) -> Array:
    """Return the logarithms above what is usual for each, in units of their upper spread."""
    middle, high = np.quantile(own, [0.5, 0.8413])
    return np.asarray((own - level) / max(float(high - middle), 1e-12))


def _grow(core: NDArray[np.bool_], edge: NDArray[np.bool_], machine: NDArray[np.intp], width: int) -> NDArray[np.bool_]:
    """Return the runs of `edge` or `core`, of one machine, that hold a row of `core`; short gaps in between belong too.

    A gap is short if it is at most as long as the shorter run beside it, or as the window that is averaged over.
    """
    inside = core | edge
    starts = inside & np.append(True, ~inside[:-1] | (machine[1:] != machine[:-1]))
    run = np.cumsum(starts)
    unusual = inside & np.isin(run, np.unique(run[core]))
    begins = np.flatnonzero(unusual & np.append(True, ~unusual[:-1] | (machine[1:] != machine[:-1])))
    ends = np.flatnonzero(unusual & np.append(~unusual[1:] | (machine[1:] != machine[:-1]), True))
    length = ends - begins + 1
    gap = begins[1:] - ends[:-1] - 1
    short = (gap <= np.maximum(np.minimum(length[1:], length[:-1]), width)) & (
        machine[begins[1:]] == machine[ends[:-1]]
    )
    for place in np.flatnonzero(short):
        unusual[ends[place] : begins[place + 1]] = True
    return unusual
