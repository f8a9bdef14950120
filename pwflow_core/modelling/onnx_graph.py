"""The density of one regime as an ONNX graph: for machines that run ONNX and not Python.

Readings in raw units go in, double precision, shape (N, D). Out come, in nats, shape (N,): `log_density`, and
`conformity`, which p-values are made from. The arithmetic is that of `density` and `network`, step by step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pwflow_core.modelling.blending import DEGREES
from pwflow_core.modelling.components import Components
from pwflow_core.modelling.density import LARGEST_FLOAT32, Density
from pwflow_core.modelling.network import LINEAR_FROM, SMALLEST, Network
from pwflow_core.modelling.whitening import LARGEST

__all__ = ["INPUT", "OUTPUTS", "to_onnx"]

INPUT = "readings"
OUTPUTS = ("log_density", "conformity")
_OPSET, _IR = 17, 8  # what runtimes of 2022 read
_FLOAT, _DOUBLE, _INT = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64


def to_onnx(density: Density) -> bytes:
    """Return the ONNX file of a density."""
    graph = _Graph()
    d = density.n_features
    white = graph.whiten(INPUT, density)
    single = graph("Cast", graph.clip(white, LARGEST_FLOAT32, np.float64), to=_FLOAT)
    radius = graph.squared_radius(single)
    volume = density.whitening.log_det
    tail = graph.add(graph.log_tail(radius, d), math.log(density.shares.tail))
    bell = graph.add(graph.log_gaussian(radius, d), math.log(density.shares.gaussian))
    mixed = graph.log_add(tail, bell)
    if density.network is None:
        conformity = graph.log_gaussian(radius, d)
    else:
        z, change = graph.network(single, density.network)
        conformity = graph("Add", graph.log_gaussian(graph.squared_radius(z), d), change)
        mixed = graph.log_add(mixed, graph.add(conformity, math.log(density.shares.flow)))
    if density.components is not None:
        both = graph("Add", conformity, graph.components(single, density.components))
        conformity = graph("Mul", both, graph.constant(np.float64(0.5)))
    for name, value in zip(OUTPUTS, (mixed, conformity), strict=True):
        graph("Add", value, graph.constant(np.float64(volume)), output=name)
    return graph.to_bytes(d)


class _Graph:
    """A graph that grows; values go by their names."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def __call__(self, kind: str, *inputs: str, output: str | None = None, **attributes: object) -> str:
        """Add an operator of one output, and return the name of that."""
        name = output or f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, value: NDArray[Any] | np.generic) -> str:
        """Add a constant."""
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def split(self, value: str, sizes: list[int]) -> list[str]:
        """Cut along the second axis."""
        names = [f"v{len(self._nodes)}_{part}" for part in range(len(sizes))]
        self._nodes.append(helper.make_node("Split", [value, self._ints(*sizes)], names, axis=1))
        return names

    def add(self, value: str, number: float) -> str:
        """Add a number to doubles."""
        return self("Add", value, self.constant(np.float64(number)))

    def clip(self, value: str, limit: float, kind: type[np.floating[Any]]) -> str:
        """Bound to both sides of zero."""
        return self("Clip", value, self.constant(kind(-limit)), self.constant(kind(limit)))

    def total(self, value: str, *, keep: bool = False) -> str:
        """Sum over the second axis."""
        return self("ReduceSum", value, self._ints(1), keepdims=int(keep))

    def squared_radius(self, single: str) -> str:
        """Return the sum of squares of each row, in double precision."""
        wide = self("Cast", single, to=_DOUBLE)
        return self.total(self("Mul", wide, wide))

    def log_gaussian(self, radius: str, d: int) -> str:
        """See `blending.log_gaussian`."""
        return self("Mul", self.add(radius, d * math.log(2 * math.pi)), self.constant(np.float64(-0.5)))

    def log_tail(self, radius: str, d: int) -> str:
        """See `blending.log_tail`."""
        half = (DEGREES + d) / 2
        constant = math.lgamma(half) - math.lgamma(DEGREES / 2) - d / 2 * math.log(DEGREES * math.pi)
        grown = self("Log", self.add(self("Div", radius, self.constant(np.float64(DEGREES))), 1.0))
        return self.add(self("Mul", grown, self.constant(np.float64(-half))), constant)

    def log_add(self, a: str, b: str) -> str:
        """Return log(exp a + exp b)."""
        less = self("Exp", self("Neg", self("Abs", self("Sub", a, b))))
        return self("Add", self("Max", a, b), self("Log", self.add(less, 1.0)))

    def whiten(self, x: str, density: Density) -> str:
        """See `whitening.Whitening.whiten`."""
        centre, scale, forward = (
            self.constant(np.asarray(getattr(density.whitening, name), dtype=np.float64))
            for name in ("centre", "scale", "forward")
        )
        standard = self("Div", self("Sub", self.clip(x, LARGEST, np.float64), centre), scale)
        product = self("MatMul", self.clip(standard, LARGEST, np.float64), forward)
        return self.clip(product, LARGEST, np.float64)

    def components(self, single: str, components: Components) -> str:
        """See `components.Components.log_prob`."""
        n_parts, d = components.mixture.means.shape
        forward, shift, constant = map(self.constant, (components.forward, components.shift, components.constant))
        white = self("Sub", self("MatMul", self("Cast", single, to=_DOUBLE), forward), shift)
        parts = self("Reshape", self("Mul", white, white), self._ints(0, n_parts, d))
        radius = self("ReduceSum", parts, self._ints(2), keepdims=0)
        joint = self("Sub", constant, self("Mul", radius, self.constant(np.float64(0.5))))
        return self("ReduceLogSumExp", joint, axes=[1], keepdims=0)

    def network(self, u: str, network: Network) -> tuple[str, str]:
        """See `network.Network.forward`; the log volume change is in double precision."""
        log_det = self.constant(np.float64(network.mixing_log_det))
        transform = self._affine if network.kind == "affine" else self._spline
        for layer in network.layers:
            mix, w1, b1, w2, b2 = (self.constant(part) for part in layer)
            v = self("MatMul", u, mix)
            seen = self.clip(v, network.input_bound, np.float32)
            hidden = self("Tanh", self("Add", self("MatMul", seen, w1), b1))
            out = self("Add", self("MatMul", hidden, w2), b2)
            u, change = transform(out, v, network, layer[0].shape[0])
            log_det = self("Add", log_det, self("Cast", change, to=_DOUBLE))
        return u, log_det

    def _affine(self, out: str, v: str, network: Network, d: int) -> tuple[str, str]:
        shift, raw = self.split(out, [d, d])
        bound = self._single(network.log_scale_bound)
        s = self("Mul", self("Tanh", self("Div", raw, self("Neg", bound))), bound)
        return self("Mul", self("Sub", v, shift), self("Exp", s)), self.total(s)

    def _spline(self, out: str, v: str, network: Network, d: int) -> tuple[str, str]:
        n, limit, one = network.bins, network.input_bound, self._single(1.0)
        values = self("Reshape", out, self._ints(0, 3 * n - 1, d))
        widths, heights, raw = self.split(values, [n, n, n - 1])
        x, y = self._knots(widths, n, limit), self._knots(heights, n, limit)
        raised = self("Add", raw, self._single(math.log(math.expm1(1 - SMALLEST))))
        soft = self("Softplus", self("Min", raised, self._single(LINEAR_FROM)))
        straight = self("Greater", raised, self._single(LINEAR_FROM))
        inner = self("Add", self("Where", straight, raised, soft), self._single(SMALLEST))
        slopes = self._between(inner, n - 1, 1.0, 1.0)
        inside, at = self("Less", self("Abs", v), self._single(limit)), self.clip(v, limit, np.float32)
        _, knots, _ = self.split(x, [1, n - 1, 1])
        passed = self("Less", knots, self("Unsqueeze", at, self._ints(1)))
        k = self.total(self("Cast", passed, to=_INT), keep=True)
        after = self("Add", k, self._ints(1))

        def ends(of: str) -> tuple[str, str]:
            first, last = (self("GatherElements", of, place, axis=1) for place in (k, after))
            return self("Squeeze", first, self._ints(1)), self("Squeeze", last, self._ints(1))

        (x0, x1), (y0, y1), (d0, d1) = ends(x), ends(y), ends(slopes)
        multiply, plus = self._folded("Mul"), self._folded("Add")
        width, height = self("Sub", x1, x0), self("Sub", y1, y0)
        s, t = self("Div", height, width), self("Div", self("Sub", at, x0), width)
        rest = self("Sub", one, t)
        u, two = multiply(t, rest), self._single(2.0)
        below = plus(s, multiply(self("Sub", plus(d1, d0), multiply(two, s)), u))
        above = multiply(height, plus(multiply(s, t, t), multiply(d0, u)))
        z = plus(y0, self("Div", above, below))
        bent = plus(multiply(d1, t, t), multiply(two, s, u), multiply(d0, rest, rest))
        slope = self("Div", multiply(s, s, bent), multiply(below, below))
        change = self("Where", inside, self("Log", slope), self._single(0.0))
        return self("Where", inside, z, v), self.total(change)

    def _knots(self, part: str, n: int, limit: float) -> str:
        """See `network.Network`."""
        share = self("Mul", self("Softmax", part, axis=1), self._single(1 - n * SMALLEST))
        cumulated = self("CumSum", self("Add", share, self._single(SMALLEST)), self._ints(1))
        inner, _ = self.split(cumulated, [n - 1, 1])
        placed = self("Sub", self("Mul", inner, self._single(2 * limit)), self._single(limit))
        return self._between(placed, n - 1, -limit, limit)

    def _between(self, inner: str, n: int, first: float, last: float) -> str:
        """Put a number before and one behind, along the second axis."""
        some, *_ = self.split(inner, [1, n - 1]) if n > 1 else [inner]
        none = self("Sub", some, some)
        ends = (self("Add", none, self._single(value)) for value in (first, last))
        return self("Concat", next(ends), inner, next(ends), axis=1)

    def _folded(self, kind: str) -> Callable[..., str]:
        def fold(first: str, *others: str) -> str:
            for other in others:
                first = self(kind, first, other)
            return first

        return fold

    def _single(self, value: float) -> str:
        return self.constant(np.float32(value))

    def _ints(self, *values: int) -> str:
        return self.constant(np.array(values, dtype=np.int64))

    def to_bytes(self, d: int) -> bytes:
        """Return the file, checked by the rules of ONNX."""
        made = helper.make_graph(
            self._nodes,
            "pwflow_regime",
            [helper.make_tensor_value_info(INPUT, _DOUBLE, ["N", d])],
            [helper.make_tensor_value_info(name, _DOUBLE, ["N"]) for name in OUTPUTS],
            self._constants,
        )
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="pwflow")
        model.ir_version = _IR
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())
