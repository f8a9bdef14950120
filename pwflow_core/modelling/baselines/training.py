"""Train one flow together with its base distribution, by autograd over the parameters of the stacked flows.

The hand-written gradient of `autoregressive` is that of a standard-normal base. A trainable base takes
autograd, at about twice the cost per step; everything else follows `modelling.training`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pwflow_core.modelling.autoregressive import Architecture, forward, inverse
from pwflow_core.modelling.baselines.bases import Base
from pwflow_core.modelling.blending import Shares, blend, fit_shares, sample_tail
from pwflow_core.modelling.flow import TrainingHistory
from pwflow_core.modelling.loop import Adam, Batches, average_into, batch_size, train_one, using_threads
from pwflow_core.modelling.rows import TrainingData
from pwflow_core.modelling.settings import FlowSettings
from pwflow_core.modelling.whitening import Whitening

Array = NDArray[np.float64]

_LARGEST = 1e4  # white units that a flow is trained on or evaluated at; beyond, the heavy tail decides
_BATCH_ROWS = 8192
_DRAWS = 1 << 14
_FINAL_DRAWS = 1 << 18


@dataclass(frozen=True, eq=False)
class BasedFlow:
    """p(x) = [a p_base(z(u)) |det dz/du| + b N(u; 0, 1) + ε t(u)] |det du/dx|, with u the white reading.

    Attributes:
        whitening: From readings to white ones.
        architecture: The shape of the flow.
        parameters: Of the flow, shape (P,).
        base: The base distribution, frozen.
        theta: Its parameters.
        shares: a, b and ε.
        history: How it was trained; log-densities of its flow part alone.

    """

    whitening: Whitening
    architecture: Architecture
    parameters: Tensor
    base: Base
    theta: Tensor
    shares: Shares
    history: TrainingHistory

    def log_prob(self, X: Array) -> Array:
        """Evaluate the log-density of readings (N, D), nats in raw units, shape (N,), always finite."""
        out = np.empty(len(X))
        for start in range(0, len(X), _BATCH_ROWS):
            u = self.whitening.whiten(X[start : start + _BATCH_ROWS])
            log_flow = flow_log_prob(self.architecture, self.parameters, self.base, self.theta, u)
            radius = np.einsum("nd,nd->n", u, u)
            out[start : start + len(u)] = blend(log_flow, radius, u.shape[1], self.shares)
        return out + self.whitening.log_det

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Array, NDArray[np.intp]]:
        """Draw readings (n, D) and the label that the base gives each; −1 outside of the flow."""
        u = rng.standard_normal((n, self.architecture.n_features))
        part = rng.choice(3, size=n, p=[self.shares.flow, self.shares.gaussian, self.shares.tail])
        label = np.full(n, -1, dtype=np.intp)
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        with torch.no_grad():
            z, label[part == 0] = self.base.sample(self.theta, int((part == 0).sum()), generator)
            u[part == 0] = inverse(self.architecture, self._views, z[None])[0].double().numpy()
        u[part == 2] = sample_tail(int((part == 2).sum()), u.shape[1], rng)
        return self.whitening.colour(u), label

    @property
    def n_parameters(self) -> int:
        """Free parameters: whitening, flow, base and shares."""
        d = self.architecture.n_features
        free = int(self.architecture.mask().sum())
        return d + d * (d + 1) // 2 + free + self.base.n_parameters + 2

    @property
    def _views(self) -> list[list[Tensor]]:
        return self.architecture.views(self.parameters[None])


def flow_log_prob(architecture: Architecture, parameters: Tensor, base: Base, theta: Tensor, u: Array) -> Array:
    """Evaluate the log-density of white rows (N, D) under the flow alone, nats, shape (N,)."""
    rows = torch.from_numpy(np.clip(u, -_LARGEST, _LARGEST).astype(np.float32))
    with torch.no_grad():
        z, log_det = forward(architecture, architecture.views(parameters[None]), rows[None])
        log_prob = (base.log_prob(theta, z[0]) + log_det[0]).double().numpy()
    return np.where(np.abs(u).max(axis=1) <= _LARGEST, log_prob, -np.inf)


def train_with_base(
    data: TrainingData, whitening: Whitening, base: Base, settings: FlowSettings, random_state: int
) -> BasedFlow:
    """Fit a flow and its base by weighted maximum likelihood.

    The flow starts as the identity and the base as what `base.initial` says; the weights kept are the average
    ones that did best on the held-out rows.

    Arguments:
        data: Readings in raw units. The held-out ones decide when to stop and how the density is blended; without
            any, the training rows decide.
        whitening: From readings to white ones.
        base: Where the latents come from.
        settings: As for the piecewise flows; `min_rows` is not used.
        random_state: Seed.

    """
    data = replace(data, X=np.clip(whitening.whiten(data.X), -_LARGEST, _LARGEST))
    training = _Training(data, whitening.log_det, base, settings, random_state)
    row, history = train_one(settings, training.judge, training.mean.clone, training.step)
    parameters, theta = training.split(row)
    judged = training.judged
    with using_threads(settings.threads):
        base.freeze(theta, _FINAL_DRAWS)
        log_flow = flow_log_prob(training.architecture, parameters, base, theta, judged.X)
    shares = fit_shares(log_flow, np.einsum("nd,nd->n", judged.X, judged.X), data.X.shape[1], judged.weight)
    history = replace(history, rows=training.batches.n_rows, rows_held_out=int(data.held_out.sum()))
    return BasedFlow(whitening, training.architecture, parameters, base, theta, shares, history)


class _Training:
    """The parameters of a flow and its base as one row, their average, and the optimiser."""

    def __init__(
        self, data: TrainingData, log_det: float, base: Base, settings: FlowSettings, random_state: int
    ) -> None:
        learned = data.learned
        self.judged = data.judged if data.held_out.any() else learned
        self.log_det, self.base, self.settings = log_det, base, settings
        self.u = torch.from_numpy(learned.X.astype(np.float32))
        self.weight = torch.from_numpy((learned.weight / learned.weight.mean()).astype(np.float32))
        self.batches = Batches(len(self.u), batch_size(len(self.u), settings), random_state)
        self.architecture = Architecture(
            data.X.shape[1], transforms=settings.transforms, hidden=settings.hidden, kind=settings.kind
        )
        theta = base.initial()
        self.row = torch.cat([self.architecture.initial(random_state), theta])[None]
        self.mean = self.row[0].clone()
        self.mask = torch.cat([self.architecture.mask(), torch.ones_like(theta)])
        decay = settings.weight_decay * 1000 / len(self.u) * self.architecture.decayed()
        self.adam = Adam(self.row, torch.cat([decay, torch.zeros_like(theta)])[None], settings)

    def split(self, row: Tensor) -> tuple[Tensor, Tensor]:
        """Return the parameters of the flow and those of the base."""
        n = len(row) - len(self.base.initial())
        return row[:n], row[n:]

    def step(self, step: int) -> None:
        """Take one gradient step."""
        pick = self.batches.next()
        leaf = self.row.detach().requires_grad_()
        parameters, theta = self.split(leaf[0])
        z, log_det = forward(self.architecture, self.architecture.views(parameters[None]), self.u[pick][None])
        loss = -(self.weight[pick] * (self.base.training_log_prob(theta, z[0]) + log_det[0])).mean()
        (gradient,) = torch.autograd.grad(loss, leaf)
        self.adam.step(self.row, gradient * self.mask)
        average_into(self.mean, self.row[0], step, self.settings)

    def judge(self) -> float:
        """Return the mean log-density of the held-out rows under the averaged weights, nats in raw units."""
        parameters, theta = self.split(self.mean)
        with torch.no_grad():
            self.base.freeze(theta, _DRAWS)
        log_prob = flow_log_prob(self.architecture, parameters, self.base, theta, self.judged.X)
        return float(self.judged.weight @ log_prob / self.judged.weight.sum()) + self.log_det
