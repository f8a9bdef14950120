"""Base distributions with parameters of their own, for a flow that need not map everything to one Gaussian.

Like the parameters of a flow, those of a base are one row of numbers, so that one optimiser, one average and
one copy of the best serve both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from pwflow_core.modelling.seeds import GaussianMixture

_FEWEST_ACCEPTED = 1e-6


class Base(Protocol):
    """A density over latents z with parameters θ, a vector of `n_parameters` numbers."""

    @property
    def n_parameters(self) -> int:
        """Free parameters."""

    def initial(self) -> Tensor:
        """Return the θ that training starts from."""

    def training_log_prob(self, theta: Tensor, z: Tensor) -> Tensor:
        """Evaluate log p(z), nats, shape (B,), for a gradient step; may be a noisy estimate."""

    def freeze(self, theta: Tensor, n_draws: int) -> None:
        """Settle what `log_prob` needs for this θ, with that much Monte-Carlo effort."""

    def log_prob(self, theta: Tensor, z: Tensor) -> Tensor:
        """Evaluate log p(z), nats, shape (B,), after `freeze`."""

    def sample(self, theta: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, NDArray[np.intp]]:
        """Draw z of shape (n, D), and a label of each."""


@dataclass
class MixtureBase:
    """p(z) = Σ_m w_m N(z; c_m, (A_mᵀ A_m)⁻¹), with triangular A_m: a trainable full-covariance mixture.

    Attributes:
        start: The mixture that training starts from, in latent units.

    """

    start: GaussianMixture

    @property
    def n_components(self) -> int:
        """M."""
        return self.start.n_clusters

    @property
    def n_parameters(self) -> int:
        """Free parameters: weights, centres and triangles."""
        return self.start.n_parameters

    def initial(self) -> Tensor:
        """Return the mixture given as start."""
        factor = np.linalg.inv(np.linalg.cholesky(self.start.covariances))
        diagonal = np.log(np.diagonal(factor, axis1=1, axis2=2))
        i, j = self._below
        parts = [np.log(self.start.weights), self.start.means, diagonal, factor[:, i, j]]
        return torch.from_numpy(np.concatenate([part.ravel() for part in parts])).float()

    def training_log_prob(self, theta: Tensor, z: Tensor) -> Tensor:
        """Evaluate log p(z), exactly."""
        return self.log_prob(theta, z)

    def freeze(self, theta: Tensor, n_draws: int) -> None:
        """Do nothing: the density is exact."""

    def log_prob(self, theta: Tensor, z: Tensor) -> Tensor:
        """Evaluate log p(z)."""
        logits, centre, factor, log_scale = self._split(theta)
        white = torch.einsum("mij,mbj->mbi", factor, z[None] - centre[:, None])
        log_normal = -0.5 * (white * white).sum(dim=-1) + log_scale.sum(dim=-1)[:, None]
        constant = 0.5 * z.shape[1] * float(np.log(2 * np.pi))
        return torch.logsumexp(torch.log_softmax(logits, dim=0)[:, None] + log_normal, dim=0) - constant

    def sample(self, theta: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, NDArray[np.intp]]:
        """Draw from the mixture; the label is the component."""
        logits, centre, factor, _ = self._split(theta)
        label = torch.multinomial(torch.softmax(logits, dim=0), n, replacement=True, generator=generator)
        normal = torch.randn(n, centre.shape[1], generator=generator)
        spread = torch.linalg.solve_triangular(factor[label], normal.unsqueeze(-1), upper=False).squeeze(-1)
        return centre[label] + spread, label.numpy().astype(np.intp)

    @property
    def _below(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        i, j = np.tril_indices(self.start.n_features, -1)
        return i, j

    def _split(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        m, d = self.n_components, self.start.n_features
        i, j = self._below
        logits, centre, log_scale, below = torch.split(theta, [m, m * d, m * d, m * len(i)])
        log_scale = log_scale.view(m, d)
        factor = torch.diag_embed(log_scale.exp())
        factor[:, i, j] = below.view(m, len(i))
        return logits, centre.view(m, d), factor, log_scale


@dataclass
class ResampledBase:
    r"""A Gaussian thinned by a learned acceptance probability a(z), redrawn at most T − 1 times.

    p(z) = π(z) [ (1 − α) a(z) / Z + α ],  Z = E_π[a],  α = (1 − Z)^(T − 1)

    where a is a network with two hidden layers, 1/2 everywhere at the start: then p = π.

    Z has no closed form. In training it is a moving average over batches of draws whose gradient is that of
    the current batch; it lags behind the weights, so training log-densities are off by as much. To score, Z
    comes from one large sample. Its mean is right, but −log Z is then too high on average by
    Var(a) / (2 S Z²) nats for S draws, and by a random error of standard deviation sd(a) / (√S Z), the same
    for all rows: `standard_error` after `freeze`.

    Attributes:
        n_features: D.
        truncation: T; after T − 1 rejections the last draw is taken.
        hidden: Units of each hidden layer of a.
        draws: Draws per gradient step for Z.
        averaging: Weight of the new batch in the moving average of Z.
        random_state: Seed of the draws.

    References:
        Resampling Base Distributions of Normalizing Flows (Stimper et al., 2022), arXiv:2110.15828.

    """

    n_features: int
    truncation: int = 100
    hidden: int = 64
    draws: int = 512
    averaging: float = 0.05
    random_state: int = 0
    standard_error: float = field(default=0.0, init=False)
    _log_z: float = field(default=float(np.log(0.5)), init=False)
    _moving: float = field(default=0.5, init=False)
    _generator: torch.Generator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._generator = torch.Generator().manual_seed(self.random_state)

    @property
    def _shapes(self) -> list[tuple[int, ...]]:
        h = self.hidden
        return [(self.n_features, h), (h,), (h, h), (h,), (h, 1), (1,)]

    @property
    def n_parameters(self) -> int:
        """Weights and biases of the acceptance network."""
        return sum(int(np.prod(shape)) for shape in self._shapes)

    def initial(self) -> Tensor:
        """Return random hidden layers and an output of zero."""
        generator = torch.Generator().manual_seed(self.random_state)
        parts = []
        for k, shape in enumerate(self._shapes):
            part = torch.zeros(shape)
            if k in (0, 2):
                part = torch.randn(shape, generator=generator) * float(np.sqrt(2 / shape[0]))
            parts.append(part.flatten())
        return torch.cat(parts)

    def training_log_prob(self, theta: Tensor, z: Tensor) -> Tensor:
        """Evaluate log p(z) with the moving average of Z, which this call updates."""
        drawn = torch.randn(self.draws, self.n_features, generator=self._generator)
        now = self._log_accept(theta, drawn).exp().mean()
        self._moving += self.averaging * (float(now.detach()) - self._moving)
        return self._resampled(theta, z, (now - now.detach() + self._moving).clamp(min=_FEWEST_ACCEPTED).log())

    def freeze(self, theta: Tensor, n_draws: int) -> None:
        """Estimate Z from `n_draws` draws, always the same ones."""
        generator = torch.Generator().manual_seed(self.random_state + 1)
        total = squares = 0.0
        for start in range(0, n_draws, 8192):
            drawn = torch.randn(min(8192, n_draws - start), self.n_features, generator=generator)
            accepted = self._log_accept(theta, drawn).double().exp()
            total, squares = total + float(accepted.sum()), squares + float((accepted * accepted).sum())
        mean = max(total / n_draws, _FEWEST_ACCEPTED)
        self._log_z = float(np.log(mean))
        self.standard_error = float(np.sqrt(max(squares / n_draws - mean**2, 0.0) / n_draws)) / mean

    def log_prob(self, theta: Tensor, z: Tensor) -> Tensor:
        """Evaluate log p(z) with the Z of the last `freeze`."""
        return self._resampled(theta, z, torch.tensor(self._log_z))

    def sample(self, theta: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, NDArray[np.intp]]:
        """Draw by accepting and rejecting; the label is always 0."""
        z = torch.randn(n, self.n_features, generator=generator)
        waiting = torch.arange(n)
        for _ in range(self.truncation - 1):
            reject = torch.rand(len(waiting), generator=generator).log() >= self._log_accept(theta, z[waiting])
            waiting = waiting[reject]
            if not len(waiting):
                break
            z[waiting] = torch.randn(len(waiting), self.n_features, generator=generator)
        return z, np.zeros(n, dtype=np.intp)

    def _resampled(self, theta: Tensor, z: Tensor, log_z: Tensor) -> Tensor:
        log_normal = -0.5 * ((z * z).sum(dim=-1) + self.n_features * float(np.log(2 * np.pi)))
        log_never = (self.truncation - 1) * torch.log1p(-log_z.exp().clamp(max=1 - 1e-6))
        log_thinned = torch.log1p(-log_never.exp().clamp(max=1 - 1e-6)) + self._log_accept(theta, z) - log_z
        return log_normal + torch.logaddexp(log_thinned, log_never.expand_as(log_thinned))

    def _log_accept(self, theta: Tensor, z: Tensor) -> Tensor:
        parts = torch.split(theta, [int(np.prod(shape)) for shape in self._shapes])
        w1, b1, w2, b2, w3, b3 = (part.view(shape) for part, shape in zip(parts, self._shapes, strict=True))
        hidden = torch.relu(torch.addmm(b1, z, w1))
        hidden = torch.relu(torch.addmm(b2, hidden, w2))
        return logsigmoid(torch.addmm(b3, hidden, w3)).squeeze(-1)
