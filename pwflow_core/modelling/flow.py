"""The density of one cluster: a masked autoregressive flow, its Gaussian start and a heavy tail, blended."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pwflow_core.errors import ModelFileError
from pwflow_core.modelling.autoregressive import Architecture, inverse
from pwflow_core.modelling.blending import Shares, sample_tail
from pwflow_core.modelling.components import Components
from pwflow_core.modelling.density import Density, Evaluation
from pwflow_core.modelling.serialization import pack, unpack
from pwflow_core.modelling.whitening import Whitening

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TrainingHistory:
    """How a flow was trained.

    Attributes:
        steps: Gradient steps done at each evaluation.
        train: Weighted mean log-density of the training batches since the last evaluation, nats, raw units.
        held_out: Weighted mean log-density of the held-out rows with the averaged weights, nats, raw units.
        best_step: Step whose weights were kept; 0 is what it started from.
        seconds: Wall-clock seconds, shared by the clusters that trained together.
        rows: Training rows with a noticeable weight.
        rows_held_out: Held-out rows with a noticeable weight.
        stopped: Why training ended: `patience`, `max_steps`, `too_few_rows`, `no_gain` or `diverged`.

    """

    steps: list[int] = field(default_factory=list)
    train: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    best_step: int = 0
    seconds: float = 0.0
    rows: int = 0
    rows_held_out: int = 0
    stopped: str = "too_few_rows"

    def document(self) -> dict[str, Any]:
        """Return what is kept of it, as JSON holds it; seconds, which differ between equal trainings, are left out."""
        return {name: value for name, value in asdict(self).items() if name != "seconds"}


class ClusterFlow:
    """The density of one cluster.

    p(x) = [a N(z(u); 0, 1) |det dz/du| + b N(u; 0, 1) + ε t(u)] |det du/dx| with u the white reading

    Attributes:
        n_features: D.
        history: How it was trained; empty for one from a file, which holds only what scores.
        shares: a, b and ε, the shares of the flow, the Gaussian and the heavy tail.
        components: A Gaussian mixture beside the flow, for p-values only; None where the regime has none.

    """

    def __init__(
        self,
        whitening: Whitening,
        architecture: Architecture,
        parameters: Tensor | None,
        history: TrainingHistory,
        shares: Shares,
        components: Components | None = None,
    ) -> None:
        self.whitening = whitening
        self.architecture = architecture
        self.parameters = parameters
        self.history = history
        self.shares = shares
        self.components = components

    @property
    def n_features(self) -> int:
        """D."""
        return len(self.whitening.centre)

    @property
    def is_gaussian(self) -> bool:
        """Whether the density is a plain Gaussian."""
        return self.parameters is None

    def log_prob(self, X: Array, batch_rows: int = 8192) -> Array:
        """Evaluate the log-density.

        Arguments:
            X: Readings in raw units, shape (N, D).
            batch_rows: Rows evaluated at once.

        Returns:
            Nats per reading in raw units, shape (N,), float64, always finite.

        Raises:
            SchemaMismatchError: D differs from the cluster's.
            ValueError: NaN or infinite values.

        """
        return self.density.log_prob(X, batch_rows)

    def latents(self, X: Array, batch_rows: int = 8192) -> Array:
        """Map readings to latents, shape (N, D): independent N(0, 1) while readings follow the model."""
        return self.evaluate(X, batch_rows).latents

    def sample(self, n: int, random_state: int | np.random.Generator | None = None) -> Array:
        """Draw `n` readings in raw units, shape (n, D)."""
        rng = np.random.default_rng(random_state)
        u = rng.standard_normal((n, self.n_features))
        part = rng.choice(3, size=n, p=[self.shares.flow, self.shares.gaussian, self.shares.tail])
        if self.parameters is not None:
            views = self.architecture.views(self.parameters[None])
            with torch.no_grad():
                z = torch.from_numpy(u[part == 0]).float()[None]
                u[part == 0] = inverse(self.architecture, views, z)[0].double().numpy()
        u[part == 2] = sample_tail(int((part == 2).sum()), self.n_features, rng)
        return self.whitening.colour(u)

    def to_bytes(self) -> bytes:
        """Write as safetensors with JSON metadata; the same flow gives the same bytes."""
        return pack("cluster_flow", self.tensors(), self.document())

    @classmethod
    def from_bytes(cls, data: bytes) -> ClusterFlow:
        """Read what `to_bytes` wrote.

        Raises:
            ModelFileError: The bytes are damaged or of another kind.

        """
        return cls.from_tensors(*unpack(data, "cluster_flow"))

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `to_bytes` writes, by name."""
        arrays: dict[str, NDArray[Any]] = {
            name: getattr(self.whitening, name) for name in ("centre", "scale", "forward", "backward")
        }
        if self.parameters is not None:
            offset = 0
            for name, shape in self.architecture.shapes:
                size = int(np.prod(shape))
                arrays[name] = self.parameters[offset : offset + size].reshape(shape).numpy()
                offset += size
        return arrays if self.components is None else arrays | self.components.tensors()

    def document(self) -> dict[str, Any]:
        """Return what `to_bytes` writes beside the arrays: what scores, and nothing of how it came about."""
        return {"architecture": asdict(self.architecture), "shares": asdict(self.shares)}

    @classmethod
    def from_tensors(cls, arrays: dict[str, NDArray[Any]], document: dict[str, Any]) -> ClusterFlow:
        """Build from `tensors()` and `document()`; a file of release 0.1 holds the history too.

        Raises:
            ModelFileError: An array is missing or has the wrong shape.

        """
        try:
            architecture = Architecture(**document["architecture"])
            history = TrainingHistory(**document.get("history", {}))
            shares = Shares(**document["shares"])
            whitening = Whitening(*(arrays[name] for name in ("centre", "scale", "forward", "backward")))
            parameters = None
            if arrays.keys() & dict(architecture.shapes).keys():
                parts = [arrays[name].reshape(shape) for name, shape in architecture.shapes]
                parameters = torch.from_numpy(np.concatenate([part.ravel() for part in parts]))
            components = Components.from_tensors(arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"The flow file lacks a field or has a wrong shape: {error}.") from error
        return cls(whitening, architecture, parameters, history, shares, components)

    @cached_property
    def density(self) -> Density:
        """The same density without PyTorch: what scores."""
        return Density.of(self.whitening, self.tensors(), asdict(self.architecture), self.shares)

    def evaluate(self, X: Array, batch_rows: int = 8192) -> Evaluation:
        """Evaluate all that the flow says of readings, in one pass; see `Density.evaluate`."""
        return self.density.evaluate(X, batch_rows)
