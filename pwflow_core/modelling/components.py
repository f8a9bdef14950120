"""A second look at a regime: a small Gaussian mixture in its white coordinates, beside the flow.

A flow and a mixture of a few Gaussians are wrong about a regime in different places. What p-values rank is the mean of
both log-densities, so that a reading has to be unlikely for both. With NumPy alone, since it is a part of what scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwflow_core.modelling.network import product
from pwflow_core.modelling.seeds import GaussianMixture

__all__ = ["Components"]

Array = NDArray[np.float64]

_PREFIX = "components."
_PARTS = ("weights", "means", "covariances")


@dataclass(frozen=True, eq=False)
class Components:
    """A Gaussian mixture as it scores: the same of a row, whatever came with it.

    Attributes:
        mixture: In white coordinates.
        forward: Whitens by all its Gaussians, side by side, shape (D, J D).
        shift: Of the whitened rows, shape (J D,).
        constant: Log-density at the centre of each, with its weight, nats, shape (J,).

    """

    mixture: GaussianMixture
    forward: Array
    shift: Array
    constant: Array

    @classmethod
    def of(cls, mixture: GaussianMixture) -> Components:
        """Prepare a mixture."""
        factors = np.linalg.cholesky(mixture.covariances)
        whitening = np.linalg.inv(factors).transpose(0, 2, 1)
        log_det = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
        constant = np.log(mixture.weights) - log_det - 0.5 * mixture.n_features * np.log(2 * np.pi)
        shift = np.einsum("jd,jde->je", mixture.means, whitening)
        return cls(mixture, np.concatenate(list(whitening), axis=1), shift.ravel(), constant)

    @classmethod
    def from_tensors(cls, arrays: Mapping[str, NDArray[Any]]) -> Components | None:
        """Build from the arrays of a flow file; None where it has no mixture.

        Raises:
            KeyError: One of its arrays is missing.
            ValueError: One has the wrong shape.

        """
        if not any(name.startswith(_PREFIX) for name in arrays):
            return None
        weights, means, covariances = (np.asarray(arrays[_PREFIX + part], dtype=np.float64) for part in _PARTS)
        n_parts, n_features = means.shape
        shapes = (n_parts,), (n_parts, n_features), (n_parts, n_features, n_features)
        parts = (part.reshape(shape) for part, shape in zip((weights, means, covariances), shapes, strict=True))
        return cls.of(GaussianMixture(*parts))

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that a flow file holds of it, by name."""
        return {_PREFIX + part: getattr(self.mixture, part) for part in _PARTS}

    def log_prob(self, u: Array) -> Array:
        """Evaluate the log-density of white rows, nats in white coordinates, shape (N,).

        Arguments:
            u: Shape (N, D), N a multiple of `network.ROWS`.

        """
        white = product(u, self.forward)
        white -= self.shift
        white *= white
        joint = self.constant - 0.5 * white.reshape(len(u), len(self.constant), -1).sum(axis=2)
        top = joint.max(axis=1)
        return np.asarray(top + np.log(np.exp(joint - top[:, None]).sum(axis=1)))
