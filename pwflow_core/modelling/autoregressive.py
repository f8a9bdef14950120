"""Masked autoregressive flows, many of them stacked, with the gradient written by hand.

All flows of a stack have one architecture. Their parameters are the rows of one matrix (K, P), so that a step
of the optimiser, a copy of the best weights or dropping a finished cluster is one operation on a matrix.
Per transform, the coordinates are mixed by a matrix, v = u A, and each is bent (see `elements`) as a network
with one hidden layer says that sees the coordinates before it only (Germain et al. 2015, arXiv:1502.03509;
Papamakarios et al. 2017, arXiv:1705.07057). The matrix, the identity at first, finds the
axes along which a cluster is bent; it halves the error on bent clusters in eight dimensions, where the order
of the sensors means nothing.

Tails: the network sees its input clamped, so that far away the transform is linear.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pwflow_core.modelling.elements import Affine, Element, Spline, tanh_


@dataclass(frozen=True)
class Architecture:
    """The shape of a flow.

    Attributes:
        n_features: D.
        transforms: Autoregressive transforms; the order of the coordinates turns round from one to the next.
        hidden: Hidden units of each transform's network.
        kind: `affine` or `spline`.
        bins: Bins of a spline.
        log_scale_bound: Largest |s| of an affine transform.
        input_bound: The networks see their inputs clamped to this many standard deviations.

    """

    n_features: int
    transforms: int = 3
    hidden: int = 32
    kind: str = "affine"
    bins: int = 8
    log_scale_bound: float = 3.0
    input_bound: float = 6.0

    @property
    def outputs(self) -> int:
        """Values the network gives per transform."""
        return self.element.values * self.n_features

    @cached_property
    def element(self) -> Element:
        """What is done to each coordinate."""
        if self.kind == "affine":
            return Affine(self.log_scale_bound)
        if self.kind == "spline":
            return Spline(self.bins, self.input_bound)
        raise ValueError(f"Expected kind 'affine' or 'spline', got {self.kind!r}.")

    @cached_property
    def shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """Names and shapes of a flow's parameters, in the order in which they lie in its row."""
        d, h, o = self.n_features, self.hidden, self.outputs
        return [
            (f"{name}.{t}", shape)
            for t in range(self.transforms)
            for name, shape in (("mix", (d, d)), ("w1", (d, h)), ("b1", (h,)), ("w2", (h, o)), ("b2", (o,)))
        ]

    @property
    def n_parameters(self) -> int:
        """P, counting the masked ones."""
        return sum(int(np.prod(shape)) for _, shape in self.shapes)

    def order(self, transform: int) -> Tensor:
        """Return the rank of each coordinate in the given transform, shape (D,)."""
        rank = torch.arange(self.n_features)
        return rank if transform % 2 == 0 else rank.flip(0)

    def degrees(self) -> Tensor:
        """Return how many coordinates, in rank order, each hidden unit may see, shape (H,), ascending."""
        if self.n_features == 1:
            return torch.zeros(self.hidden, dtype=torch.long)
        return 1 + torch.arange(self.hidden) * (self.n_features - 1) // self.hidden

    def mask(self) -> Tensor:
        """Return 1 where a parameter may differ from zero, shape (P,)."""
        parts = []
        for t in range(self.transforms):
            rank, degree = self.order(t), self.degrees()
            parts.append(torch.ones(self.n_features**2, dtype=torch.bool))
            parts.append((rank[:, None] < degree).flatten())
            parts.append(torch.ones(self.hidden, dtype=torch.bool))
            see = (degree[:, None] <= rank).repeat(1, self.outputs // self.n_features)
            parts.append(see.flatten())
            parts.append(torch.ones(self.outputs, dtype=torch.bool))
        return torch.cat(parts).to(torch.float32)

    def initial(self, seed: int) -> Tensor:
        """Return parameters for which the flow is the identity, shape (P,)."""
        generator = torch.Generator().manual_seed(seed)
        parts = []
        seen = self.degrees().clamp(min=1).to(torch.float32)
        for name, shape in self.shapes:
            part = torch.zeros(shape)
            if name.startswith("mix"):
                part = torch.eye(self.n_features)
            elif name.startswith("w1"):
                part = 0.4 * torch.randn(shape, generator=generator) / seen.sqrt()
            elif name.startswith("b1"):
                part = torch.randn(shape, generator=generator)
            parts.append(part.flatten())
        return torch.cat(parts) * self.mask()

    def decayed(self) -> Tensor:
        """Return 1 for the weights of the networks, which decay towards the identity flow, shape (P,)."""
        parts = [torch.full((int(np.prod(shape)),), float(name[0] == "w")) for name, shape in self.shapes]
        return torch.cat(parts) * self.mask()

    def views(self, parameters: Tensor) -> list[list[Tensor]]:
        """Split parameters (K, P) into [mix, w1, b1, w2, b2] per transform, as views (K, ...)."""
        found, offset = [], 0
        for _, shape in self.shapes:
            size = int(np.prod(shape))
            part = parameters[:, offset : offset + size].view(-1, *shape)
            found.append(part if len(shape) == 2 else part.unsqueeze(1))
            offset += size
        return [found[i : i + 5] for i in range(0, len(found), 5)]


def forward(
    architecture: Architecture, views: list[list[Tensor]], u: Tensor, mixing: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Map white rows to latents.

    Arguments:
        architecture: The shape of the flows.
        views: `architecture.views(parameters)`.
        u: White rows, shape (K, B, D).
        mixing: `mixing_log_det(views)`, if it is at hand.

    Returns:
        Latents z, shape (K, B, D), and log |det dz/du|, shape (K, B).

    """
    mixing = mixing_log_det(views) if mixing is None else mixing
    log_det = mixing[:, None].expand(u.shape[:2])
    for mix, w1, b1, w2, b2 in views:
        v = torch.bmm(u, mix)
        seen = v.clamp(-architecture.input_bound, architecture.input_bound)
        out = torch.baddbmm(b2, tanh_(torch.baddbmm(b1, seen, w1)), w2)
        u, change = architecture.element.forward(out, v)
        log_det = log_det + change
    return u, log_det


def loss_and_gradient(
    architecture: Architecture,
    views: list[list[Tensor]],
    gradients: list[list[Tensor]],
    u: Tensor,
    weight: Tensor,
) -> Tensor:
    """Write the gradient of the weighted negative log-density into `gradients`.

    loss_k = Σ_b weight_kb (½ |z_kb|² - log |det dz/du|_kb), without the constant D/2 log 2π.

    The gradient includes the volume changes of the matrices A; the returned loss leaves them out, because
    they cost a factorisation per step and move slowly: see `mixing_log_det`.

    Arguments:
        architecture: The shape of the flows.
        views: `architecture.views(parameters)`.
        gradients: `architecture.views(gradient)`, overwritten; masked entries are not zeroed.
        u: White rows, shape (K, B, D).
        weight: Row weights, shape (K, B).

    Returns:
        The loss of each flow, shape (K,), without log |det A|.

    """
    element, w = architecture.element, weight.unsqueeze(-1)
    total = w.sum(dim=1, keepdim=True)
    kept = []
    log_det = torch.zeros_like(weight)
    for mix, w1, b1, w2, b2 in views:
        v = torch.bmm(u, mix)
        seen = v.clamp(-architecture.input_bound, architecture.input_bound)
        hidden = tanh_(torch.baddbmm(b1, seen, w1))
        z, change, saved = element.forward_saving(torch.baddbmm(b2, hidden, w2), v)
        log_det += change
        kept.append((u, v, seen, hidden, saved))
        u = z
    loss = (weight * (0.5 * (u * u).sum(dim=-1) - log_det)).sum(dim=-1)
    grad = w * u
    for (mix, w1, _, w2, _), (g0, g1, gb1, g2, gb2), (before, v, seen, hidden, saved) in zip(
        reversed(views), reversed(gradients), reversed(kept), strict=True
    ):
        grad_out, direct = element.backward(saved, grad, w)
        torch.bmm(hidden.transpose(1, 2), grad_out, out=g2)
        torch.sum(grad_out, dim=1, keepdim=True, out=gb2)
        back = torch.bmm(grad_out, w2.transpose(1, 2)).mul_(1 - hidden * hidden)
        torch.bmm(seen.transpose(1, 2), back, out=g1)
        torch.sum(back, dim=1, keepdim=True, out=gb1)
        through = torch.bmm(back, w1.transpose(1, 2)).mul_(v == seen)
        grad = direct + through
        torch.bmm(before.transpose(1, 2), grad, out=g0)
        g0 -= total * torch.linalg.inv(mix).transpose(1, 2)
        grad = torch.bmm(grad, mix.transpose(1, 2))
    return loss


def mixing_log_det(views: list[list[Tensor]]) -> Tensor:
    """Return the log volume change of all matrices A of each flow, nats, shape (K,)."""
    return torch.stack([torch.linalg.slogdet(mix).logabsdet for mix, *_ in views]).sum(dim=0)


def inverse(architecture: Architecture, views: list[list[Tensor]], z: Tensor) -> Tensor:
    """Map latents (K, B, D) back to white rows, one coordinate after the other.

    The hidden units are sorted by what they see, so each step computes just the units that have become known.
    """
    d, degree = architecture.n_features, architecture.degrees().tolist()
    for t in reversed(range(architecture.transforms)):
        mix, w1, b1, w2, b2 = views[t]
        v = torch.zeros_like(z)
        hidden = z.new_zeros((*z.shape[:2], architecture.hidden))
        done = 0
        for rank, column in enumerate(torch.argsort(architecture.order(t)).tolist()):
            known = sum(1 for g in degree if g <= rank) if d > 1 else architecture.hidden
            if known > done:
                seen = v.clamp(-architecture.input_bound, architecture.input_bound)
                new = slice(done, known)
                hidden[..., new] = tanh_(torch.baddbmm(b1[..., new], seen, w1[..., new]))
                done = known
            pick = list(range(column, architecture.outputs, d))
            out = torch.baddbmm(b2[..., pick], hidden[..., :done], w2[:, :done, pick])
            v[..., column] = architecture.element.inverse(out, z[..., column])
        z = torch.linalg.solve(mix, v, left=False)
    return z
