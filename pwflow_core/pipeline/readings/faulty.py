"""What an error of a sensor does to the columns that the models see: its own, and its features over time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pwflow_core.pipeline.readings.features import Feature, FeatureSet

__all__ = ["SensorFaults"]

Array = NDArray[np.float64]


class SensorFaults:
    """Readings as they would be if a sensor were off.

    Arguments:
        columns: Names of the columns of the models.
        feature_set: The sensors, and how the other columns are made from them.
        interval_seconds: Usual time from one reading to the next.
    """

    def __init__(self, columns: Sequence[str], feature_set: FeatureSet, interval_seconds: float) -> None:
        place = {name: position for position, name in enumerate(columns)}
        self.sensors = tuple(sensor for sensor in feature_set.sensors if sensor in place)
        self._own = [place[sensor] for sensor in self.sensors]
        self._features: list[list[tuple[int, Feature, int | None]]] = [
            [
                (place[feature.name], feature, place.get(Feature(sensor, "mean", feature.n_readings).name))
                for feature in feature_set.features
                if feature.sensor == sensor and feature.name in place
            ]
            for sensor in self.sensors
        ]
        self._interval_seconds = interval_seconds

    def spread(self, X: Array) -> Array:
        """Return the standard deviation of each sensor, raw units, shape (S,)."""
        return np.asarray(X[:, self._own].std(axis=0))

    def shifted(self, X: Array, sensor: int, by: float) -> Array:
        """Return readings after a shift that has lasted longer than every window: changes within them are as before."""
        moved = X.copy()
        moved[:, self._own[sensor]] += by
        for column, feature, _ in self._features[sensor]:
            if feature.kind in ("mean", "lag"):
                moved[:, column] += by
        return moved

    def spiked(self, X: Array, sensor: int, by: float) -> Array:
        """Return readings that are off while those before them are not.

        Of a window of n readings the mean rises by d / n, the slope by 6 d / (n (n + 1)) per reading, and the variance
        by d² / n + 2 d (x − mean) / (n − 1), exactly; where the mean is not a column, x is taken to lie on it.
        """
        moved = X.copy()
        moved[:, self._own[sensor]] += by
        for column, feature, mean in self._features[sensor]:
            n = feature.n_readings
            if feature.kind == "difference":
                moved[:, column] += by
            elif feature.kind == "mean":
                moved[:, column] += by / n
            elif feature.kind == "slope":
                moved[:, column] += 6 * by / (n * (n + 1)) / self._interval_seconds
            elif feature.kind == "std":
                off = X[:, self._own[sensor]] - X[:, mean] if mean is not None else 0.0
                variance = X[:, column] ** 2 + by**2 / n + 2 * by * off / (n - 1)
                moved[:, column] = np.sqrt(np.maximum(variance, 0.0))
        return moved
