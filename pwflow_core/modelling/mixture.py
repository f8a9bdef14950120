"""The mixture of cluster flows: exact, pruned to the clusters that matter, or by the own cluster alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from pwflow_core.modelling.blending import log_gaussian, log_tail
from pwflow_core.modelling.flow import ClusterFlow

Array = NDArray[np.float64]
Single = NDArray[np.float32]
Rule = Literal["pruned", "exact", "own"]

PRUNING_ERROR = 1e-3
_CALIBRATION_ERROR = 1e-4  # allowed on the calibration rows ...
_HEADROOM = 2.0  # ... and how much wider the cut is then made for rows like them
_MARGINS = (6.0, 10.0, 15.0, 20.0, 30.0, 45.0)
_BATCH_ROWS = 32_768
_WORTH_ASKING = 20.0  # nats


def log_joint(flows: Sequence[ClusterFlow], weights: Array, X: Array) -> Array:
    """Evaluate log w_k + log p_k(x) of readings (N, D) for all flows, nats, shape (N, K)."""
    return np.asarray(np.stack([flow.log_prob(X) for flow in flows], axis=1) + np.log(weights))


@dataclass(frozen=True, eq=False)
class FlowMixture:
    """log p(x) = logsumexp_k [ log w_k + log p_k(x) ].

    Attributes:
        weights: w, shape (K,), all above zero.
        flows: One density per cluster.
        n_shared: How many of them, the last ones, are no cluster's but learned from all readings; their networks are
            never left out.
        margin: A cluster's network is left out for a reading if the cluster's Gaussian is this many nats below the
            best one's; its Gaussian and its tail always count.
        floor: Readings that come out below this log-density are scored again in full, nats.

    """

    weights: Array
    flows: list[ClusterFlow]
    margin: float = np.inf
    floor: float = np.inf
    n_shared: int = 0
    _screen: _Screen = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_screen", _Screen(self.weights, self.flows))

    @property
    def n_clusters(self) -> int:
        """How many of the flows are a cluster's; they come first."""
        return len(self.flows) - self.n_shared

    def log_joint(self, X: Array) -> Array:
        """Evaluate log w_k + log p_k(x) for all flows, nats, shape (N, K)."""
        return log_joint(self.flows, self.weights, X)

    def log_prob(self, X: Array, rule: Rule = "pruned") -> Array:
        """Evaluate the log-density.

        Arguments:
            X: Readings in raw units, shape (N, D), finite.
            rule: `pruned` leaves out networks by `margin`, which changes the log-density of readings like
                those that `calibrated` saw by at most `PRUNING_ERROR` nats; improbable ones are scored in
                full. `exact` evaluates all flows, `own` that of the cluster whose Gaussian is the most likely.

        Returns:
            Nats in raw units, shape (N,).

        """
        if rule == "exact" or len(self.flows) == 1 or (rule == "pruned" and not np.isfinite(self.margin)):
            return np.asarray(logsumexp(self.log_joint(X), axis=1))
        out = np.empty(len(X))
        for start in range(0, len(X), _BATCH_ROWS):
            block = X[start : start + _BATCH_ROWS]
            out[start : start + len(block)] = self._own(block) if rule == "own" else self._pruned(block)
        if rule == "pruned":
            again = np.flatnonzero(out < self.floor)
            if len(again):
                out[again] = logsumexp(self.log_joint(X[again]), axis=1)
        return out

    def judge(self, X: Array) -> tuple[NDArray[np.intp], Array, Array]:
        """Return the cluster with the largest share in each reading, and what p-values are made from.

        Flows over all readings are left out: what they bridge is not a normal reading.

        Returns:
            The number of the cluster, shape (N,); the `conformity` of the reading to its flow, nats, shape (N,); and
            its level there, log w_k + log p_k(x), nats, shape (N,), with weights that sum to 1 over the clusters.

        """
        weights = self.weights[: self.n_clusters]
        found = [flow.evaluate(X) for flow in self.flows[: self.n_clusters]]
        joint = np.stack([one.log_prob for one in found], axis=1) + np.log(weights / weights.sum())
        own, rows = joint.argmax(axis=1), np.arange(len(X))
        return own, np.stack([one.conformity for one in found], axis=1)[rows, own], joint[rows, own]

    def worth_asking(self, X: Array) -> NDArray[np.bool_]:
        """Tell which clusters are within 20 nats of the most likely one by their Gaussians, shape (N, K)."""
        bell = self._screen.evaluate(X)[0][:, : self.n_clusters]
        return np.asarray(bell >= bell.max(axis=1, keepdims=True) - np.float32(_WORTH_ASKING))

    def calibrated(self, X: Array, random_state: int) -> FlowMixture:
        """Choose how much can be left out without changing a log-density by more than `PRUNING_ERROR` nats.

        Arguments:
            X: Rows to hold the promise on, with as many drawn from the mixture, shape (N, D).
            random_state: Seed of the draws.

        """
        if len(self.flows) == 1:
            return self
        rng = np.random.default_rng(random_state)
        counts = rng.multinomial(len(X), self.weights / self.weights.sum())
        rows = np.concatenate([X, *(f.sample(int(n), rng) for f, n in zip(self.flows, counts, strict=True))])
        joint = self.log_joint(rows)
        screen, cheap, top = self._screen.evaluate(rows)
        with np.errstate(divide="ignore"):
            closed = np.log(cheap) + top
        full = logsumexp(joint, axis=1)
        floor = float(np.quantile(full[: len(X)], 0.005))
        behind = screen.max(axis=1, keepdims=True) - screen
        behind[:, self.n_clusters :] = 0.0
        ordinary = full >= floor
        for margin in _MARGINS:
            kept = logsumexp(np.where(behind <= margin, joint, closed)[ordinary], axis=1)
            if np.abs(full[ordinary] - kept).max() <= _CALIBRATION_ERROR:
                return replace(self, margin=_HEADROOM * margin, floor=floor)
        return replace(self, margin=np.inf, floor=np.inf)

    def _own(self, X: Array) -> Array:
        out = np.empty(len(X))
        own = self._screen.evaluate(X)[0][:, : self.n_clusters].argmax(axis=1)
        for k in np.unique(own):
            rows = np.flatnonzero(own == k)
            out[rows] = self.flows[k].log_prob(X[rows]) + np.log(self.weights[k])
        return out

    def _pruned(self, X: Array) -> Array:
        screen, cheap, top = self._screen.evaluate(X)
        keep = screen >= screen.max(axis=1, keepdims=True) - np.float32(self.margin)
        keep[:, self.n_clusters :] = True
        cheap[keep] = 0.0
        with np.errstate(divide="ignore"):
            out: Array = (np.log(cheap.sum(axis=1)) + top[:, 0]).astype(np.float64)
        for k, flow in enumerate(self.flows):
            rows = np.flatnonzero(keep[:, k])
            if len(rows):
                mine = flow.log_prob(X[rows]) + np.log(self.weights[k])
                out[rows] = np.logaddexp(out[rows], mine)
        return out


