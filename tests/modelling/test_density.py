"""What scores, in NumPy, beside what was trained, in PyTorch; and model files beside the library of their format."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from pwflow_core.modelling.autoregressive import Architecture, forward
from pwflow_core.modelling.blending import Shares
from pwflow_core.modelling.components import Components
from pwflow_core.modelling.density import Density
from pwflow_core.modelling.flow import ClusterFlow, TrainingHistory
from pwflow_core.modelling.gaussian_mixture import fit_components
from pwflow_core.modelling.rows import TrainingData
from pwflow_core.modelling.seeds import GaussianMixture
from pwflow_core.modelling.serialization import read_safetensors, write_safetensors
from pwflow_core.modelling.whitening import Whitening

pytestmark = pytest.mark.quick

SIZES = [("affine", 1), ("affine", 3), ("affine", 8), ("affine", 32), ("spline", 1), ("spline", 5)]


def random_flow(kind: str, n_features: int) -> ClusterFlow:
    rng, architecture = np.random.default_rng(n_features), Architecture(n_features, kind=kind)
    generator = torch.Generator().manual_seed(n_features)
    noise = torch.randn(architecture.n_parameters, generator=generator)
    spread = rng.normal(size=(n_features + 2, n_features))
    whitening = Whitening.from_gaussian(rng.normal(size=n_features), spread.T @ spread)
    parameters = architecture.initial(n_features) + 0.05 * noise * architecture.mask()
    spreads = rng.normal(size=(3, n_features + 2, n_features))
    mixture = GaussianMixture(
        np.array([0.2, 0.3, 0.5]), rng.normal(size=(3, n_features)), spreads.transpose(0, 2, 1) @ spreads
    )
    shares = Shares(0.9, 0.09, 0.01)
    return ClusterFlow(whitening, architecture, parameters, TrainingHistory(), shares, Components.of(mixture))


def readings_of(flow: ClusterFlow, n: int) -> np.ndarray:
    """Draws of the flow, and some that are further and further out."""
    drawn = flow.sample(n, 0)
    drawn[::9] += flow.whitening.scale * np.geomspace(1, 1e6, len(drawn[::9]))[:, None]
    return drawn


@pytest.mark.parametrize(("kind", "n_features"), SIZES)
def test_numpy_gives_the_density_of_pytorch(kind, n_features):
    flow = random_flow(kind, n_features)
    X = flow.sample(500, 1)
    white = torch.from_numpy(flow.whitening.whiten(X)).double()
    views = [[part.double() for part in layer] for layer in flow.architecture.views(flow.parameters[None])]
    z, log_det = (part[0].numpy() for part in forward(flow.architecture, views, white[None]))
    found = flow.evaluate(X)
    expected = log_det + flow.whitening.log_det - 0.5 * (z**2).sum(axis=1) - n_features / 2 * np.log(2 * np.pi)
    np.testing.assert_allclose(found.latents, z, atol=1e-4)
    alone = flow.density.evaluate(X, components=False)
    np.testing.assert_allclose(alone.conformity, expected, atol=1e-4)
    beside = flow.components.mixture.log_prob(flow.whitening.whiten(X)) + flow.whitening.log_det
    np.testing.assert_allclose(found.conformity, (expected + beside) / 2, atol=1e-4)
    assert (found.log_prob == alone.log_prob).all()


@pytest.mark.parametrize(("kind", "n_features"), SIZES)
def test_what_is_said_of_a_reading_depends_on_no_other_one(kind, n_features):
    flow = random_flow(kind, n_features)
    X = readings_of(flow, 400)
    together, rng = flow.evaluate(X), np.random.default_rng(0)
    for _ in range(20):
        rows = rng.permutation(len(X))[: rng.integers(1, 60)]
        apart = flow.evaluate(X[rows], batch_rows=int(rng.integers(1, 40)))
        assert (apart.log_prob == together.log_prob[rows]).all()
        assert (apart.conformity == together.conformity[rows]).all()


@pytest.mark.parametrize(("kind", "n_features"), SIZES)
def test_the_file_of_a_flow_scores_without_pytorch(kind, n_features):
    flow = random_flow(kind, n_features)
    X = readings_of(flow, 50)
    read = Density.from_bytes(flow.to_bytes())
    assert (read.log_prob(X) == flow.log_prob(X)).all()
    assert (read.evaluate(X).conformity == flow.evaluate(X).conformity).all()


def test_a_file_without_a_mixture_beside_the_flow_is_judged_by_the_flow_alone():
    flow = random_flow("affine", 3)
    X, flow.components = readings_of(flow, 50), None
    read = Density.from_bytes(flow.to_bytes())
    assert (read.evaluate(X).conformity == read.evaluate(X, components=False).conformity).all()


def test_the_mixture_beside_a_flow_is_found_where_one_gaussian_is_not_enough():
    rng = np.random.default_rng(0)
    round_cloud, held_out = rng.normal(size=(3000, 2)), np.arange(3000) % 6 == 0
    two = np.where(rng.random((3000, 1)) < 0.5, -1.0, 1.0) + 0.1 * round_cloud
    alone, found = (fit_components(TrainingData.unlabelled(X, np.ones(len(X)), held_out)) for X in (round_cloud, two))
    assert alone is None
    assert fit_components(TrainingData.unlabelled(two[:50], np.ones(50), held_out[:50])) is None
    middle, at_home = found.log_prob(np.array([[0.0, 0.0], [1.0, 1.0]]))
    assert at_home - middle > 20


def test_model_files_are_those_of_the_library_to_the_byte():
    rng = np.random.default_rng(0)
    kinds = (np.float64, np.float32, np.int64, np.int32, np.uint8, np.bool_, np.uint64)
    arrays = {f"ä/{i}": rng.integers(0, 2, (i % 4, 3)).astype(kinds[i % 7]) for i in range(14)}
    metadata = {"pwflow": '{"ü": "\\"x\\""}'}
    data = write_safetensors(arrays, metadata)
    assert data == bytes(save(arrays, metadata))
    found, words = read_safetensors(data)
    assert words == metadata
    for name, array in load(data).items():
        assert found[name].dtype == array.dtype
        assert (found[name] == array).all()


@pytest.mark.parametrize("architecture", [{"kind": "cubic"}, {"transforms": 4}])
def test_a_flow_that_is_not_as_its_file_says_is_refused(architecture):
    flow = random_flow("affine", 3)
    with pytest.raises((KeyError, ValueError)):
        Density.of(flow.whitening, flow.tensors(), asdict(flow.architecture) | architecture, flow.shares)
