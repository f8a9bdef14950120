"""Train clusters and flows together on the likelihood of the mixture: the paper's future work.

The gradient of log p(x) is the sum of the flows' own gradients, each weighted by its responsibility (Fisher's
identity), so this is ordinary training with responsibilities computed afresh for every batch.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pwflow_core.modelling.autoregressive import forward, loss_and_gradient
from pwflow_core.modelling.flow import ClusterFlow, TrainingHistory
from pwflow_core.modelling.training import Adam, ClusterRows, FlowSettings, PreparedCluster
from pwflow_core.modelling.whitening import Whitening

Array = NDArray[np.float64]


def train_jointly(
    flows: list[ClusterFlow],
    weights: Array,
    rows: list[ClusterRows],
    X: Array,
    weight: Array,
    X_held_out: Array,
    weight_held_out: Array,
    settings: FlowSettings,
    random_state: int,
) -> tuple[list[ClusterFlow], Array]:
    """Go on training all flows and the mixture weights on the mixture likelihood.

    Arguments:
        flows: Trained flows; those that stayed Gaussians start as the identity.
        weights: Mixture weights, shape (K,).
        rows: Rows by cluster: the held-out ones decide how each density is blended at the end.
        X: Training rows, raw units, shape (N, D).
        weight: Their weights, shape (N,).
        X_held_out: Rows that decide when to stop, shape (M, D).
        weight_held_out: Their weights, shape (M,).
        settings: Of the flows; one architecture for all.
        random_state: Seed of the batches.

    Returns:
        New flows and mixture weights: the best on the held-out rows, which may be those given.

    """
    prepared = [PreparedCluster(k, entry, settings) for k, entry in enumerate(rows)]
    architecture = prepared[0].architecture
    identity = architecture.initial(random_state)
    parameters = torch.stack([identity if f.parameters is None else f.parameters for f in flows])
    white = _Whitener([cluster.whitening for cluster in prepared])
    u, u_held_out = white(X), white(X_held_out)
    share = torch.from_numpy((weight / weight.mean()).astype(np.float32))
    judged = torch.from_numpy(weight_held_out / weight_held_out.sum())
    log_weights = torch.from_numpy(np.log(weights)).float()
    mask, decay = architecture.mask(), settings.weight_decay * len(flows) * 1000 / len(X)
    adam = Adam(parameters, (decay * architecture.decayed()).repeat(len(flows), 1), settings)
    mean, gradient = parameters.clone(), torch.zeros_like(parameters)
    views, gradient_views = architecture.views(parameters), architecture.views(gradient)
    batch = min(settings.max_batch, max(settings.min_batch, len(X) // settings.steps_per_pass))
    generator = torch.Generator().manual_seed(random_state)
    order = torch.empty(0, dtype=torch.long)
    best, best_score, best_step, since_best = (mean.clone(), log_weights), -np.inf, 0, 0
    started, history = time.perf_counter(), TrainingHistory(stopped="max_steps")
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        with torch.no_grad():
            for step in range(settings.max_steps + 1):
                if step % settings.steps_per_pass == 0:
                    joint = _log_joint(forward(architecture, architecture.views(mean), u_held_out))
                    joint = joint + (white.log_det + log_weights.double())[:, None]
                    score = float(judged @ torch.logsumexp(joint, dim=0))
                    history.steps.append(step)
                    history.held_out.append(score - 0.5 * X.shape[1] * np.log(2 * np.pi))
                    since_best += 1
                    if score > best_score:
                        best, best_score, best_step = (mean.clone(), log_weights.clone()), score, step
                        since_best = 0
                    if since_best >= settings.patience or not np.isfinite(score):
                        break
                if len(order) < batch:
                    order = torch.randperm(len(X), generator=generator)
                pick, order = order[:batch], order[batch:]
                rows_now = u[:, pick]
                joint = _log_joint(forward(architecture, views, rows_now))
                joint = joint + (white.log_det + log_weights.double())[:, None]
                responsibility = torch.softmax(joint, dim=0).float() * share[pick]
                loss_and_gradient(architecture, views, gradient_views, rows_now, responsibility / batch)
                adam.step(parameters, gradient.mul_(mask))
                mean.lerp_(parameters, 1 - min(settings.averaging, (1 + step) / (10 + step)))
                mass = torch.exp(log_weights).lerp(responsibility.mean(dim=1) / share[pick].mean(), 0.01)
                log_weights = torch.log(mass.clamp(min=1e-12) / mass.sum())
    finally:
        torch.set_num_threads(threads)
    found = [
        cluster.flow(
            best[0][k].clone(),
            TrainingHistory(
                steps=history.steps,
                held_out=history.held_out,
                best_step=flows[k].history.best_step + best_step,
                seconds=time.perf_counter() - started,
                rows=len(cluster.u),
                rows_held_out=len(cluster.u_held_out),
                stopped="joint",
            ),
        )
        for k, cluster in enumerate(prepared)
    ]
    return found, np.asarray(torch.softmax(best[1].double(), dim=0).numpy())


def _log_joint(latent: tuple[Tensor, Tensor]) -> Tensor:
    z, log_det = latent
    return log_det.double() - 0.5 * (z.double() ** 2).sum(dim=-1)


class _Whitener:
    """White coordinates of rows under every cluster, shape (K, N, D)."""

    def __init__(self, whitenings: list[Whitening]) -> None:
        self.whitenings = whitenings
        self.log_det = torch.tensor([w.log_det for w in whitenings], dtype=torch.float64)

    def __call__(self, X: Array) -> Tensor:
        white = [np.clip(w.whiten(X), -1e4, 1e4).astype(np.float32) for w in self.whitenings]
        return torch.from_numpy(np.stack(white))
