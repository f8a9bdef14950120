"""Train the flows of many clusters side by side, each with its own early stopping."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pwflow_core.modelling.autoregressive import Architecture, forward, loss_and_gradient, mixing_log_det
from pwflow_core.modelling.blending import fit_shares, log_gaussian
from pwflow_core.modelling.flow import ClusterFlow, TrainingHistory
from pwflow_core.modelling.validation import paired_gain
from pwflow_core.modelling.whitening import Whitening

Array = NDArray[np.float64]

_FEWEST_HELD_OUT = 8
_NEGLIGIBLE = 1e-3  # share of the largest weight below which a row is not worth a gradient


@dataclass(frozen=True)
class FlowSettings:
    """How flows are built and trained.

    Attributes:
        kind: What a transform does to a coordinate: `affine`, or a rational-quadratic `spline` for shapes
            that shifting and scaling cannot reach; a spline costs about four times as much. `auto` trains
            both and keeps the spline where the held-out rows of the cluster gain by more than one standard
            error.
        transforms: Autoregressive transforms per flow.
        hidden: Hidden units of each transform.
        learning_rate: Of Adam, constant; the weights are averaged instead.
        steps_per_pass: Gradient steps per pass over a cluster's rows; this sets the batch.
        min_batch: Smallest batch, a power of two.
        max_batch: Largest batch, a power of two.
        max_steps: Most gradient steps.
        patience: Passes without a gain on the held-out rows before a cluster stops.
        averaging: Decay of the moving average of the weights, per step.
        weight_decay: Pull of the weights towards the identity, per step and learning rate, for a cluster of
            1,000 rows; it fades as 1 / rows, as a prior does.
        clip: Largest norm of a cluster's gradient.
        min_rows: Fewest training rows for a flow; a smaller cluster stays a Gaussian.
        threads: Threads torch may use while training.
        device: Where to train: `auto` takes an accelerator if there is one.

    """

    kind: Literal["affine", "spline", "auto"] = "affine"
    transforms: int = 3
    hidden: int = 32
    learning_rate: float = 3e-3
    steps_per_pass: int = 16
    min_batch: int = 32
    max_batch: int = 512
    max_steps: int = 4000
    patience: int = 12
    averaging: float = 0.99
    weight_decay: float = 0.3
    clip: float = 5.0
    min_rows: int = 64
    threads: int = 1
    device: str = "auto"


def for_all_readings(settings: FlowSettings) -> FlowSettings:
    """Return settings for one flow over all readings at once, by those for the flows of clusters.

    More parameters than eight flows of a cluster each, twice the steps and twice the patience: of three sizes and
    two learning rates this did best on eight-dimensional readings with many modes.
    """
    return replace(
        settings,
        kind="affine" if settings.kind == "auto" else settings.kind,
        transforms=max(8, settings.transforms),
        hidden=max(128, settings.hidden),
        patience=2 * settings.patience,
        max_steps=2 * settings.max_steps,
    )


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
    threads = torch.get_num_threads()
    try:
        with torch.no_grad():
            for (_, _, settings), stack in stacks.items():
                torch.set_num_threads(settings.threads)
                for cluster, flow in zip(stack, _Stack(stack, settings, random_state).run(on_progress), strict=True):
                    flows[cluster.position] = flow
    finally:
        torch.set_num_threads(threads)
    return [flows[cluster.position] for cluster in clusters]


def training_device(name: str) -> torch.device:
    """Return the device of that name; `auto` takes an accelerator if there is one."""
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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
        ideal = len(self.u) / settings.steps_per_pass
        power = 2 ** int(np.round(np.log2(max(ideal, 1.0))))
        self.batch = int(np.clip(power, settings.min_batch, settings.max_batch))
        self.batch = min(self.batch, 2 ** int(np.log2(max(len(self.u), 1))))

    @property
    def is_too_small(self) -> bool:
        """Whether there are too few rows to train a flow or to tell when to stop."""
        return len(self.u) < self.settings.min_rows or len(self.u_held_out) < _FEWEST_HELD_OUT

    def flow(self, parameters: Tensor | None, history: TrainingHistory) -> ClusterFlow:
        """Put the cluster's density together; its held-out rows say how much of it is the flow."""
        n_features, log_flow = self.architecture.n_features, None
        if parameters is not None and not history.is_gaussian:
            views = self.architecture.views(parameters[None])
            z, log_det = forward(self.architecture, views, self.u_held_out[None])
            log_flow = log_gaussian((z[0].double() ** 2).sum(dim=1).numpy(), n_features)
            log_flow = log_flow + log_det[0].double().numpy()
        radius = (self.u_held_out.double() ** 2).sum(dim=1).numpy()
        shares = fit_shares(log_flow, radius, n_features, self.weight_held_out.double().numpy())
        return ClusterFlow(self.whitening, self.architecture, parameters, history, shares)

    def _white(self, X: Array, weight: Array) -> tuple[Tensor, Tensor]:
        keep = weight > _NEGLIGIBLE * weight.max(initial=0.0)
        weight = weight[keep] / max(weight[keep].mean(), 1e-300) if keep.any() else weight[keep]
        u = np.clip(self.whitening.whiten(X[keep]), -1e4, 1e4)
        return torch.from_numpy(u.astype(np.float32)), torch.from_numpy(weight.astype(np.float32))


