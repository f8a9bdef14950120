"""Train clusters and flows together on the likelihood of the mixture: the paper's future work.

The gradient of log p(x) is the sum of the flows' own gradients, each weighted by its responsibility (Fisher's
identity), so this is ordinary training with responsibilities computed for every batch.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pwflow_core.modelling.autoregressive import forward, loss_and_gradient
from pwflow_core.modelling.flow import ClusterFlow
from pwflow_core.modelling.loop import Adam, Batches, average_into, train_one
from pwflow_core.modelling.rows import TrainingData
from pwflow_core.modelling.settings import FlowSettings
from pwflow_core.modelling.training import ClusterRows, PreparedCluster
from pwflow_core.modelling.whitening import Whitening

Array = NDArray[np.float64]


def train_jointly(
    flows: list[ClusterFlow],
    weights: Array,
    rows: list[ClusterRows],
    data: TrainingData,
    settings: FlowSettings,
    random_state: int,
) -> tuple[list[ClusterFlow], Array]:
    """Go on training all flows and the mixture weights on the mixture likelihood.

    Arguments:
        flows: Trained flows; those that stayed Gaussians start as the identity.
        weights: Mixture weights, shape (K,).
        rows: Rows by cluster: the held-out ones decide how each density is blended at the end.
        data: All rows; the held-out ones decide when to stop.
        settings: Of the flows; one architecture for all.
        random_state: Seed of the batches.

    Returns:
        New flows and mixture weights: the best on the held-out rows, which may be those given.

    """
    prepared = [PreparedCluster(k, entry, settings) for k, entry in enumerate(rows)]
    training = _Joint(flows, weights, prepared, data, settings, random_state)
    with torch.no_grad():
        (parameters, log_weights), history = train_one(settings, training.judge, training.copy, training.step)
        found = [
            cluster.flow(
                None if history.best_step == 0 and flows[k].is_gaussian else parameters[k].clone(),
                replace(
                    history,
                    rows=len(cluster.u),
                    rows_held_out=len(cluster.u_held_out),
                    stopped="joint",
                ),
            )
            for k, cluster in enumerate(prepared)
        ]
    return found, np.asarray(torch.softmax(log_weights.double(), dim=0).numpy())


class _Joint:
    """All flows as rows of one matrix, and the weights of their mixture."""

    def __init__(
        self,
        flows: list[ClusterFlow],
        weights: Array,
        prepared: list[PreparedCluster],
        data: TrainingData,
        settings: FlowSettings,
        random_state: int,
    ) -> None:
        self.settings, self.architecture = settings, prepared[0].architecture
        identity = self.architecture.initial(random_state)
        self.parameters = torch.stack([identity if f.parameters is None else f.parameters for f in flows])
        self.log_weights = torch.from_numpy(np.log(weights)).float()
        white, learned, judged = _Whitener([c.whitening for c in prepared]), data.learned, data.judged
        self.log_det = white.log_det
        self.u, self.u_held_out = white(learned.X), white(judged.X)
        self.share = torch.from_numpy((learned.weight / learned.weight.mean()).astype(np.float32))
        self.judged = torch.from_numpy(judged.weight / judged.weight.sum())
        self.mask = self.architecture.mask()
        decay = settings.weight_decay * len(flows) * 1000 / len(learned.X)
        self.adam = Adam(self.parameters, (decay * self.architecture.decayed()).repeat(len(flows), 1), settings)
        self.mean, self.gradient = self.parameters.clone(), torch.zeros_like(self.parameters)
        self.views, self.gradient_views = map(self.architecture.views, (self.parameters, self.gradient))
        ideal = len(learned.X) // settings.steps_per_pass
        size = min(settings.max_batch, max(settings.min_batch, ideal))
        self.batches = Batches(len(learned.X), size, random_state)

    def copy(self) -> tuple[Tensor, Tensor]:
        return self.mean.clone(), self.log_weights.clone()

    def judge(self) -> float:
        """Return the mean log-density of the held-out rows under the averaged flows, nats."""
        joint = self._log_joint(self.architecture.views(self.mean), self.u_held_out)
        constant = 0.5 * self.architecture.n_features * np.log(2 * np.pi)
        return float(self.judged @ torch.logsumexp(joint, dim=0)) - float(constant)

    def step(self, step: int) -> None:
        """Take one gradient step, with the responsibilities of the batch as they are now."""
        pick = self.batches.next()
        rows, share = self.u[:, pick], self.share[pick]
        responsibility = torch.softmax(self._log_joint(self.views, rows), dim=0).float() * share
        loss_and_gradient(self.architecture, self.views, self.gradient_views, rows, responsibility / self.batches.size)
        self.adam.step(self.parameters, self.gradient.mul_(self.mask))
        average_into(self.mean, self.parameters, step - 1, self.settings)
        mass = torch.exp(self.log_weights).lerp(responsibility.mean(dim=1) / share.mean(), 0.01)
        self.log_weights = torch.log(mass.clamp(min=1e-12) / mass.sum())

    def _log_joint(self, views: list[list[Tensor]], u: Tensor) -> Tensor:
        """Evaluate log w_k + log p_k of white rows (K, B, D) but for the constant of the Gaussian, shape (K, B)."""
        z, log_det = forward(self.architecture, views, u)
        log_prob = log_det.double() - 0.5 * (z.double() ** 2).sum(dim=-1)
        return log_prob + (self.log_det + self.log_weights.double())[:, None]


class _Whitener:
    """White coordinates of rows under every cluster, shape (K, N, D)."""

    def __init__(self, whitenings: list[Whitening]) -> None:
        self.whitenings = whitenings
        self.log_det = torch.tensor([w.log_det for w in whitenings], dtype=torch.float64)

    def __call__(self, X: Array) -> Tensor:
        white = [np.clip(w.whiten(X), -1e4, 1e4).astype(np.float32) for w in self.whitenings]
        return torch.from_numpy(np.stack(white))
