"""The density of one regime as it scores: whitening, the network of its flow and the blend, with NumPy alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwflow_core.errors import ModelFileError
from pwflow_core.modelling.blending import Shares, blend, heavy_gaussian, log_gaussian
from pwflow_core.modelling.components import Components
from pwflow_core.modelling.network import ROWS, Network, product
from pwflow_core.modelling.serialization import unpack
from pwflow_core.modelling.validation import as_matrix
from pwflow_core.modelling.whitening import Whitening

__all__ = ["LARGEST_FLOAT32", "Density", "Evaluation"]

Array = NDArray[np.float64]

LARGEST_FLOAT32 = 1e30  # room for the flow's own scales below float32's 3e38


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a flow says of readings.

    Attributes:
        latents: Independent N(0, 1) while readings follow the model, shape (N, D).
        log_det: Log volume change from raw units to latents, nats, shape (N,).
        log_prob: Log-density of the blend, nats, raw units, shape (N,).
        tail: Share of the heavy tail.
        by_components: Log-density under the Gaussian mixture beside the flow, nats, raw units, shape (N,); None where
            the regime has none, or was not asked for it.

    """

    latents: Array
    log_det: Array
    log_prob: Array
    tail: float
    by_components: Array | None = None

    @property
    def conformity(self) -> Array:
        """How well each reading conforms to its regime, nats, shape (N,): what p-values are made from.

        Its log-density under the flow, or the mean of that and the one under the Gaussian mixture beside it. The
        Gaussian and the tail of the blend protect the density where readings drift, but they also fill the holes of a
        regime, where no normal reading lies. And with a tail, a sensor that is off by 20 standard deviations would cost
        hardly more than one that is off by 8.
        """
        by_flow = self.log_det + log_gaussian(self._squared_radius, self.latents.shape[1])
        return np.asarray(by_flow if self.by_components is None else 0.5 * (by_flow + self.by_components))

    @property
    def tempered_conformity(self) -> Array:
        """Log-density under the flow with the tail around the latents, nats, shape (N,): for means of readings."""
        return np.asarray(self.log_det + heavy_gaussian(self._squared_radius, self.latents.shape[1], self.tail))

    @property
    def _squared_radius(self) -> Array:
        return _squared_radius(self.latents)


@dataclass(frozen=True, eq=False)
class Density:
    """The density of one regime, see `flow.ClusterFlow`, which is trained.

    Attributes:
        whitening: To the white coordinates of its Gaussian.
        network: Its flow; None for a regime that stayed a Gaussian.
        shares: Of the blend.
        components: Gaussian mixture beside the flow, in white coordinates.

    """

    whitening: Whitening
    network: Network | None
    shares: Shares
    components: Components | None = None

    @property
    def n_features(self) -> int:
        """D."""
        return len(self.whitening.centre)

    @property
    def is_gaussian(self) -> bool:
        """Whether the density is a plain Gaussian."""
        return self.network is None

    @classmethod
    def from_bytes(cls, data: bytes) -> Density:
        """Read the file of a flow.

        Raises:
            ModelFileError: The bytes are damaged or of another kind.

        """
        arrays, document = unpack(data, "cluster_flow")
        try:
            whitening = Whitening(*(arrays[name] for name in ("centre", "scale", "forward", "backward")))
            return cls.of(whitening, arrays, document["architecture"], Shares(**document["shares"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"The flow file lacks a field or has a wrong shape: {error}.") from error

    @classmethod
    def of(
        cls, whitening: Whitening, arrays: Mapping[str, NDArray[Any]], architecture: Mapping[str, Any], shares: Shares
    ) -> Density:
        """Build from the parts of a flow, see `Network.from_tensors` for what is raised."""
        return cls(whitening, Network.from_tensors(arrays, architecture), shares, Components.from_tensors(arrays))

    def log_prob(self, X: Array, batch_rows: int = 8192) -> Array:
        """Evaluate the log-density, nats per reading in raw units, shape (N,); see `evaluate`."""
        return self.evaluate(X, batch_rows, components=False).log_prob

    def evaluate(self, X: Array, batch_rows: int = 8192, *, components: bool = True) -> Evaluation:
        """Evaluate all that the flow says of readings, in one pass: the same of each, whatever came with it.

        White readings are rounded to single precision, so that the last digits in which two ways to a feature over
        time differ do not decide on which side of a step of the p-value a reading lies.

        Arguments:
            X: Readings in raw units, shape (N, D).
            batch_rows: Rows evaluated at once.
            components: Whether to ask the Gaussian mixture beside the flow.

        Raises:
            SchemaMismatchError: D differs from the regime's.
            ValueError: NaN or infinite values.

        """
        X = as_matrix(X, n_features=self.n_features, allow_empty=True)
        n_rows, missing = len(X), -len(X) % ROWS
        if missing:
            X = np.concatenate([X, np.repeat(X[-1:], missing, axis=0)])
        batch_rows = max(ROWS, batch_rows // ROWS * ROWS)
        z, log_prob, volume = np.empty(X.shape), np.empty(len(X)), np.zeros(len(X))
        beside = self.components if components else None
        by_components = None if beside is None else np.empty(len(X))
        for start in range(0, len(X), batch_rows):
            block = slice(start, start + batch_rows)
            white = self.whitening.whiten(X[block], product)
            single = np.minimum(np.maximum(white, -LARGEST_FLOAT32), LARGEST_FLOAT32).astype(np.float32)
            double = single.astype(np.float64)
            radius, log_flow = _squared_radius(double), None
            if beside is not None and by_components is not None:
                by_components[block] = beside.log_prob(double)
            if self.network is not None:
                single, volume[block] = self.network.forward(single)
            z[block] = single
            if self.network is not None:
                log_flow = log_gaussian(_squared_radius(z[block]), self.n_features) + volume[block]
            log_prob[block] = blend(log_flow, radius, self.n_features, self.shares)
        log_det = self.whitening.log_det
        if by_components is not None:
            by_components = (by_components + log_det)[:n_rows]
        return Evaluation(
            z[:n_rows], (volume + log_det)[:n_rows], (log_prob + log_det)[:n_rows], self.shares.tail, by_components
        )


def _squared_radius(z: Array) -> Array:
    return np.asarray((z * z).sum(axis=1))