class _Screen:
    """All clusters' Gaussians and tails at once, in single precision: enough to tell which networks matter."""

    def __init__(self, weights: Array, flows: Sequence[ClusterFlow]) -> None:
        n_features = flows[0].n_features
        self.centre = np.average([flow.whitening.centre for flow in flows], axis=0, weights=weights)
        spread = [flow.whitening.scale + np.abs(flow.whitening.centre - self.centre) for flow in flows]
        self.scale = np.max(spread, axis=0)
        blocks, shifts = [], []
        for flow in flows:
            white = flow.whitening
            blocks.append((self.scale / white.scale)[:, None] * white.forward)
            shifts.append(((white.centre - self.centre) / white.scale) @ white.forward)
        self.matrix = np.concatenate(blocks, axis=1).astype(np.float32)
        self.shift = np.concatenate(shifts).astype(np.float32)
        self.fold = np.repeat(np.eye(len(flows), dtype=np.float32), n_features, axis=0)
        self.n_features = n_features
        log_det = np.array([flow.whitening.log_det for flow in flows])
        gaussian, tail = (np.array([getattr(f.shares, part) for f in flows]) for part in ("gaussian", "tail"))
        self.constant = (np.log(weights) + log_det).astype(np.float32)
        self.log_gaussian_share, self.log_tail_share = (
            np.log(gaussian).astype(np.float32),
            np.log(tail).astype(np.float32),
        )

    def evaluate(self, X: Array) -> tuple[Single, Single, Single]:
        """Evaluate, for each cluster, what needs no network.

        Returns:
            bell, log w_k + log N(x; m_k, S_k), nats, shape (N, K); the density w_k [b_k N(x; m_k, S_k) + ε_k t_k(x)]
            divided by exp(top), shape (N, K); and top, nats, shape (N, 1).

        """
        standard = np.clip((X - self.centre) / self.scale, -1e8, 1e8).astype(np.float32)
        white = standard @ self.matrix
        white -= self.shift
        np.clip(white, -1e15, 1e15, out=white)
        white *= white
        squared_radius = white @ self.fold
        bell: Single = log_gaussian(squared_radius, self.n_features) + self.constant
        tail: Single = log_tail(squared_radius, self.n_features) + (self.constant + self.log_tail_share)
        top: Single = np.maximum(bell, tail).max(axis=1, keepdims=True)
        return bell, np.exp(tail - top) + np.exp(bell + self.log_gaussian_share - top), top
