"""Train the flows of many clusters side by side, each with its own early stopping."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pwflow_core.errors import ConfigurationError
from pwflow_core.modelling.autoregressive import Architecture, forward, loss_and_gradient, mixing_log_det
from pwflow_core.modelling.blending import fit_shares, log_gaussian
from pwflow_core.modelling.components import Components
from pwflow_core.modelling.flow import ClusterFlow, TrainingHistory
from pwflow_core.modelling.gaussian_mixture import fit_components
from pwflow_core.modelling.loop import (
    Adam,
    Batches,
    EarlyStopping,
    average_into,
    batch_size,
    run_passes,
    using_threads,
)
from pwflow_core.modelling.rows import TrainingData
from pwflow_core.modelling.settings import FlowSettings
from pwflow_core.modelling.validation import paired_gain
from pwflow_core.modelling.whitening import Whitening

Array = NDArray[np.float64]

_FEWEST_HELD_OUT = 8
_NEGLIGIBLE = 1e-3  # share of the largest weight below which a row is not worth a gradient
_NUMBERS_PER_LINE = 16  # single-precision numbers in 64 bytes, the width of a vector


@dataclass(frozen=True, eq=False)
class ClusterRows:
    """What one cluster learns from.

    Attributes:
        X: Training rows in raw units, shape (N, D).
        weight: Responsibility times sample weight, shape (N,).
        X_held_out: Rows for early stopping, shape (M, D).
        weight_held_out: Their weights, shape (M,).
        mean: Of the cluster's Gaussian, raw units, shape (D,).
        covariance: Of the cluster's Gaussian, raw units, shape (D, D).
        start: A flow to go on from instead of the Gaussian.

    """

    X: Array
    weight: Array
    X_held_out: Array
    weight_held_out: Array
    mean: Array
    covariance: Array
    start: ClusterFlow | None = None


@dataclass(frozen=True)
class TrainingProgress:
    """One evaluation of one cluster.

    Attributes:
        cluster: Position in the list given to `train_flows`.
        step: Gradient steps done.
        held_out: Mean log-density of its held-out rows, nats, raw units.
        best: The best so far.
        running: Clusters still training.

    """

    cluster: int
    step: int
    held_out: float
    best: float
    running: int


def train_flows(
    rows: Sequence[ClusterRows],
    settings: FlowSettings | Sequence[FlowSettings] | None = None,
    *,
    random_state: int = 0,
    on_progress: Callable[[TrainingProgress], None] | None = None,
) -> list[ClusterFlow]:
    """Fit one flow per cluster by weighted maximum likelihood.

    Every flow starts as its cluster's Gaussian and the weights kept are those that did best on the held-out
    rows, so no flow is worse there than its Gaussian. Clusters with equal batches and settings run as one
    stack, and a cluster leaves it when it is done; what a cluster learns does not depend on the others.

    Arguments:
        rows: One entry per cluster.
        settings: How to train: one for all, or one per cluster.
        random_state: Seed; the same for every cluster.
        on_progress: Called at each evaluation of each cluster.

    Returns:
        One flow per entry, in the same order.

    Raises:
        ValueError: There are not as many settings as clusters.

    """
    each = [settings or FlowSettings()] * len(rows) if isinstance(settings, FlowSettings | None) else list(settings)
    if len(each) != len(rows):
        raise ValueError(f"Expected settings for {len(rows)} clusters, got {len(each)}.")
    prepared = [PreparedCluster(i, entry, s) for i, (entry, s) in enumerate(zip(rows, each, strict=True))]
    flows = _train(prepared, random_state, on_progress)
    contested = [c for c in prepared if c.settings.kind == "auto" and c.start is None and not c.is_too_small]
    rivals = [PreparedCluster(c.position, rows[c.position], replace(c.settings, kind="spline")) for c in contested]
    for cluster, rival in zip(contested, _train(rivals, random_state, on_progress), strict=True):
        entry = rows[cluster.position]
        before, after = (flow.log_prob(entry.X_held_out) for flow in (flows[cluster.position], rival))
        gain, error = paired_gain(before, after, entry.weight_held_out)
        if gain > error:
            flows[cluster.position] = rival
    return flows


def _train(
    clusters: list[PreparedCluster], random_state: int, on_progress: Callable[[TrainingProgress], None] | None
) -> list[ClusterFlow]:
    """Train clusters, stacked where they can be; return their flows in the same order."""
    flows: dict[int, ClusterFlow] = {}
    stacks: dict[tuple[int, Architecture, FlowSettings], list[PreparedCluster]] = {}
    for cluster in clusters:
        if cluster.is_too_small:
            history = TrainingHistory(rows=len(cluster.u), rows_held_out=len(cluster.u_held_out))
            flows[cluster.position] = cluster.start or cluster.flow(None, history)
        else:
            stacks.setdefault((cluster.batch, cluster.architecture, cluster.settings), []).append(cluster)
    for (_, _, settings), stack in stacks.items():
        with torch.no_grad(), using_threads(settings.threads):
            trained = _Stack(stack, settings, random_state, on_progress).run()
        flows |= {cluster.position: flow for cluster, flow in zip(stack, trained, strict=True)}
    return [flows[cluster.position] for cluster in clusters]


def training_device(name: str) -> torch.device:
    """Return the device of that name; `auto` takes an accelerator if there is one.

    Raises:
        ConfigurationError: There is none, and it was asked for.
    """
    has_accelerator = torch.cuda.is_available()
    if name.startswith("cuda") and not has_accelerator:
        raise ConfigurationError(
            "Expected a GPU for compute.device = 'cuda', but PyTorch sees none: set it to 'auto', or install a PyTorch "
            "with CUDA and the driver of the GPU."
        )
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if has_accelerator else "cpu")


class PreparedCluster:
    """One cluster's rows, white and ready."""

    def __init__(self, position: int, rows: ClusterRows, settings: FlowSettings) -> None:
        self.position = position
        self.settings = settings
        self.start = None if rows.start is None or rows.start.is_gaussian else rows.start
        kind = "affine" if settings.kind == "auto" else settings.kind
        self.architecture = Architecture(
            len(rows.mean), transforms=settings.transforms, hidden=settings.hidden, kind=kind
        )
        if self.start is None:
            self.whitening = Whitening.from_gaussian(rows.mean, rows.covariance)
        else:
            self.whitening, self.architecture = self.start.whitening, self.start.architecture
        self.u, self.weight = self._white(rows.X, rows.weight)
        self.u_held_out, self.weight_held_out = self._white(rows.X_held_out, rows.weight_held_out)
        self.batch = batch_size(len(self.u), settings)

    @property
    def is_too_small(self) -> bool:
        """Whether there are too few rows to train a flow or to tell when to stop."""
        return len(self.u) < self.settings.min_rows or len(self.u_held_out) < _FEWEST_HELD_OUT

    def flow(self, parameters: Tensor | None, history: TrainingHistory) -> ClusterFlow:
        """Put the cluster's density together; its held-out rows say how much of it is the flow."""
        n_features, log_flow = self.architecture.n_features, None
        if parameters is not None:
            views = self.architecture.views(parameters[None])
            z, log_det = forward(self.architecture, views, self.u_held_out[None])
            log_flow = log_gaussian((z[0].double() ** 2).sum(dim=1).numpy(), n_features)
            log_flow = log_flow + log_det[0].double().numpy()
        radius = (self.u_held_out.double() ** 2).sum(dim=1).numpy()
        shares = fit_shares(log_flow, radius, n_features, self.weight_held_out.double().numpy())
        return ClusterFlow(self.whitening, self.architecture, parameters, history, shares, self.components)

    @cached_property
    def components(self) -> Components | None:
        """The Gaussian mixture beside the flow; None with too few rows for one, or where one Gaussian is enough."""
        if self.is_too_small:
            return None
        u = torch.cat([self.u, self.u_held_out]).double().numpy()
        weight = torch.cat([self.weight, self.weight_held_out]).double().numpy()
        found = fit_components(TrainingData.unlabelled(u, weight, np.arange(len(u)) >= len(self.u)))
        return None if found is None else Components.of(found)

    def _white(self, X: Array, weight: Array) -> tuple[Tensor, Tensor]:
        keep = weight > _NEGLIGIBLE * weight.max(initial=0.0)
        weight = weight[keep] / max(weight[keep].mean(), 1e-300) if keep.any() else weight[keep]
        u = np.clip(self.whitening.whiten(X[keep]), -1e4, 1e4)
        return torch.from_numpy(u.astype(np.float32)), torch.from_numpy(weight.astype(np.float32))