class _Stack:
    """Clusters with one batch size, trained together."""

    def __init__(self, clusters: list[PreparedCluster], settings: FlowSettings, random_state: int) -> None:
        self.settings = settings
        self.architecture = clusters[0].architecture
        self.batch = clusters[0].batch
        self.clusters = clusters
        self.histories = [
            TrainingHistory(
                best_step=c.start.history.best_step if c.start else 0,
                rows=len(c.u),
                rows_held_out=len(c.u_held_out),
                stopped="max_steps",
            )
            for c in clusters
        ]
        self.done = [c.start.history.best_step if c.start else 0 for c in clusters]
        self.running = list(range(len(clusters)))
        self.generators = [torch.Generator().manual_seed(random_state) for _ in clusters]
        self.device = training_device(settings.device)
        self.u = torch.cat([c.u for c in clusters]).to(self.device)
        self.weight = torch.cat([c.weight for c in clusters]).to(self.device)
        self.offset = np.cumsum([0] + [len(c.u) for c in clusters]).tolist()
        self.orders = [torch.empty(0, dtype=torch.long) for _ in clusters]
        identity = self.architecture.initial(random_state)
        given = [c.start.parameters if c.start else None for c in clusters]
        self.parameters = torch.stack([identity if p is None else p for p in given]).to(self.device)
        self.best = self.parameters.clone()
        self.best_score = torch.full((len(clusters),), -torch.inf, dtype=torch.float64)
        self.since_best = [0] * len(clusters)

    def run(self, on_progress: Callable[[TrainingProgress], None] | None) -> list[ClusterFlow]:
        started = time.perf_counter()
        settings, architecture = self.settings, self.architecture
        mask = architecture.mask().to(self.device)
        mean = self.parameters.clone()
        rows = torch.tensor([[float(len(cluster.u))] for cluster in self.clusters])
        decay_rate = (settings.weight_decay * 1000 / rows * architecture.decayed()).to(self.device)
        adam = Adam(self.parameters, decay_rate, settings)
        gradient = torch.zeros_like(self.parameters)
        views, gradient_views = architecture.views(self.parameters), architecture.views(gradient)
        total, since = torch.zeros(len(self.running), device=self.device), 0
        self._evaluate(mean, total, 0, on_progress)
        for step in range(1, settings.max_steps + 1):
            pick = self._next_batch()
            weight = self.weight[pick] / self.batch
            loss = loss_and_gradient(architecture, views, gradient_views, self.u[pick], weight)
            adam.step(self.parameters, gradient.mul_(mask))
            decay = min(settings.averaging, (1 + step) / (10 + step))
            mean.lerp_(self.parameters, 1 - decay)
            total, since = total + loss, since + 1
            if step % settings.steps_per_pass == 0:
                loss = total / since - mixing_log_det(views)
                stay = self._evaluate(mean, loss, step, on_progress)
                total, since = torch.zeros_like(total), 0
                if len(stay) < len(self.running):
                    self.running = [self.running[i] for i in stay]
                    self.parameters, mean = self.parameters[stay].contiguous(), mean[stay].contiguous()
                    gradient, total = gradient[stay].contiguous(), total[stay]
                    adam.keep(stay)
                    views, gradient_views = (
                        architecture.views(self.parameters),
                        architecture.views(gradient),
                    )
                if not self.running:
                    break
        return [self._finish(i, time.perf_counter() - started) for i in range(len(self.clusters))]

    def _next_batch(self) -> Tensor:
        parts = []
        for i in self.running:
            if len(self.orders[i]) < self.batch:
                n = len(self.clusters[i].u)
                self.orders[i] = torch.randperm(n, generator=self.generators[i]) + self.offset[i]
            parts.append(self.orders[i][: self.batch])
            self.orders[i] = self.orders[i][self.batch :]
        return torch.stack(parts).to(self.device)

    def _evaluate(
        self, mean: Tensor, loss: Tensor, step: int, on_progress: Callable[[TrainingProgress], None] | None
    ) -> list[int]:
        """Judge each running cluster on its held-out rows; return the positions of those that go on."""
        stay = []
        constant = 0.5 * self.architecture.n_features * np.log(2 * np.pi)
        for row, i in enumerate(self.running):
            cluster, history = self.clusters[i], self.histories[i]
            views = self.architecture.views(mean[row : row + 1])
            z, log_det = forward(self.architecture, views, cluster.u_held_out[None].to(self.device))
            density = log_det[0].double().cpu() - 0.5 * (z[0].double().cpu() ** 2).sum(dim=1)
            weight = cluster.weight_held_out.double()
            score = float((weight * density).sum() / weight.sum())
            shift = cluster.whitening.log_det - constant
            history.steps.append(self.done[i] + step)
            history.train.append(float(shift - loss[row]) if step else float("-inf"))
            history.held_out.append(score + shift)
            if np.isfinite(score) and score > self.best_score[i]:
                self.best_score[i], self.since_best[i] = score, 0
                self.best[i] = mean[row]
                self.histories[i] = replace(history, best_step=self.done[i] + step if step else history.best_step)
            else:
                self.since_best[i] += 1
            if not np.isfinite(score) or not np.isfinite(float(loss[row])):
                self.histories[i] = replace(self.histories[i], stopped="diverged")
            elif self.since_best[i] >= self.settings.patience:
                self.histories[i] = replace(self.histories[i], stopped="patience")
            else:
                stay.append(row)
            if on_progress is not None:
                best = float(self.best_score[i]) + shift
                on_progress(TrainingProgress(cluster.position, step, score + shift, best, len(self.running)))
        return stay

    def _finish(self, i: int, seconds: float) -> ClusterFlow:
        history = self.histories[i]
        history.train[0] = history.train[1] if len(history.train) > 1 else history.held_out[0]
        stopped = "no_gain" if history.best_step == 0 and history.stopped == "patience" else history.stopped
        history = replace(history, seconds=seconds, stopped=stopped)
        cluster = self.clusters[i]
        return cluster.flow(self.best[i].cpu().clone(), history)


class Adam:
    """Adam on rows of a matrix, each row clipped by its own norm."""

    def __init__(self, parameters: Tensor, decay: Tensor, settings: FlowSettings) -> None:
        self.first = torch.zeros_like(parameters)
        self.second = torch.zeros_like(parameters)
        self.decay = 1 - settings.learning_rate * decay
        self.settings = settings
        self.count = 0

    def step(self, parameters: Tensor, gradient: Tensor) -> None:
        """Change the parameters in place."""
        self.count += 1
        norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
        gradient = gradient * (self.settings.clip / (norm + 1e-12)).clamp(max=1.0)
        self.first.lerp_(gradient, 0.1)
        self.second.mul_(0.99).addcmul_(gradient, gradient, value=0.01)
        rate = self.settings.learning_rate / (1 - 0.9**self.count)
        parameters.mul_(self.decay)
        denominator = (self.second / (1 - 0.99**self.count)).sqrt_().add_(1e-8)
        parameters.addcdiv_(self.first, denominator, value=-rate)

    def keep(self, rows: list[int]) -> None:
        """Forget all flows but these."""
        self.first, self.second, self.decay = self.first[rows], self.second[rows], self.decay[rows]
