"""Calibration: from log-densities to p-values that mean the same in every regime."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SMALLEST_P = 1e-300
"""A p-value is never 0, so that its logarithm is a number."""

_MOST_STEPS = 1000

# The tail: fitted to a tenth of 1,000 readings and less of more. Measured on fault-free readings of the simulated plant
# and on gamma, log-normal and Pareto surprises: shares of 2 to 10% differ by less than their sampling error.
_LARGEST_TAIL = 0.1
_ROWS_FOR_LARGEST_TAIL = 1000
_FEWEST_TAIL_ROWS = 20
_SHAPES = (1e-4, 0.5)
_SHAPE_SPREAD = 0.1
_LOG_SCALES = (-20.0, 35.0)
_FLOOR_DOUBT = 0.01

_RARE_SHARE, _FEWEST_RARE = 0.01, 5

# Gross outliers among the readings that calibrate.
_SET_ASIDE_SHARE = 0.05
_SET_ASIDE_CHANCE = 0.01
_SUSPICIOUS_SHAPE = 0.05
_FEWEST_BLOCKS = 20


@dataclass(frozen=True, eq=False)
class Calibration:
    r"""How improbable a normal reading of one regime can be.

    For a log-density l at or above the threshold (the body), with n held-out readings that count as m independent
    ones, of which a share F(l) has at most this log-density,

        p(l) = (1 + m F(l)) / (1 + m)

    which for independent readings is the split-conformal p-value: the chance that a new normal reading gets a p of
    at most a is at most a, for every n and every density. Below the threshold u (the tail) it is a model,

        p(l) = p(u) [1 + shape (u - l) / scale]^(-1 / shape)

    the generalised Pareto distribution, which the surprise -l of any density with a smooth tail approaches, but never
    below what the readings that are still more improbable vouch for: a lower confidence bound of their share. Body
    and tail meet at the threshold; p falls with l, and is never 0.

    Attributes:
        log_density: Lower ends of the steps of p, ascending, nats, shape (G,).
        p_value: p from each of these up to the next, shape (G,); below the threshold the least that p may be.
        threshold: Log-density below which p comes from the tail, nats; one of the steps.
        scale: Scale of the tail, nats.
        shape: Shape of the tail; the larger, the heavier.
        n_rows: Held-out readings behind it.
        n_effective: Independent readings that they are worth.
        n_set_aside: Readings that were left out as gross outliers.
        tail_dependence: Blocks that hold two or more of the most improbable 1% of the readings, per such reading,
            beyond chance, 0 to 0.5: false alarms that come together make an event. 0.5 where there are too few to tell.

    References:
        Conformal p-values: Vovk, Gammerman, Shafer (2005). Excesses over a threshold: Pickands (1975).
    """

    log_density: Array
    p_value: Array
    threshold: float
    scale: float
    shape: float
    n_rows: int
    n_effective: float
    n_set_aside: int
    tail_dependence: float = 0.5

    @property
    def threshold_p_value(self) -> float:
        """Return p at the threshold."""
        return float(self.p_value[np.searchsorted(self.log_density, self.threshold)])

    def p_values(self, log_density: object) -> Array:
        """Return the chance that a normal reading is as improbable, shape (N,), above 0 and at most 1.

        Arguments:
            log_density: Nats, shape (N,).
        """
        values = np.asarray(log_density, dtype=np.float64)
        place = np.searchsorted(self.log_density, values, side="right") - 1
        step = np.where(place >= 0, self.p_value[place], SMALLEST_P)
        excess = np.maximum(self.threshold - values, 0.0)
        tail = self.threshold_p_value * np.power(1.0 + self.shape * excess / self.scale, -1.0 / self.shape)
        return np.asarray(np.where(values >= self.threshold, step, np.maximum(tail, step)))

    def surprises(self, log_density: object) -> Array:
        """Return −log p, nats, shape (N,), with straight lines between the steps of the body and without a ceiling.

        p is nowhere smaller than that of `p_values` but for rounding, and never rises as the log-density falls.

        Arguments:
            log_density: Nats, shape (N,).
        """
        values = np.asarray(log_density, dtype=np.float64)
        start = int(np.searchsorted(self.log_density, self.threshold))
        body = -np.log(np.interp(values, self.log_density[start:], self.p_value[start:]))
        excess = np.maximum(self.threshold - values, 0.0)
        tail = -np.log(self.threshold_p_value) + np.log1p(self.shape * excess / self.scale) / self.shape
        place = np.searchsorted(self.log_density, values, side="right") - 1
        most = np.where(place >= 0, -np.log(self.p_value[place]), np.inf)
        return np.asarray(np.where(values >= self.threshold, body, np.minimum(tail, most)))

    def limit(self, alpha: float) -> float:
        """Return the log-density below which p-values are at most `alpha`, nats; −inf if there is none."""
        if alpha >= 1:
            return np.inf
        if alpha < SMALLEST_P:
            return -np.inf
        by_step = float(self.log_density[np.argmax(self.p_value > alpha)])
        growth = np.expm1(self.shape * max(np.log(self.threshold_p_value / alpha), 0.0))
        return min(by_step, self.threshold - self.scale * float(growth) / self.shape) if growth > 0 else by_step


def calibrate(log_density: object, *, blocks: object = None, weight: object = None) -> Calibration:
    """Calibrate a density on readings that it never learned from.

    Neighbouring readings are alike. Their number counts for less by the design effect of the blocks of time that
    they lie in: the variance of the mean rank over the one that independent readings would have.

    Arguments:
        log_density: Log-densities of the held-out readings, nats, shape (N,), N at least 1.
        blocks: Block of time of each, shape (N,); without it readings are independent.
        weight: Weight of each, shape (N,); a weight of two is a row repeated.

    Raises:
        ValueError: No readings, or values that are not finite.
    """
    values = np.atleast_1d(np.asarray(log_density, dtype=np.float64))
    mass = np.ones(len(values)) if weight is None else np.asarray(weight, dtype=np.float64)
    used = mass > 0
    if not used.any() or not np.isfinite(values[used]).all():
        raise ValueError("Expected finite log-densities of at least one held-out reading; score some first.")
    values, mass = values[used], mass[used]
    if blocks is None:  # equal rows are one row with more weight
        values, twin = np.unique(values, return_inverse=True)
        mass, group = np.bincount(twin.ravel(), weights=mass).astype(np.float64), np.arange(len(values))
    else:
        group = np.unique(np.asarray(blocks)[used], return_inverse=True)[1].ravel()
    outlying = _outlying_blocks(values, mass, group)
    keep = ~outlying
    n_set_aside = round(float(mass[outlying].sum()))
    return _calibrate(values[keep], mass[keep], np.unique(group[keep], return_inverse=True)[1].ravel(), n_set_aside)


def distance_from_uniform(p_value: object) -> float:
    """Return the Kolmogorov-Smirnov distance of p-values from the uniform distribution, 0 to 1.

    Arguments:
        p_value: Shape (N,), N at least 1.
    """
    ordered = np.sort(np.asarray(p_value, dtype=np.float64))
    share = np.arange(len(ordered) + 1) / len(ordered)
    return float(max((share[1:] - ordered).max(), (ordered - share[:-1]).max()))


def _calibrate(values: Array, mass: Array, group: NDArray[np.intp], n_set_aside: int) -> Calibration:
    from scipy.special import gammaincinv  # not above: p-values are made where there is no SciPy

    order = np.argsort(values, kind="stable")
    steps, first = np.unique(values[order], return_index=True)
    at_most = np.cumsum(mass[order])[np.append(first[1:], len(values)) - 1]
    n_rows = float(at_most[-1])
    effect = _design_effect(values, mass, group)
    n_effective = n_rows / effect
    start = int(np.searchsorted(at_most, _tail_share(n_effective) * n_rows * (1 - 1e-12)))
    in_tail = values <= steps[start]
    threshold = float(steps[start])
    scale, shape = _fit_tail(threshold - values[in_tail], mass[in_tail] / effect)
    body, p_value = _thinned(steps[start:], (1 + at_most[start:] / effect) / (1 + n_effective))
    floor = gammaincinv(at_most[:start] / effect, _FLOOR_DOUBT) / n_effective
    tail = p_value[0] * np.power(1 + shape * (threshold - steps[:start]) / scale, -1 / shape)
    binding = floor > tail
    return Calibration(
        log_density=np.append(steps[:start][binding], body),
        p_value=np.append(floor[binding], p_value),
        threshold=threshold,
        scale=scale,
        shape=shape,
        n_rows=round(n_rows),
        n_effective=n_effective,
        n_set_aside=n_set_aside,
        tail_dependence=_tail_dependence(values, mass, group),
    )


def _tail_dependence(values: Array, mass: Array, group: NDArray[np.intp]) -> float:
    """Return the blocks with two or more rare readings, per rare reading, beyond chance, 0 to 0.5."""
    order = np.argsort(values, kind="stable")
    limit = values[order][np.searchsorted(np.cumsum(mass[order]), _RARE_SHARE * mass.sum())]
    rare = values <= limit
    rows, own = np.bincount(group), np.bincount(group[rare], minlength=int(group.max()) + 1)
    if rare.sum() < _FEWEST_RARE:
        return 0.5
    share = rare.mean()
    by_chance = 1 - (1 - share) ** rows - rows * share * (1 - share) ** (rows - 1)
    return max(0.0, float((own > 1).sum() - by_chance.sum()) / float(own.sum()))


def _tail_share(n_effective: float) -> float:
    """Return the share of the readings that the tail is fitted to: a tenth of 1,000, a thirtieth of 10,000.

    More readings allow a tail that starts further out and still is fitted to more of them. Of very few, 20.
    """
    share = _LARGEST_TAIL * min(1.0, np.sqrt(_ROWS_FOR_LARGEST_TAIL / n_effective))
    return float(max(share, min(_FEWEST_TAIL_ROWS / n_effective, 0.5)))


def _thinned(steps: Array, p_value: Array) -> tuple[Array, Array]:
    """Keep at most this many steps; a p in between becomes that of the next step above, never smaller."""
    if len(steps) <= _MOST_STEPS:
        return steps, p_value
    last = np.linspace(0, len(steps) - 1, _MOST_STEPS).round().astype(np.intp)
    return steps[np.append(0, last[:-1] + 1)], p_value[last]


def _design_effect(values: Array, mass: Array, group: NDArray[np.intp]) -> float:
    """Return how many neighbouring readings are worth one independent reading, at least 1.

    sum_b (sum_{i in b} d_i)^2 / sum_i d_i^2, with d_i the centred rank of reading i and b the blocks.
    """
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - count / 2)[place.ravel()]
    centred = rank - np.average(rank, weights=mass)
    n_blocks = int(group.max()) + 1
    total = float((mass * centred**2).sum())
    if n_blocks == len(values) or total == 0.0:
        return 1.0
    if n_blocks == 1:
        return float(mass.sum())
    sums = np.bincount(group, weights=mass * centred)
    effect = float((sums**2).sum()) / total * n_blocks / (n_blocks - 1)
    return max(1.0, effect * (1 + float(np.sqrt(2 / n_blocks))))


def _fit_tail(excess: Array, mass: Array, cap: float = np.inf) -> tuple[float, float]:
    """Fit a generalised Pareto distribution to the excesses of the surprise over the threshold.

    By penalised maximum likelihood, so that a handful of excesses gives a sober answer: the shape is held near 0 by
    a normal prior of standard deviation 0.1 and is never negative, since a tail that ends would call the first
    reading beyond it impossible; the scale gets one pseudo-excess of 1 nat, the scale of a density that is right.
    The shape is then raised by one over the number of excesses: for an exponential tail this turns the fit into
    the exact predictive distribution of the next excess, so that few excesses cannot promise small p-values.

    Arguments:
        excess: Nats, shape (N,).
        mass: Independent readings that each is worth, shape (N,).
        cap: Excesses above it count as above it, not for what they are.
    """
    from scipy.optimize import minimize  # not above: p-values are made where there is no SciPy

    capped = excess > cap
    seen = np.minimum(excess, cap)
    n_seen = float(mass[~capped].sum())

    def loss(parameters: Array) -> tuple[float, Array]:
        log_scale, shape = parameters
        relative = seen / np.exp(log_scale)
        growth, slope = np.log1p(shape * relative), relative / (1 + shape * relative)
        uncapped = mass * ~capped
        value = n_seen * log_scale + uncapped @ growth + mass @ growth / shape
        by_scale = n_seen - shape * (uncapped @ slope) - mass @ slope
        by_shape = uncapped @ slope + mass @ (slope - growth / shape) / shape
        return (
            float(value + log_scale + np.exp(-log_scale) + (shape / _SHAPE_SPREAD) ** 2 / 2),
            np.array([by_scale + 1 - np.exp(-log_scale), by_shape + shape / _SHAPE_SPREAD**2]),
        )

    guess = np.array([np.log((1 + mass @ seen) / (1 + n_seen)), 0.05])
    found = minimize(
        loss,
        guess,
        jac=True,
        method="L-BFGS-B",
        bounds=[_LOG_SCALES, _SHAPES],
        options={"ftol": 1e-14, "gtol": 1e-9},
    )
    return float(np.exp(found.x[0])), float(found.x[1] + 1 / (1 + n_seen))


def _outlying_blocks(values: Array, mass: Array, group: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Find the rows of the few blocks with readings that all the others make impossible.

    Held-out readings are normal as far as anybody knows; a fault among them would hide the next one. The tail is
    fitted to readings that are improbable but not most improbable, and a block with a reading beyond anything that
    this tail lets expect in a hundred samples of this size is left out as a whole. What is rare but recurs in more
    than 5% of the blocks is the regime's habit, and stays.

    Returns:
        True for rows to leave out, shape (N,).
    """
    none = np.zeros(len(values), dtype=bool)
    n_blocks = int(group.max()) + 1
    if n_blocks < _FEWEST_BLOCKS:
        return none
    worst = np.full(n_blocks, np.inf)
    np.minimum.at(worst, group, values)
    suspects = np.argsort(worst, kind="stable")[: int(_SET_ASIDE_SHARE * n_blocks)]
    others = ~np.isin(group, suspects)
    cap = values[others].min()
    tail = _tail_share(float(mass.sum())) + _SET_ASIDE_SHARE
    order = np.argsort(values, kind="stable")
    threshold = values[order][np.searchsorted(np.cumsum(mass[order]), tail * mass.sum())]
    in_tail = others & (values <= threshold)
    # Each suspected block counts as one reading beyond all that the others have, however many it has there.
    scale, shape = _fit_tail(
        np.append(threshold - values[in_tail], np.full(len(suspects), np.inf)),
        np.append(mass[in_tail], np.ones(len(suspects))),
        threshold - cap,
    )
    shape = max(shape, _SUSPICIOUS_SHAPE)
    chance = _SET_ASIDE_CHANCE / (mass.sum() * tail)
    limit = threshold - scale * np.expm1(-shape * np.log(chance)) / shape
    outlying = np.unique(group[values < limit])
    if not 0 < len(outlying) <= _SET_ASIDE_SHARE * n_blocks:
        return none
    rows = np.isin(group, outlying)
    return rows if mass[rows].sum() <= _SET_ASIDE_SHARE * mass.sum() else none