def _aligned(rows: Tensor) -> Tensor:
    """Pad rows (..., P) with zeros, so that each one of a stack begins on a multiple of 64 bytes.

    The last digits of a product depend on where its factors begin, on some processors: so they are those of a
    flow that is trained alone.
    """
    return torch.nn.functional.pad(rows, (0, -rows.shape[-1] % _NUMBERS_PER_LINE))


class _Stack:
    """Clusters with one batch size, trained together."""

    def __init__(
        self,
        clusters: list[PreparedCluster],
        settings: FlowSettings,
        random_state: int,
        on_progress: Callable[[TrainingProgress], None] | None,
    ) -> None:
        self.settings, self.on_progress = settings, on_progress
        self.architecture = clusters[0].architecture
        self.batch = clusters[0].batch
        self.clusters = clusters
        self.histories = [TrainingHistory(rows=len(c.u), rows_held_out=len(c.u_held_out)) for c in clusters]
        self.running = list(range(len(clusters)))
        self.stopping = [EarlyStopping(settings.patience) for _ in clusters]
        self.batches = [Batches(len(c.u), self.batch, random_state) for c in clusters]
        self.device = training_device(settings.device)
        self.u = torch.cat([c.u for c in clusters]).to(self.device)
        self.weight = torch.cat([c.weight for c in clusters]).to(self.device)
        self.offset = np.cumsum([0] + [len(c.u) for c in clusters]).tolist()
        identity = self.architecture.initial(random_state)
        given = [c.start.parameters if c.start else None for c in clusters]
        self.parameters = _aligned(torch.stack([identity if p is None else p for p in given])).to(self.device)
        self.mean, self.best = self.parameters.clone(), self.parameters.clone()
        self.mask = _aligned(self.architecture.mask()).to(self.device)
        rows = torch.tensor([[float(len(cluster.u))] for cluster in clusters])
        decay_rate = (settings.weight_decay * 1000 / rows * _aligned(self.architecture.decayed())).to(self.device)
        self.adam = Adam(self.parameters, decay_rate, settings)
        self.gradient = torch.zeros_like(self.parameters)
        self.total = torch.zeros(len(clusters), device=self.device)
        self._view()

    def run(self) -> list[ClusterFlow]:
        started = time.perf_counter()
        run_passes(self.settings, self._judge, self._step)
        return [self._finish(i, time.perf_counter() - started) for i in range(len(self.clusters))]

    def _view(self) -> None:
        self.views, self.gradient_views = map(self.architecture.views, (self.parameters, self.gradient))

    def _step(self, step: int) -> None:
        pick = torch.stack([self.batches[i].next() + self.offset[i] for i in self.running]).to(self.device)
        weight = self.weight[pick] / self.batch
        loss = loss_and_gradient(self.architecture, self.views, self.gradient_views, self.u[pick], weight)
        self.adam.step(self.parameters, self.gradient.mul_(self.mask))
        average_into(self.mean, self.parameters, step, self.settings)
        self.total = self.total + loss

    def _judge(self, step: int) -> bool:
        """Judge each running cluster on its held-out rows, and go on with those that may still gain."""
        loss = self.total / self.settings.steps_per_pass - mixing_log_det(self.views) if step else self.total
        stay = [row for row, i in enumerate(self.running) if self._may_gain(row, i, float(loss[row]), step)]
        self.total = torch.zeros_like(self.total)
        if step and len(stay) < len(self.running):
            self.running = [self.running[row] for row in stay]
            self.parameters, self.mean = self.parameters[stay].contiguous(), self.mean[stay].contiguous()
            self.gradient, self.total = self.gradient[stay].contiguous(), self.total[stay]
            self.adam.keep(stay)
            self._view()
        return bool(self.running)

    def _may_gain(self, row: int, i: int, loss: float, step: int) -> bool:
        cluster, history, stopping = self.clusters[i], self.histories[i], self.stopping[i]
        views = self.architecture.views(self.mean[row : row + 1])
        z, log_det = forward(self.architecture, views, cluster.u_held_out[None].to(self.device))
        density = log_det[0].double().cpu() - 0.5 * (z[0].double().cpu() ** 2).sum(dim=1)
        weight = cluster.weight_held_out.double()
        score = float((weight * density).sum() / weight.sum())
        shift = cluster.whitening.log_det - 0.5 * self.architecture.n_features * np.log(2 * np.pi)
        history.steps.append(step)
        history.train.append(float(shift - loss) if step else float("-inf"))
        history.held_out.append(score + shift)
        if stopping.improves(score):
            self.best[i] = self.mean[row]
            if step:
                self.histories[i] = replace(history, best_step=step)
        if not np.isfinite(loss):
            stopping.stopped = "diverged"
        if self.on_progress is not None:
            best = stopping.best_score + shift
            self.on_progress(TrainingProgress(cluster.position, step, score + shift, best, len(self.running)))
        return stopping.goes_on

    def _finish(self, i: int, seconds: float) -> ClusterFlow:
        history, stopped = self.histories[i], self.stopping[i].stopped
        history.train[0] = history.train[1] if len(history.train) > 1 else history.held_out[0]
        if history.best_step == 0 and stopped == "patience":
            stopped = "no_gain"
        cluster = self.clusters[i]
        best = self.best[i, : self.architecture.n_parameters].cpu().clone()
        kept = None if history.best_step == 0 and cluster.start is None else best
        return cluster.flow(kept, replace(history, seconds=seconds, stopped=stopped))
