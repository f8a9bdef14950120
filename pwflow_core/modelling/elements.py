"""What a transform does to one coordinate, given what the network says about those before it.

`Affine` shifts and scales; its gradient is written by hand. `Spline` bends by a monotonic rational-quadratic
spline that goes on as the identity outside of its interval (Durkan et al. 2019, arXiv:1906.04032); its
gradient comes from autograd. Both are the identity for an output of zero, and both are linear far away.

The network's output for P values per coordinate has shape (K, B, P · D): first value of all coordinates,
second value of all coordinates, and so on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad, softplus


def tanh_(x: Tensor) -> Tensor:
    """Replace `x` by its hyperbolic tangent, in place where no gradient is recorded.

    On a CPU it is NumPy's, which in single precision is several times as fast as PyTorch's; networks spend much
    of their time here.
    """
    if x.requires_grad:
        return x.tanh()
    if x.device.type != "cpu":
        return x.tanh_()
    values = x.numpy()
    np.tanh(values, out=values)
    return x


class Element(Protocol):
    """One kind of transform of a coordinate."""

    @property
    def values(self) -> int:
        """P, the values it needs per coordinate."""

    def forward(self, out: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return z (K, B, D) and log |det dz/dv| (K, B)."""

    def forward_saving(self, out: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Any]:
        """Do as `forward`, and return what `backward` needs."""

    def backward(self, saved: Any, grad: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        """Return dL/d out and dL/dv, where dL/dz is `grad` and dL/d log |det| is −`weight` (K, B, 1)."""

    def inverse(self, out: Tensor, z: Tensor) -> Tensor:
        """Return v from z for one coordinate each: out (K, B, P), z (K, B)."""


@dataclass(frozen=True)
class Affine:
    """z = (v - m) exp(-s) with |s| bounded smoothly."""

    bound: float

    @property
    def values(self) -> int:
        """M and s."""
        return 2

    def forward(self, out: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and log |det dz/dv|."""
        d = v.shape[-1]
        s = tanh_(out[..., d:] / self.bound) * self.bound
        return (v - out[..., :d]) * torch.exp(-s), -s.sum(dim=-1)

    def forward_saving(self, out: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Any]:
        """Do as `forward`, and return what `backward` needs."""
        d = v.shape[-1]
        t = tanh_(out[..., d:] / self.bound)
        scale = torch.exp(-self.bound * t)
        z = (v - out[..., :d]) * scale
        return z, -self.bound * t.sum(dim=-1), (t, scale, z)

    def backward(self, saved: Any, grad: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        """Return dL/d out and dL/dv."""
        t, scale, z = saved
        direct = grad * scale
        return torch.cat([-direct, (weight - grad * z) * (1 - t * t)], dim=-1), direct

    def inverse(self, out: Tensor, z: Tensor) -> Tensor:
        """Return v from z for one coordinate each."""
        return z * torch.exp((out[..., 1] / self.bound).tanh() * self.bound) + out[..., 0]


@dataclass(frozen=True)
class Spline:
    """A monotonic rational-quadratic spline on [-limit, limit], the identity outside."""

    bins: int
    limit: float

    @property
    def values(self) -> int:
        """Widths, heights, and the slopes at the inner knots."""
        return 3 * self.bins - 1

    def forward(self, out: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and log |det dz/dv|."""
        inside = v.abs() < self.limit
        at = v.clamp(-self.limit, self.limit)
        x, y, slopes = self._knots(out.view(*out.shape[:-1], self.values, v.shape[-1]).movedim(-2, -1))
        k = torch.searchsorted(x[..., 1:-1].detach().contiguous(), at.detach().unsqueeze(-1))
        x0, x1, y0, y1, d0, d1 = _at(k, x, y, slopes)
        width, height = x1 - x0, y1 - y0
        s, t = height / width, (at - x0) / width
        u = t * (1 - t)
        below = s + (d1 + d0 - 2 * s) * u
        z = y0 + height * (s * t * t + d0 * u) / below
        slope = s * s * (d1 * t * t + 2 * s * u + d0 * (1 - t) ** 2) / (below * below)
        zero = torch.zeros((), dtype=v.dtype, device=v.device)
        return torch.where(inside, z, v), torch.where(inside, torch.log(slope), zero).sum(dim=-1)

    def forward_saving(self, out: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Any]:
        """Do as `forward`, and return what `backward` needs."""
        with torch.enable_grad():
            leaves = out.detach().requires_grad_(), v.detach().requires_grad_()
            z, log_det = self.forward(*leaves)
        return z.detach(), log_det.detach(), (leaves, z, log_det)

    def backward(self, saved: Any, grad: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        """Return dL/d out and dL/dv."""
        leaves, z, log_det = saved
        out, v = torch.autograd.grad([z, log_det], leaves, [grad, -weight.squeeze(-1)])
        return out, v

    def inverse(self, out: Tensor, z: Tensor) -> Tensor:
        """Return v from z for one coordinate each."""
        at = z.clamp(-self.limit, self.limit)
        x, y, slopes = self._knots(out)
        k = torch.searchsorted(y[..., 1:-1].contiguous(), at.unsqueeze(-1))
        x0, x1, y0, y1, d0, d1 = _at(k, x, y, slopes)
        width, height = x1 - x0, y1 - y0
        s, rise = height / width, at - y0
        a = height * (s - d0) + rise * (d1 + d0 - 2 * s)
        b = height * d0 - rise * (d1 + d0 - 2 * s)
        c = -s * rise
        t = 2 * c / (-b - torch.sqrt((b * b - 4 * a * c).clamp(min=0)))
        return torch.where(z.abs() < self.limit, x0 + t * width, z)

    def _knots(self, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return knots x and y and slopes, shape (..., bins + 1), from values (..., P)."""
        n, smallest = self.bins, 1e-3
        knots = []
        for part in (out[..., :n], out[..., n : 2 * n]):
            share = smallest + (1 - n * smallest) * torch.softmax(part, dim=-1)
            edge = pad(torch.cumsum(share, dim=-1), (1, 0)) * (2 * self.limit) - self.limit
            knots.append(torch.cat([edge[..., :-1], torch.full_like(edge[..., :1], self.limit)], dim=-1))
        slopes = smallest + softplus(out[..., 2 * n :] + float(np.log(np.expm1(1 - smallest))))
        return knots[0], knots[1], pad(slopes, (1, 1), value=1.0)


def _at(k: Tensor, x: Tensor, y: Tensor, slopes: Tensor) -> tuple[Tensor, ...]:
    """Pick both ends of bin k of x, y and slopes."""
    return tuple(t.gather(-1, j).squeeze(-1) for t in (x, y, slopes) for j in (k, k + 1))
