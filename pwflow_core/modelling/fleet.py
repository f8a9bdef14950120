r"""What is particular to a machine: its location and scale of each column in one regime, before the shared flow.

A reading x of machine m is seen as a typical machine would have read it, with c the location of a typical machine:

    T_m(x) = c + (x - c - shift_m) / stretch_m        log p_m(x) = log p(T_m(x)) - sum log stretch_m

Locations are shrunk towards the typical one by how much the machines differ, tau, and how well blocks of time tell
where a machine lies: by tau² / (tau² + e²), where e² is the variance of the means of n blocks over n, all in standard
deviations of the regime. What stays unknown widens the stretch. Scales are shrunk in the same way. So a machine of
which little is known is taken to be a typical one.

A fleet is confirmed, and so is a new machine, on the last third of the time: the rest has to make it
more probable by `MIN_GAIN` nats a reading, and by two standard errors; of a new machine in a fleet that is confirmed,
by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pwflow_core.modelling.attribution import Attribution
from pwflow_core.modelling.whitening import Whitening

__all__ = [
    "FEWEST_BLOCKS",
    "FEWEST_ROWS",
    "MIN_GAIN",
    "Correction",
    "Fleet",
    "Newcomer",
    "Typical",
    "Winners",
    "learn_fleet",
]

Array = NDArray[np.float64]

FEWEST_ROWS, FEWEST_BLOCKS = 60, 9
"""Readings of a machine in a regime, and blocks of time that they lie in, that tell where it lies."""

MIN_GAIN = 0.1
"""Nats per held-out reading that corrections have to bring: what machines .15 standard deviations apart do."""

_N_ERRORS = 2.0
_TRIMMED, _CLIPPED = 0.025, 0.05
_FARTHEST, _LEAST_SPREAD = 5.0, 0.25  # a newcomer further out than this many spreads is not like the others,
_BEYOND = 1.5  # if it is further out than the farthest of them as well, by so much
_FARTHEST_SCALE = float(np.log(2.0))


@dataclass(frozen=True, eq=False)
class Correction:
    """What is particular to a machine.

    Attributes:
        shift: Its location less the typical one, raw units, shape (D,).
        stretch: Its scale over the typical one, shape (D,).

    """

    shift: Array
    stretch: Array

    @property
    def log_volume(self) -> float:
        """Log of the volume change, log |det dT/dx|, nats."""
        return -float(np.log(self.stretch).sum())


@dataclass(frozen=True, eq=False)
class Typical:
    """A typical machine, and how much the others differ from it.

    Attributes:
        location: Raw units, shape (D,).
        scale: Raw units, shape (D,).
        spread: Standard deviation of the locations of machines, in scales, shape (D,).
        spread_of_scale: Standard deviation of the logarithms of their scales, shape (D,).
        farthest: How far out the farthest of them lies, in scales, shape (D,).

    """

    location: Array
    scale: Array
    spread: Array
    spread_of_scale: Array
    farthest: Array

    def place(self, X: Array, block: NDArray[np.intp], *, is_bounded: bool = False) -> tuple[Correction, Array, Array]:
        """Return the correction of a machine by its readings, how far out it lies, in scales, and the error of that.

        Arguments:
            X: Its readings, shape (N, D).
            block: Block of time of each, shape (N,).
            is_bounded: Whether its scale is held within what machines of the fleet differ by.

        """
        location, scale, error = _place(X, block)
        off = (location - self.location) / self.scale
        log_ratio = np.log(np.maximum(scale / self.scale, 1e-3))
        error = (error / self.scale) ** 2
        if is_bounded:
            farthest = np.maximum(_FARTHEST * self.spread_of_scale, _FARTHEST_SCALE)
            log_ratio = np.clip(log_ratio, -farthest, farthest)
        known, known_scale = self.spread**2, self.spread_of_scale**2
        trusted = known / np.maximum(known + error, 1e-12)
        log_ratio = log_ratio * known_scale / np.maximum(known_scale + 0.5 * error, 1e-12)
        widening = np.sqrt(1 + trusted * error)
        return Correction(trusted * off * self.scale, np.exp(log_ratio) * widening), off, np.sqrt(error)

    def is_outside(self, off: Array, error: Array) -> NDArray[np.bool_]:
        """Tell in which columns a machine lies further out than machines of the fleet do, shape (D,)."""
        usual = max(float(np.median(self.spread)), _LEAST_SPREAD)
        spread = np.hypot(np.maximum(self.spread, usual), error)
        return np.asarray(np.abs(off) > np.maximum(_FARTHEST * spread, _BEYOND * self.farthest))


@dataclass(frozen=True, eq=False)
class Newcomer:
    """What the first readings of a machine tell.

    Attributes:
        correction: Its correction.
        off: Its location less the typical one, in scales, shape (D,).
        is_outside: Where it lies further out than machines of the fleet do, shape (D,).
        gain: What the correction from the first two thirds brings on the last, nats per reading.
        error: Standard error of that.
        n_readings: Readings that it was learned from.

    """

    correction: Correction
    off: Array
    is_outside: NDArray[np.bool_]
    gain: float
    error: float
    n_readings: int

    @property
    def is_confirmed(self) -> bool:
        """Whether held-out readings confirm the correction."""
        return self.gain >= MIN_GAIN and self.gain > self.error

    @property
    def is_typical(self) -> bool:
        """Whether it lies so near to the typical machine that nothing has to be corrected."""
        return bool((np.abs(self.off) < _LEAST_SPREAD).all())


@dataclass(frozen=True, eq=False)
class Fleet:
    """The machines of a regime.

    Attributes:
        typical: What they are compared with.
        corrections: By machine; one that is not among them is still being learned.
        gain: What the corrections brought on held-out readings when the flow was trained, nats per reading.
        error: Standard error of that.

    """

    typical: Typical
    corrections: Mapping[str, Correction]
    gain: float = float("nan")
    error: float = float("nan")

    def knows(self, machine: NDArray[np.str_]) -> NDArray[np.bool_]:
        """Tell of which readings the machine is known, shape (N,)."""
        return np.isin(machine, list(self.corrections))

    def correct(self, X: Array, machine: NDArray[np.str_]) -> tuple[Array, Array]:
        """Return readings as a typical machine would have read them, and the log volume change of each, nats.

        Those of machines that are not known stay as they are.

        Arguments:
            X: Readings in raw units, NaN where a value is missing, shape (N, D).
            machine: Machine of each, shape (N,).

        """
        X, log_volume, centre = X.copy(), np.zeros(len(X)), self.typical.location
        for rows, own in self._parts(machine):
            X[rows] = centre + (X[rows] - centre - own.shift) / own.stretch
            log_volume[rows] = own.log_volume
        return X, log_volume

    def restore(self, X: Array, machine: NDArray[np.str_], columns: NDArray[np.intp]) -> Array:
        """Return values of some columns of a typical machine, shape (N, C), as each machine reads them."""
        X, centre = X.copy(), self.typical.location[columns]
        for rows, own in self._parts(machine):
            X[rows] = centre + own.shift[columns] + (X[rows] - centre) * own.stretch[columns]
        return X

    def meet(self, X: Array, block: NDArray[np.intp], log_prob: Callable[[Array], Array]) -> Newcomer | None:
        """Learn a machine from its first readings; None if there are too few.

        Arguments:
            X: Its readings in the order of time, raw units, shape (N, D).
            block: Block of time of each, shape (N,).
            log_prob: Log-density of a typical machine.

        """
        blocks = np.unique(block)
        if len(X) < FEWEST_ROWS or len(blocks) < FEWEST_BLOCKS:
            return None
        is_last = np.isin(block, blocks[-(len(blocks) // 3) :])
        first, _, _ = self.typical.place(X[~is_last], block[~is_last], is_bounded=True)
        centre, held_out = self.typical.location, X[is_last]
        seen = centre + (held_out - centre - first.shift) / first.stretch
        gain = _trimmed(log_prob(seen) + first.log_volume - log_prob(held_out))
        by_block = np.bincount(np.unique(block[is_last], return_inverse=True)[1], gain - gain.mean())
        n = len(by_block)
        error = float(np.sqrt(by_block @ by_block * n / (n - 1)) / len(gain))
        correction, off, off_by = self.typical.place(X, block, is_bounded=True)
        is_outside = self.typical.is_outside(off, off_by)
        return Newcomer(correction, off, is_outside, float(gain.mean()), error, len(X))

    def joined_by(self, machine: str, correction: Correction | None) -> Fleet:
        """Return the fleet with one more machine; a typical one without a correction."""
        n = len(self.typical.location)
        own = Correction(np.zeros(n), np.ones(n)) if correction is None else correction
        return replace(self, corrections={**self.corrections, machine: own})

    def _parts(self, machine: NDArray[np.str_]) -> list[tuple[NDArray[np.intp], Correction]]:
        names, which = np.unique(machine, return_inverse=True)
        return [
            (np.flatnonzero(which == place), self.corrections[name])
            for place, name in enumerate(names.tolist())
            if name in self.corrections
        ]


class Winners:
    """Readings that regimes with fleets won: seen as a typical machine would have read them, and told in own values.

    Arguments:
        fleets: By cluster key; regimes without one leave readings as they are.
        machine: Machine of each reading, shape (N,).
        regime: Cluster key of the regime that won it, shape (N,).

    """

    def __init__(self, fleets: Mapping[str, Fleet], machine: NDArray[np.str_], regime: NDArray[np.str_]) -> None:
        self._parts = [(fleet, np.flatnonzero(regime == key)) for key, fleet in fleets.items()]
        self._machine = machine

    def see(self, X: Array) -> Array:
        """Return readings, shape (N, D), as a typical machine would have read them."""
        X = X.copy() if self._parts else X
        for fleet, rows in self._parts:
            X[rows], _ = fleet.correct(X[rows], self._machine[rows])
        return X

    def tell(self, found: Attribution, columns: NDArray[np.intp]) -> Attribution:
        """Return what was found of them, of the sensors in some columns, in the values of their own machines."""
        if not self._parts:
            return found
        parts = (found.observed, found.expected, found.low, found.high)
        observed, expected, low, high = (self.tell_values(values, columns) for values in parts)
        return replace(found, observed=observed, expected=expected, low=low, high=high)

    def tell_values(self, values: Array, columns: NDArray[np.intp]) -> Array:
        """Return values of some columns of a typical machine, shape (N, C), as each machine reads them."""
        values = values.copy() if self._parts else values
        for fleet, rows in self._parts:
            values[rows] = fleet.restore(values[rows], self._machine[rows], columns)
        return values


def learn_fleet(X: Array, machine: NDArray[np.str_], block: NDArray[np.intp], fewest_machines: int) -> Fleet | None:
    """Learn what is particular to each machine of a regime; None unless that makes later readings more probable.

    A machine of which it makes them less probable is not among those of the fleet: it is to be learned like a new one.

    Arguments:
        X: Readings by machine and time, raw units, shape (N, D).
        machine: Machine of each, shape (N,).
        block: Block of time of its machine that each lies in, shape (N,).
        fewest_machines: Fewer machines of which there are enough readings are no fleet.

    """
    rows_of = [np.flatnonzero(machine == name) for name in np.unique(machine)]
    rows_of = [rows for rows in rows_of if len(rows) >= FEWEST_ROWS and len(np.unique(block[rows])) >= FEWEST_BLOCKS]
    if len(rows_of) < fewest_machines:
        return None
    early = [rows[: 2 * len(rows) // 3] for rows in rows_of]
    late = [rows[2 * len(rows) // 3 :] for rows in rows_of]
    fleet = _measure(X, machine, block, early)
    learned = np.concatenate(early)
    before, after = _Gaussian(X[learned]), _Gaussian(fleet.correct(X[learned], machine[learned])[0])
    held_out = np.concatenate(late)
    seen, log_volume = fleet.correct(X[held_out], machine[held_out])
    by_row = _trimmed(after.log_prob(seen) + log_volume - before.log_prob(X[held_out]))
    gains = np.array([part.mean() for part in np.split(by_row, np.cumsum([len(rows) for rows in late])[:-1])])
    gain = float(np.median(gains))
    error = 1.25 * 1.4826 * float(np.median(np.abs(gains - gain))) / np.sqrt(len(gains))
    if gain < MIN_GAIN or gain <= _N_ERRORS * error:
        return None
    fleet = _measure(X, machine, block, rows_of)
    lost = {str(machine[rows[0]]) for rows, own in zip(rows_of, gains, strict=True) if own < 0}
    kept = {name: correction for name, correction in fleet.corrections.items() if name not in lost}
    return replace(fleet, corrections=kept, gain=gain, error=error)


def _measure(X: Array, machine: NDArray[np.str_], block: NDArray[np.intp], rows_of: list[NDArray[np.intp]]) -> Fleet:
    locations, scales, errors = (
        np.stack(part) for part in zip(*(_place(X[rows], block[rows]) for rows in rows_of), strict=True)
    )
    overall = X[np.concatenate(rows_of)].std(axis=0)
    scales = np.maximum(scales, np.where(overall > 0, 1e-3 * overall, 1.0))
    centre, scale = np.median(locations, axis=0), np.exp(np.median(np.log(scales), axis=0))
    error = np.median((errors / scale) ** 2, axis=0)
    spread, of_scale = _spread((locations - centre) / scale, error), _spread(np.log(scales / scale), 0.5 * error)
    farthest = np.abs((locations - centre) / scale).max(axis=0)
    typical = Typical(centre, scale, spread, of_scale, farthest)
    return Fleet(typical, {str(machine[rows[0]]): typical.place(X[rows], block[rows])[0] for rows in rows_of})


def _spread(values: Array, error: Array) -> Array:
    """Return the standard deviation between machines, less what chance does, robustly, shape (D,)."""
    seen = (1.4826 * np.median(np.abs(values), axis=0)) ** 2
    return np.asarray(np.sqrt(np.maximum(seen - error, 0.0)))


def _place(X: Array, block: NDArray[np.intp]) -> tuple[Array, Array, Array]:
    """Return mean and standard deviation of each column, the lowest and highest values pulled in, and the mean's error.

    Blocks of time are the independent units.
    """
    clipped = np.clip(X, *np.quantile(X, (_CLIPPED, 1 - _CLIPPED), axis=0))
    mean, number = clipped.mean(axis=0), np.unique(block, return_inverse=True)[1]
    sums = np.stack([np.bincount(number, column) for column in (clipped - mean).T], axis=1)
    return mean, clipped.std(axis=0), np.sqrt((sums**2).sum(axis=0)) / len(X)


def _trimmed(gain: Array) -> Array:
    return np.clip(gain, *np.quantile(gain, (_TRIMMED, 1 - _TRIMMED)))


class _Gaussian:
    """The Gaussian of some readings, for comparing how well two of them describe others."""

    def __init__(self, X: Array) -> None:
        n = X.shape[1]
        covariance = np.cov(X, rowvar=False).reshape(n, n)
        self._white = Whitening.from_gaussian(X.mean(axis=0), covariance + 1e-9 * np.diag(np.diagonal(covariance)))

    def log_prob(self, X: Array) -> Array:
        """Return the log-density but for a constant, nats, shape (N,)."""
        white = self._white.whiten(X)
        return np.asarray(self._white.log_det - 0.5 * (white * white).sum(axis=1))
