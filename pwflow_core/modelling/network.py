"""The network of a flow in NumPy: what scores, wherever it runs. `autoregressive` trains the same one in PyTorch.

Matrix products take eight readings at a time, whatever their number: BLAS rounds a product by its shape, and what is
said of a reading must depend neither on how many others came with it nor on its place among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["LINEAR_FROM", "ROWS", "SMALLEST", "Network", "product"]

Single = NDArray[np.float32]

ROWS = 8
"""Readings of one matrix product."""
_PARTS = ("mix", "w1", "b1", "w2", "b2")
SMALLEST = 1e-3  # share of a bin, and slope at a knot
LINEAR_FROM = 20.0  # softplus(x) is x in single precision


@dataclass(frozen=True, eq=False)
class Network:
    """The transforms of one flow, see `autoregressive.Architecture`.

    Attributes:
        layers: A, w1, b1, w2 and b2 of each transform, float32.
        kind: `affine` or `spline`.
        bins: Bins of a spline.
        log_scale_bound: Largest |s| of an affine transform.
        input_bound: The networks see their inputs clamped to this many standard deviations.
        mixing_log_det: Log volume change of all matrices A, nats.

    """

    layers: tuple[tuple[Single, ...], ...]
    kind: Literal["affine", "spline"]
    bins: int
    log_scale_bound: float
    input_bound: float
    mixing_log_det: float

    @classmethod
    def from_tensors(cls, arrays: Mapping[str, NDArray[Any]], architecture: Mapping[str, Any]) -> Network | None:
        """Build from the arrays of a flow file and its architecture; None for a regime that stayed a Gaussian.

        Raises:
            KeyError: An array or a field is missing.
            ValueError: An array has the wrong shape, or the kind is not known.

        """
        n_transforms, d, h = (architecture[name] for name in ("transforms", "n_features", "hidden"))
        kind, bins = architecture["kind"], architecture["bins"]
        if kind not in ("affine", "spline"):
            raise ValueError(f"Expected kind 'affine' or 'spline', got {kind!r}.")
        if not any(f"{part}.{t}" in arrays for t in range(n_transforms) for part in _PARTS):
            return None
        o = d * (2 if kind == "affine" else 3 * bins - 1)
        shapes = ((d, d), (d, h), (h,), (h, o), (o,))
        layers = tuple(
            tuple(
                np.ascontiguousarray(arrays[f"{part}.{t}"].reshape(shape), dtype=np.float32)
                for part, shape in zip(_PARTS, shapes, strict=True)
            )
            for t in range(n_transforms)
        )
        log_det = float(sum(np.linalg.slogdet(layer[0].astype(np.float64))[1] for layer in layers))
        bounds = architecture["log_scale_bound"], architecture["input_bound"]
        return cls(layers, kind, bins, *bounds, log_det)

    def forward(self, u: Single) -> tuple[Single, NDArray[np.float64]]:
        """Map white rows to latents.

        Arguments:
            u: White rows, shape (N, D), N a multiple of `ROWS`.

        Returns:
            Latents z, shape (N, D), and log |det dz/du|, nats, shape (N,).

        """
        log_det = np.full(len(u), self.mixing_log_det)
        for mix, w1, b1, w2, b2 in self.layers:
            v = product(u, mix)
            hidden = product(np.minimum(np.maximum(v, -self.input_bound), self.input_bound), w1)
            hidden += b1
            np.tanh(hidden, out=hidden)
            out = product(hidden, w2)
            out += b2
            u, change = self._affine(out, v) if self.kind == "affine" else self._spline(out, v)
            log_det += change
        return u, log_det

    def _affine(self, out: Single, v: Single) -> tuple[Single, Single]:
        """Return z = (v - m) exp(-s), with |s| bounded smoothly, and log |det dz/dv|."""
        d = v.shape[1]
        s = out[:, d:] / -self.log_scale_bound
        np.tanh(s, out=s)
        s *= self.log_scale_bound
        log_det = s.sum(axis=1)
        v -= out[:, :d]
        v *= np.exp(s, out=s)
        return v, log_det

    def _spline(self, out: Single, v: Single) -> tuple[Single, Single]:
        """Return z of a rational-quadratic spline that is the identity outside of its limits, and log |det dz/dv|."""
        n, limit = self.bins, self.input_bound
        values = out.reshape(len(v), -1, v.shape[1])
        x, y = self._knots(values[:, :n]), self._knots(values[:, n : 2 * n])
        slopes = np.ones_like(x)
        raw = values[:, 2 * n :] + float(np.log(np.expm1(1 - SMALLEST)))
        soft = np.log1p(np.exp(np.minimum(raw, LINEAR_FROM)))
        slopes[:, 1:-1] = SMALLEST + np.where(raw > LINEAR_FROM, raw, soft)
        inside, at = np.abs(v) < limit, np.minimum(np.maximum(v, -limit), limit)
        k = (x[:, 1:-1] < at[:, None]).sum(axis=1)[:, None]
        (x0, x1), (y0, y1), (d0, d1) = (
            (np.take_along_axis(ends, k, axis=1)[:, 0], np.take_along_axis(ends, k + 1, axis=1)[:, 0])
            for ends in (x, y, slopes)
        )
        width, height = x1 - x0, y1 - y0
        s, t = height / width, (at - x0) / width
        u = t * (1 - t)
        below = s + (d1 + d0 - 2 * s) * u
        z = y0 + height * (s * t * t + d0 * u) / below
        rest = 1 - t
        slope = s * s * (d1 * t * t + 2 * s * u + d0 * rest * rest) / (below * below)
        return np.where(inside, z, v), np.where(inside, np.log(slope), np.float32(0.0)).sum(axis=1)

    def _knots(self, part: Single) -> Single:
        """Return the knots of the bins of which the network gives the sizes, shape (N, bins + 1, D)."""
        n, limit = self.bins, self.input_bound
        share = np.exp(part - part.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        share *= 1 - n * SMALLEST
        share += SMALLEST
        knots = np.empty((len(part), n + 1, part.shape[2]), dtype=np.float32)
        knots[:, 0], knots[:, n] = -limit, limit
        knots[:, 1:n] = np.cumsum(share[:, :-1], axis=1) * (2 * limit) - limit
        return knots


def product(rows: NDArray[Any], matrix: NDArray[Any]) -> NDArray[Any]:
    """Multiply rows (N, D), N a multiple of `ROWS`, by a matrix (D, H); the same for a row in whatever company."""
    blocks = rows.reshape(-1, ROWS, rows.shape[1])
    return np.asarray(np.matmul(blocks, matrix).reshape(len(rows), matrix.shape[1]))
