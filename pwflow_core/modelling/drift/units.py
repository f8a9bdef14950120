"""A sensor in another unit: its whole distribution is what it was, times a factor that converts units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["UNIT_QUANTILES", "Conversion", "find_conversion"]

Array = NDArray[np.float64]

UNIT_QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""What `find_conversion` compares a sensor by."""

_PAIRS = {
    10.0: (("MPa", "bar"), ("cm", "mm")),
    100.0: (("bar", "kPa"), ("m", "cm")),
    1_000.0: (("bar", "mbar"), ("kW", "W"), ("m", "mm"), ("A", "mA"), ("MPa", "kPa"), ("kPa", "Pa")),
    100_000.0: (("bar", "Pa"),),
    1_000_000.0: (("MPa", "Pa"), ("MW", "W")),
    6.894757: (("psi", "kPa"),),
    14.503774: (("bar", "psi"),),
    145.03774: (("MPa", "psi"),),
    3.6: (("m/s", "km/h"), ("l/s", "m³/h")),
    60.0: (("1/s", "1/min"), ("l/s", "l/min"), ("m/s", "m/min"), ("Hz", "rpm")),
    3600.0: (("1/s", "1/h"),),
    16.666667: (("m³/h", "l/min"),),
    25.4: (("in", "mm"), ("in/s", "mm/s")),
    3.28084: (("m", "ft"),),
    3.785412: (("gal", "l"), ("gal/min", "l/min")),
    9.80665: (("kgf", "N"),),
    57.29578: (("rad", "°"),),
    9.549297: (("rad/s", "rpm"),),
    6.283185: (("Hz", "rad/s"),),
    2.204623: (("kg", "lb"),),
}

_BEST, _MEDIAN, _MOST = 0.03, 0.1, 0.25  # errors of a factor: of the best quantile, the median one, three quarters
_FEWEST_AGREEING = 0.75
_SMALLEST_LOG_FACTOR = 0.5
_NEAR_ZERO = 0.05
_MEDIAN_OF_RANGE, _MOST_OF_RANGE = 0.25, 0.5  # the same where there is an offset, in units of the range


@dataclass(frozen=True)
class Conversion:
    """From one unit to another: y = factor x + offset.

    Attributes:
        factor: Above 0.
        offset: In the new unit.
        pairs: Units that it leads from and to.
    """

    factor: float
    offset: float
    pairs: tuple[tuple[str, str], ...]

    def describe(self, unit: str = "") -> str:
        """Say what is suspected of a sensor whose unit is this one; any unit if it is not known."""
        own = [pair for pair in self.pairs if pair[0] == unit] or list(self.pairs[:2])
        names = " or ".join(f"{before} to {after}" for before, after in own)
        if self.offset:
            return f"{names} suspected"
        scale = f"× {self.factor:.6g}" if self.factor > 1 else f"÷ {1 / self.factor:.6g}"
        return f"scale {scale} suspected ({names})"


_CONVERSIONS = (
    Conversion(1.8, 32.0, (("°C", "°F"),)),
    Conversion(1 / 1.8, -32.0 / 1.8, (("°F", "°C"),)),
    Conversion(1.0, 273.15, (("°C", "K"),)),
    Conversion(1.0, -273.15, (("K", "°C"),)),
    *(Conversion(factor, 0.0, pairs) for factor, pairs in _PAIRS.items()),
    *(Conversion(1 / f, 0.0, tuple((after, before) for before, after in pairs)) for f, pairs in _PAIRS.items()),
)


def find_conversion(before: Array, after: Array) -> Conversion | None:
    """Return the conversion of units that turns one set of quantiles into the other, the best if there are several.

    A factor must explain three quarters of the quantiles within 25%, half of them within 10% and the best within 3%.

    Arguments:
        before: `UNIT_QUANTILES` of the sensor in the reference, shape (Q,).
        after: The same quantiles now.
    """
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        return None
    if _is_where_it_was(before, after):
        return None
    misfits = [_misfit_of_offset(c, before, after) if c.offset else _misfit(c, before, after) for c in _CONVERSIONS]
    best = int(np.argmin(misfits))
    return _CONVERSIONS[best] if np.isfinite(misfits[best]) else None


def _is_where_it_was(before: Array, after: Array) -> bool:
    """Tell at a glance, for nearly all sensors and nights, that the median stayed within the range of the reference."""
    middle = len(before) // 2
    low, high = before[0], before[-1]
    return bool(low <= after[middle] <= high and np.abs(after[middle] - before[middle]) < 0.3 * np.abs(before[middle]))


def _misfit(conversion: Conversion, before: Array, after: Array) -> float:
    # quantiles near 0, of a machine at rest, agree with every factor and say nothing
    telling = np.abs(before) > _NEAR_ZERO * np.abs(before).max()
    before, after = before[telling], after[telling]
    if len(before) < 2 or (np.sign(before) != np.sign(after)).any():
        return np.inf
    if abs(float(np.median(np.log(after / before)))) < _SMALLEST_LOG_FACTOR:
        return np.inf
    error = np.abs(after / (conversion.factor * before) - 1)
    fits = error.min() <= _BEST and np.median(error) <= _MEDIAN and np.mean(error <= _MOST) >= _FEWEST_AGREEING
    return float(np.median(error)) if fits else np.inf


def _misfit_of_offset(conversion: Conversion, before: Array, after: Array) -> float:
    width = max(float(before[-1] - before[0]), 1e-9 * (1 + float(np.abs(before).max())))
    if before[0] - width <= after[-1] and after[0] <= before[-1] + width:  # not far enough from where it was
        return np.inf
    error = np.abs(after - conversion.factor * before - conversion.offset) / (conversion.factor * width)
    fits = np.median(error) <= _MEDIAN_OF_RANGE and np.mean(error <= _MOST_OF_RANGE) >= _FEWEST_AGREEING
    return float(np.median(error)) if fits else np.inf
