"""Toy targets with a known density, for measuring how far a model is from the truth.

Two moons, a circle of Gaussians and two rings are those of Stimper et al. 2022 (arXiv:2110.15828, table 3), which
Piecewise Normalizing Flows (arXiv:2305.02930) uses too. `WarpedMixture` adds more dimensions: modes that are
bent, rotated, and unequal in weight and size. Every density is normalised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

__all__ = ["TARGETS", "CircleOfGaussians", "Target", "TwoMoons", "TwoRings", "WarpedMixture"]

Array = NDArray[np.float64]

_LOG_2PI = float(np.log(2 * np.pi))


class Target(Protocol):
    """A density that can be evaluated and drawn from."""

    n_features: int

    def log_prob(self, X: Array) -> Array:
        """Evaluate the log-density of points (N, D), nats, shape (N,)."""

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw points, shape (n, D)."""


class TwoMoons:
    """Two crescents on a circle of radius 2, facing each other.

    p(x) ∝ exp(-½ ((|x| - 2) / 0.2)²) [ φ((x₁ - 2) / 0.3) + φ((x₁ + 2) / 0.3) ] with φ(t) = exp(-½ t²)
    """

    n_features = 2

    def __init__(self) -> None:
        edge = np.arange(-4.0, 4.0, 0.01)  # the trapezium rule converges exponentially for so smooth a function
        grid = np.stack(np.meshgrid(edge, edge), axis=-1).reshape(-1, 2)
        self._log_norm = float(logsumexp(self._log_kernel(grid))) + 2 * np.log(0.01)

    def _log_kernel(self, X: Array) -> Array:
        radius = np.hypot(X[:, 0], X[:, 1])
        side = [-0.5 * ((X[:, 0] + centre) / 0.3) ** 2 for centre in (-2.0, 2.0)]
        return np.asarray(-0.5 * ((radius - 2) / 0.2) ** 2 + np.logaddexp(*side))

    def log_prob(self, X: Array) -> Array:
        """Evaluate the log-density."""
        return np.asarray(self._log_kernel(X) - self._log_norm)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw one crescent by rejection and turn half of the points to the other side."""
        kept: list[Array] = []
        while sum(map(len, kept)) < n:
            drawn = np.column_stack([rng.normal(2, 0.3, 4 * n), rng.uniform(-3, 3, 4 * n)])
            radius = np.hypot(drawn[:, 0], drawn[:, 1])
            kept.append(drawn[rng.random(4 * n) < np.exp(-0.5 * ((radius - 2) / 0.2) ** 2)])
        points = np.concatenate(kept)[:n]
        points[:, 0] *= rng.choice([-1.0, 1.0], size=n)
        return points


class TwoRings:
    """Two rings of width 0.1 and radius 1 and 2: p(x) ∝ Σ_r exp(-½ ((|x| - r) / 0.1)²)."""

    n_features = 2
    _radius = np.array([1.0, 2.0])
    _width = 0.1

    def log_prob(self, X: Array) -> Array:
        """Evaluate the log-density; a ring's integral is (2π)^1.5 · width · radius."""
        distance = (np.hypot(X[:, 0], X[:, 1])[:, None] - self._radius) / self._width
        norm = 1.5 * _LOG_2PI + np.log(self._width * self._radius.sum())
        return np.asarray(logsumexp(-0.5 * distance**2, axis=1) - norm)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw radius (its density is r times a Gaussian, by rejection) and angle."""
        kept: list[Array] = []
        most = self._radius.max() + 8 * self._width
        while sum(map(len, kept)) < n:
            radius = rng.normal(rng.choice(self._radius, size=4 * n), self._width)
            kept.append(radius[rng.random(4 * n) < radius / most])
        radius = np.concatenate(kept)[:n]
        angle = rng.uniform(0, 2 * np.pi, size=n)
        return np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])


class CircleOfGaussians:
    """Eight round Gaussians on a circle of radius 2, of standard deviation ⅔ sin(π / 8)."""

    n_features = 2

    def __init__(self, n_modes: int = 8) -> None:
        turn = 2 * np.pi * np.arange(n_modes) / n_modes
        self._centre = 2 * np.column_stack([np.sin(turn), np.cos(turn)])
        self._spread = 2 / 3 * np.sin(np.pi / n_modes)

    def log_prob(self, X: Array) -> Array:
        """Evaluate the log-density."""
        white = (X[:, None, :] - self._centre) / self._spread
        norm = _LOG_2PI + 2 * np.log(self._spread) + np.log(len(self._centre))
        return np.asarray(logsumexp(-0.5 * (white**2).sum(axis=2), axis=1) - norm)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw points."""
        return rng.normal(self._centre[rng.integers(len(self._centre), size=n)], self._spread)


class WarpedMixture:
    """Bent Gaussians: x = c + Q diag(s) z̃ with z̃ = z, but z̃_j = z_j + b_j (z_{j-1}² - 1) for every second j.

    The bend is a shear, so it leaves volumes alone. Centres c, rotations Q, sizes s, bends b and weights differ
    from mode to mode.
    """

    def __init__(self, n_features: int = 8, n_modes: int = 8, seed: int = 2305) -> None:
        rng = np.random.default_rng(seed)
        self.n_features = n_features
        share = rng.gamma(4.0, size=n_modes)
        self._log_weight = np.log(share / share.sum())
        self._modes = []
        for _ in range(n_modes):
            rotation, _ = np.linalg.qr(rng.standard_normal((n_features, n_features)))
            size = np.exp(rng.uniform(np.log(0.3), np.log(1.2), n_features))
            bend = rng.uniform(0.5, 1.5, n_features // 2) * np.sign(rng.standard_normal(n_features // 2))
            self._modes.append((rng.normal(0, 4, n_features), rotation, size, bend))

    def log_prob(self, X: Array) -> Array:
        """Evaluate the log-density."""
        parts = []
        for (centre, rotation, size, bend), log_weight in zip(self._modes, self._log_weight, strict=True):
            z = ((X - centre) @ rotation) / size
            source, bent = self._pairs(z)
            bent -= bend * (source**2 - 1)
            parts.append(log_weight - 0.5 * ((z**2).sum(axis=1) + self.n_features * _LOG_2PI) - np.log(size).sum())
        return np.asarray(logsumexp(parts, axis=0))

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw points in random order."""
        counts = rng.multinomial(n, np.exp(self._log_weight))
        drawn = []
        for (centre, rotation, size, bend), count in zip(self._modes, counts, strict=True):
            z = rng.standard_normal((count, self.n_features))
            source, bent = self._pairs(z)
            bent += bend * (source**2 - 1)
            drawn.append((z * size) @ rotation.T + centre)
        return np.asarray(rng.permutation(np.concatenate(drawn)))

    def _pairs(self, z: Array) -> tuple[Array, Array]:
        """Return the coordinates that bend others and, as a view, those that are bent."""
        half = self.n_features // 2
        return z[:, 0 : 2 * half : 2], z[:, 1 : 2 * half : 2]


TARGETS: dict[str, Callable[[], Target]] = {
    "two_moons": TwoMoons,
    "circle_of_gaussians": CircleOfGaussians,
    "two_rings": TwoRings,
    "warped_8d": WarpedMixture,
}
"""What `pwflow bench --target` knows."""
