"""Train one flow together with its base distribution, by autograd over the parameters of the stacked flows.

The hand-written gradient of `autoregressive` is that of a standard-normal base. A trainable base takes
autograd, at about twice the cost per step; everything else follows `modelling.training`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pwflow_core.modelling.autoregressive import Architecture, forward, inverse
from pwflow_core.modelling.baselines.bases import Base
from pwflow_core.modelling.blending import Shares, blend, fit_shares, sample_tail
from pwflow_core.modelling.flow import TrainingHistory
from pwflow_core.modelling.training import Adam, FlowSettings
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
    X: Array,
    weight: Array,
    held_out: NDArray[np.bool_],
    whitening: Whitening,
    base: Base,
    settings: FlowSettings,
    random_state: int,
) -> BasedFlow:
    """Fit a flow and its base by weighted maximum likelihood.

    The flow starts as the identity and the base as what `base.initial` says; the weights kept are the average
    ones that did best on the held-out rows.

    Arguments:
        X: Readings in raw units, shape (N, D).
        weight: Row weights, shape (N,).
        held_out: Rows that decide when to stop and how the density is blended, shape (N,). Without any, the
            training rows decide.
        whitening: From readings to white ones.
        base: Where the latents come from.
        settings: As for the piecewise flows; `min_rows` is not used.
        random_state: Seed.

    """
    white = np.clip(whitening.whiten(X), -_LARGEST, _LARGEST)
    judged = white[held_out] if held_out.any() else white
    judged_weight = weight[held_out] if held_out.any() else weight
    learn = ~held_out
    u = torch.from_numpy(white[learn].astype(np.float32))
    share = torch.from_numpy((weight[learn] / weight[learn].mean()).astype(np.float32))
    architecture = Architecture(X.shape[1], transforms=settings.transforms, hidden=settings.hidden, kind=settings.kind)
    training = _Training(architecture, base, settings, random_state, len(u))
    generator = torch.Generator().manual_seed(random_state)
    power = 2 ** int(np.round(np.log2(max(len(u) / settings.steps_per_pass, 1.0))))
    batch = min(int(np.clip(power, settings.min_batch, settings.max_batch)), len(u))
    order = torch.empty(0, dtype=torch.long)
    history, best, best_score, best_step, since_best = TrainingHistory(), training.mean.clone(), -np.inf, 0, 0
    stopped, started = "max_steps", time.perf_counter()
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        for step in range(settings.max_steps + 1):
            if step % settings.steps_per_pass == 0:
                score = training.judge(judged, judged_weight)
                history.steps.append(step)
                history.held_out.append(score + whitening.log_det)
                since_best += 1
                if score > best_score:
                    best, best_score, best_step, since_best = training.mean.clone(), score, step, 0
                if since_best >= settings.patience or not np.isfinite(score):
                    stopped = "patience" if np.isfinite(score) else "diverged"
                    break
            if len(order) < batch:
                order = torch.randperm(len(u), generator=generator)
            pick, order = order[:batch], order[batch:]
            training.step(u[pick], share[pick])
        parameters, theta = training.split(best)
        base.freeze(theta, _FINAL_DRAWS)
        log_flow = flow_log_prob(architecture, parameters, base, theta, judged)
        shares = fit_shares(log_flow, np.einsum("nd,nd->n", judged, judged), X.shape[1], judged_weight)
    finally:
        torch.set_num_threads(threads)
    history = TrainingHistory(
        steps=history.steps,
        held_out=history.held_out,
        best_step=best_step,
        seconds=time.perf_counter() - started,
        rows=len(u),
        rows_held_out=int(held_out.sum()),
        stopped=stopped,
    )
    return BasedFlow(whitening, architecture, parameters, base, theta, shares, history)


class _Training:
    """The parameters of a flow and its base as one row, their average, and the optimiser."""

    def __init__(
        self, architecture: Architecture, base: Base, settings: FlowSettings, random_state: int, n_rows: int
    ) -> None:
        self.architecture, self.base, self.settings = architecture, base, settings
        theta = base.initial()
        self.row = torch.cat([architecture.initial(random_state), theta])[None]
        self.mean = self.row[0].clone()
        self.mask = torch.cat([architecture.mask(), torch.ones_like(theta)])
        decay = settings.weight_decay * 1000 / n_rows * architecture.decayed()
        self.adam = Adam(self.row, torch.cat([decay, torch.zeros_like(theta)])[None], settings)
        self.count = 0

    def split(self, row: Tensor) -> tuple[Tensor, Tensor]:
        """Return the parameters of the flow and those of the base."""
        n = len(row) - len(self.base.initial())
        return row[:n], row[n:]

    def step(self, u: Tensor, weight: Tensor) -> None:
        """Take one gradient step on white rows (B, D)."""
        leaf = self.row.detach().requires_grad_()
        parameters, theta = self.split(leaf[0])
        z, log_det = forward(self.architecture, self.architecture.views(parameters[None]), u[None])
        loss = -(weight * (self.base.training_log_prob(theta, z[0]) + log_det[0])).mean()
        (gradient,) = torch.autograd.grad(loss, leaf)
        self.adam.step(self.row, gradient * self.mask)
        self.count += 1
        decay = min(self.settings.averaging, (1 + self.count) / (10 + self.count))
        self.mean.lerp_(self.row[0], 1 - decay)

    def judge(self, u: Array, weight: Array) -> float:
        """Return the mean log-density of held-out white rows under the averaged weights, nats."""
        parameters, theta = self.split(self.mean)
        with torch.no_grad():
            self.base.freeze(theta, _DRAWS)
        return float(weight @ flow_log_prob(self.architecture, parameters, self.base, theta, u) / weight.sum())
