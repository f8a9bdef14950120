"""How each system of the comparison is trained and timed; `compare_peers.py` runs this, one process per system.

The peers, each by its own documentation and defaults:

- margarine 2.2.0: its cluster estimator over RealNVP, early stopping as it comes (patience 50, at most 1,000
  epochs). The number of clusters by its own silhouette search; where that fails (its k-means leaves a cluster
  empty, and the search ends in a ValueError), it is told the right number, and the failed search is not counted.
- zuko 1.6.0: one MAF (its defaults: three transforms, two hidden layers of 64) per cluster, Adam at 1e-3, batches
  of 256, stopped after 20 epochs without a gain on held-out rows; one after the other. The clusters are k-means' on
  standardised rows (as in the paper), or, to give it all of pwflow's start, those of pwflow's own Gaussian mixture
  with each cluster whitened by its Gaussian.
- scikit-learn's GaussianMixture with eight components.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from measuring import command_line
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

from pwflow_core.modelling import ClusterFlow, FitSettings, FlowSettings, PiecewiseFlow, fit_clusters, held_out_blocks
from pwflow_core.modelling.autoregressive import forward
from pwflow_core.modelling.targets import TARGETS
from pwflow_core.modelling.whitening import Whitening

Array = NDArray[np.float64]
sizes = {"train": 10_000, "fresh": 50_000, "clusters": 8}
RIGHT_NUMBER = {"two_moons": 2, "two_rings": 2, "circle_of_gaussians": 8, "warped_8d": 8}


def draw(target: str, seed: int) -> tuple[Array, Array, Array]:
    """Return training rows, fresh rows, and the true log-density of these."""
    known, rng = TARGETS[target](), np.random.default_rng(1000 + seed)
    train, fresh = known.sample(sizes["train"], rng), known.sample(sizes["fresh"], rng)
    return train, fresh, known.log_prob(fresh)


def figures(seconds: float, true: Array, scored: Array) -> dict[str, float]:
    finite = np.isfinite(scored)
    return {
        "cpu_seconds": seconds,
        "held_out": float(scored[finite].mean()),
        "kl": float((true - scored)[finite].mean()),
        "non_finite": float((~finite).sum()),
    }


def pwflow(seed: int, target: str, clusters: str, reach: float | None) -> dict[str, float]:
    """Ours; with `reach`, the shortest training among doubling step limits that reaches that log-density."""
    train, fresh, true = draw(target, seed)
    limits = [None] if reach is None else [*(25 * 2**i for i in range(8)), None]
    for limit in limits:
        flow = None if limit is None else replace(FlowSettings(), max_steps=limit)
        model = PiecewiseFlow("auto" if clusters == "auto" else int(clusters), flow=flow, random_state=seed)
        started = time.process_time()
        model.fit(train)
        seconds = time.process_time() - started
        scored = model.score_samples(fresh)
        if reach is not None and scored.mean() >= reach:
            break
    return figures(seconds, true, scored)


def margarine(seed: int, target: str) -> dict[str, float]:
    import jax
    import jax.numpy as jnp
    from margarine.estimators.clustered import cluster
    from margarine.estimators.realnvp import RealNVP

    train, fresh, true = draw(target, seed)
    theta = jnp.asarray(train)
    searched, started = 1.0, time.process_time()
    try:
        model = cluster(theta, RealNVP, in_size=train.shape[1])
    except ValueError:
        searched, started = 0.0, time.process_time()
        model = cluster(theta, RealNVP, clusters=RIGHT_NUMBER[target], in_size=train.shape[1])
    model.train(key=jax.random.PRNGKey(seed))
    seconds = time.process_time() - started
    scored = np.asarray(model.log_prob(jnp.asarray(fresh)), dtype=float)
    return figures(seconds, true, scored) | {"clusters": float(model.cluster_number), "searched": searched}


def zuko(seed: int, target: str, clusters: str) -> dict[str, float]:
    import zuko as library

    n = sizes["clusters"]
    train, fresh, true = draw(target, seed)
    started = time.process_time()
    held_out = held_out_blocks(len(train), 0.15, seed)
    if clusters == "kmeans":
        label = KMeans(n, n_init=3, random_state=seed).fit(train[~held_out]).predict(train)
        parts = [train[(label == k) & ~held_out] for k in range(n)]
        whitenings = [Whitening.from_gaussian(x.mean(axis=0), np.diag(x.var(axis=0))) for x in parts]
    else:
        seeds = fit_clusters(train, FitSettings(n, random_state=seed), held_out=held_out)
        label = seeds.log_joint(train).argmax(axis=1)
        whitenings = [Whitening.from_gaussian(m, c) for m, c in zip(seeds.means, seeds.covariances, strict=True)]
    torch.manual_seed(seed)
    joint = np.full((len(fresh), n), -np.inf)
    scoring = 0.0
    for k in range(n):
        mine, judge = train[(label == k) & ~held_out], train[(label == k) & held_out]
        white = whitenings[k]
        rows, judged, asked = (torch.from_numpy(white.whiten(x)).float() for x in (mine, judge, fresh))
        flow = library.flows.MAF(train.shape[1])
        optimiser = torch.optim.Adam(flow.parameters(), lr=1e-3)
        best, best_loss, since = {n: p.clone() for n, p in flow.state_dict().items()}, np.inf, 0
        while since < 20:
            for batch in torch.randperm(len(rows)).split(256):
                loss = -flow().log_prob(rows[batch]).mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            with torch.no_grad():
                loss = float(-flow().log_prob(judged).mean())
            since += 1
            if loss < best_loss:
                best, best_loss, since = {n: p.clone() for n, p in flow.state_dict().items()}, loss, 0
        flow.load_state_dict(best)
        paused = time.process_time()
        with torch.no_grad():
            joint[:, k] = flow().log_prob(asked).double().numpy() + white.log_det + np.log(len(mine))
        scoring += time.process_time() - paused
    seconds = time.process_time() - started - scoring
    return figures(seconds, true, logsumexp(joint, axis=1) - np.log((~held_out).sum()))


class _Clamp(torch.nn.Module):
    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = bound

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clamp(-self.bound, self.bound)


class _Mix(torch.distributions.Transform):
    """v = u A with its volume change at hand."""

    domain = codomain = torch.distributions.constraints.real_vector
    bijective = True

    def __init__(self, matrix: torch.Tensor, shift: torch.Tensor | None = None) -> None:
        super().__init__()
        self.matrix, self.shift = matrix, shift
        self.log_det = torch.linalg.slogdet(matrix).logabsdet

    def _call(self, u: torch.Tensor) -> torch.Tensor:
        return u @ self.matrix if self.shift is None else torch.addmm(self.shift, u, self.matrix)

    def log_abs_det_jacobian(self, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return self.log_det.expand(u.shape[:-1])


def in_zuko(flow: ClusterFlow) -> Callable[[torch.Tensor], torch.Tensor]:
    """Build the flow of a cluster in zuko, with the same weights; returns its log-density function."""
    import zuko as library
    from zuko.distributions import DiagNormal, NormalizingFlow

    shape, d = flow.architecture, flow.n_features

    def univariate(shift: torch.Tensor, raw: torch.Tensor) -> torch.distributions.Transform:
        scale = torch.exp(-shape.log_scale_bound * torch.tanh(raw / shape.log_scale_bound))
        return torch.distributions.AffineTransform(-shift * scale, scale)

    white = flow.whitening
    matrix = torch.from_numpy(white.forward / white.scale[:, None]).float()
    shift = torch.from_numpy(-(white.centre / white.scale) @ white.forward).float()
    layers: list[Callable[[], torch.distributions.Transform]] = [lambda: _Mix(matrix, shift)]
    for t, (mix, w1, b1, w2, b2) in enumerate(shape.views(flow.parameters[None])):
        lazy = library.flows.MaskedAutoregressiveTransform(
            d,
            order=shape.order(t),
            hidden_features=(shape.hidden,),
            activation=torch.nn.Tanh,
            univariate=univariate,
            shapes=[(), ()],
        )
        first, last = lazy.hyper[0], lazy.hyper[-1]
        with torch.no_grad():  # our weights carry their masks already
            first.mask, last.mask = torch.ones_like(first.mask), torch.ones_like(last.mask)
            first.weight.copy_(w1[0].T)
            first.bias.copy_(b1[0, 0])
            last.weight.copy_(w2[0].reshape(shape.hidden, 2, d).permute(2, 1, 0).reshape(2 * d, shape.hidden))
            last.bias.copy_(b2[0, 0].reshape(2, d).T.reshape(2 * d))
        lazy.hyper = torch.nn.Sequential(_Clamp(shape.input_bound), lazy.hyper)
        mixed = _Mix(mix[0])
        layers += [lambda mixed=mixed: mixed, lazy]
    base = DiagNormal(torch.zeros(d), torch.ones(d))

    def log_prob(x: torch.Tensor) -> torch.Tensor:
        transform = library.transforms.ComposedTransform(*(layer() for layer in layers))
        return NormalizingFlow(transform, base).log_prob(x)

    return log_prob


def flow_log_prob(flow: ClusterFlow, X: Array) -> torch.Tensor:
    """Evaluate the flow of a cluster alone, without what it is blended with, shape (N,)."""
    views = flow.architecture.views(flow.parameters[None])
    u = torch.from_numpy(flow.whitening.whiten(X)).float()
    z, log_det = forward(flow.architecture, views, u[None])
    normal = -0.5 * ((z[0] ** 2).sum(dim=1) + flow.n_features * np.log(2 * np.pi))
    return normal + log_det[0] + flow.whitening.log_det


def scoring(seed: int) -> dict[str, float]:
    """Rows a second of our mixture, of the same flows through zuko, and of a Gaussian mixture, taking turns."""
    n = sizes["clusters"]
    train, fresh, _ = draw("warped_8d", seed)
    model = PiecewiseFlow(n, random_state=seed).fit(train)
    rival = GaussianMixture(n, random_state=seed).fit(train)
    flows = [flow for flow in model.flows_ if not flow.is_gaussian]
    if len(flows) < n:
        raise SystemExit(f"Expected {n} flows, got {len(flows)}: the others stayed Gaussians.")
    copies = [in_zuko(flow) for flow in flows]
    log_weights = torch.from_numpy(np.log(model.weights_)).float()

    def through_zuko(X: Array) -> Array:
        out = []
        with torch.no_grad():
            for rows in torch.from_numpy(X).float().split(8192):
                joint = torch.stack([copy(rows) for copy in copies], dim=1)
                out.append(torch.logsumexp(joint + log_weights, dim=1))
        return torch.cat(out).double().numpy()

    for flow, copy in zip(flows, copies, strict=True):
        with torch.no_grad():
            gap = copy(torch.from_numpy(fresh[:2000]).float()) - flow_log_prob(flow, fresh[:2000])
        if gap.abs().median() > 1e-3:
            raise SystemExit("The copied weights do not give the same density.")
    systems: dict[str, Callable[[Array], object]] = {
        "pwflow": model.score_samples,
        "exact": lambda X: model.score_samples(X, rule="exact"),
        "zuko": through_zuko,
        "gmm": rival.score_samples,
    }
    taken: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(5):
        for name, score in systems.items():
            started = time.process_time()
            score(fresh)
            taken[name].append(time.process_time() - started)
    return {name: len(fresh) / statistics.median(seconds) for name, seconds in taken.items()}


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("system", choices=["pwflow", "margarine", "zuko", "scoring"])
    parser.add_argument("seed", type=int)
    parser.add_argument("target", nargs="?", default="warped_8d")
    parser.add_argument("--clusters", default="auto")
    parser.add_argument("--reach", type=float)
    given = parser.parse_args()
    if given.smoke:
        sizes.update(train=1000, fresh=1000, clusters=2)
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity") and given.system == "margarine":
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})  # XLA has no other sure way to one thread
    if given.system == "pwflow":
        found = pwflow(given.seed, given.target, given.clusters, given.reach)
    elif given.system == "margarine":
        found = margarine(given.seed, given.target)
    elif given.system == "zuko":
        found = zuko(given.seed, given.target, given.clusters)
    else:
        found = scoring(given.seed)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
