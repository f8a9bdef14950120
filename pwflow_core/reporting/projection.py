"""The plane on which the regimes of a segment are shown: the two directions in which its readings vary most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pwflow_core.pipeline.readings.features import features_by_sensor
from pwflow_core.pipeline.regimes.model import ClusterModel, SegmentClusters

__all__ = ["Plane", "fit_plane", "plane_of", "raw_columns"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Plane:
    """Two principal components of a mixture of Gaussians, in standard deviations of the sensors.

    Attributes:
        centre: Mean of all readings, raw units, shape (D,).
        directions: From readings minus the centre to the plane, shape (D, 2).
        shares: Share of the variance along each of the two.
        means: Regimes on the plane, shape (K, 2).
        covariances: Shape (K, 2, 2).
    """

    centre: Array
    directions: Array
    shares: Array
    means: Array
    covariances: Array

    def project(self, X: Array) -> Array:
        """Return readings of shape (N, D) on the plane, shape (N, 2)."""
        return (X - self.centre) @ self.directions


def fit_plane(weights: Array, means: Array, covariances: Array) -> Plane:
    """Find the plane from the moments of a mixture; no readings are needed.

    Arguments:
        weights: Shape (K,).
        means: Raw units, shape (K, D).
        covariances: Shape (K, D, D).
    """
    share = weights / weights.sum()
    centre = share @ means
    apart = means - centre
    total = np.einsum("k,kij->ij", share, covariances) + np.einsum("k,ki,kj->ij", share, apart, apart)
    scale = np.sqrt(np.maximum(np.diag(total), 1e-300))
    variances, vectors = np.linalg.eigh(total / np.outer(scale, scale))
    order = np.argsort(variances)[::-1][:2]
    chosen = vectors[:, order]
    chosen = chosen * np.where(chosen[np.abs(chosen).argmax(axis=0), np.arange(chosen.shape[1])] < 0, -1.0, 1.0)
    found = variances[order] / variances.sum()
    if chosen.shape[1] == 1:  # one sensor: the second direction shows nothing
        chosen, found = np.column_stack([chosen, np.zeros_like(chosen)]), np.append(found, 0.0)
    directions = chosen / scale[:, None]
    return Plane(
        centre,
        directions,
        found,
        apart @ directions,
        np.einsum("ia,kij,jb->kab", directions, covariances, directions),
    )


def raw_columns(model: ClusterModel, sensors: list[str]) -> list[int]:
    """Return which columns of the model are sensors themselves, not features made from them."""
    return [columns[0] for columns in features_by_sensor(model.columns, sensors).values()]


def plane_of(part: SegmentClusters, raw: list[int]) -> Plane:
    """Return the plane of a segment, of the given columns."""
    seeds = part.seeds
    return fit_plane(seeds.weights, seeds.means[:, raw], seeds.covariances[:, raw][:, :, raw])
