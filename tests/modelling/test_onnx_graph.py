"""The ONNX graph of a flow gives the density of the flow."""

from __future__ import annotations

import numpy as np
import pytest

from pwflow_core.modelling.autoregressive import Architecture
from pwflow_core.modelling.blending import Shares
from pwflow_core.modelling.density import Density
from pwflow_core.modelling.flow import ClusterFlow, TrainingHistory
from tests.modelling.test_density import SIZES, random_flow, readings_of

onnx_graph = pytest.importorskip(
    "pwflow_core.modelling.onnx_graph", reason="onnx is not installed", exc_type=ImportError
)
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

pytestmark = pytest.mark.quick


def gaussian(n_features: int) -> ClusterFlow:
    flow = random_flow("affine", n_features)
    return ClusterFlow(flow.whitening, Architecture(n_features), None, TrainingHistory(), Shares(0.0, 0.98, 0.02))


FLOWS = {f"{kind}-{n_features}": random_flow(kind, n_features) for kind, n_features in SIZES} | {
    "gaussian": gaussian(3)
}


@pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
def test_onnx_gives_the_density_of_numpy(flow):
    density = Density.from_bytes(flow.to_bytes())
    session = onnxruntime.InferenceSession(onnx_graph.to_onnx(density), providers=["CPUExecutionProvider"])
    X = readings_of(flow, 400)
    X[7] = 1e200
    for rows in (X, X[:1], X[:0]):
        log_density, conformity = session.run(list(onnx_graph.OUTPUTS), {onnx_graph.INPUT: rows})
        expected = density.evaluate(rows)
        np.testing.assert_allclose(log_density, expected.log_prob, rtol=1e-6, atol=1e-4)
        np.testing.assert_allclose(conformity, expected.conformity, rtol=1e-5, atol=1e-4)
