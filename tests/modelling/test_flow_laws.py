"""Laws of a single flow, for every kind of transform."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_t
from torch.distributions import AffineTransform

from pwflow_core.errors import ModelFileError, SchemaMismatchError
from pwflow_core.modelling import ClusterFlow, FlowSettings, train_flows
from pwflow_core.modelling.autoregressive import Architecture, forward, inverse, loss_and_gradient
from pwflow_core.modelling.serialization import pack

from .conftest import cluster_rows, draw_bananas

ARCHITECTURES = {
    "affine_2d": Architecture(2, transforms=2, hidden=8),
    "affine_5d": Architecture(5, transforms=3, hidden=16),
    "affine_1d": Architecture(1, transforms=2, hidden=4),
    "spline_1d": Architecture(1, transforms=2, hidden=4, kind="spline"),
    "spline_3d": Architecture(3, transforms=2, hidden=8, kind="spline"),
}


@pytest.fixture(params=ARCHITECTURES, name="architecture")
def _architecture(request):
    return ARCHITECTURES[request.param]


@pytest.fixture(name="parameters")
def _parameters(architecture):
    """Three flows far from the identity, in double precision."""
    noise = torch.randn(3, architecture.n_parameters, generator=torch.Generator().manual_seed(1))
    start = architecture.initial(0)
    return ((start + 0.2 * noise) * architecture.mask()).double()


def white(architecture, n=40, scale=2.0):
    generator = torch.Generator().manual_seed(2)
    return scale * torch.randn(3, n, architecture.n_features, generator=generator, dtype=torch.float64)


def test_starts_as_the_identity(architecture):
    u = white(architecture).float()
    z, log_det = forward(architecture, architecture.views(architecture.initial(0).repeat(3, 1)), u)
    assert torch.allclose(z, u, atol=1e-5)
    assert log_det.abs().max() < 1e-4


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
def test_inverse_inverts(architecture, parameters, dtype, tolerance):
    views, u = architecture.views(parameters.to(dtype)), white(architecture).to(dtype)
    z, _ = forward(architecture, views, u)
    again = inverse(architecture, views, z)
    assert ((again - u).abs() / (1 + u.abs())).max() < tolerance


def test_log_determinant_equals_the_one_of_autograd(architecture, parameters):
    views = architecture.views(parameters[:1])
    rows = white(architecture, n=6)[0]
    _, log_det = forward(architecture, views, rows[None])
    for row, expected in zip(rows, log_det[0], strict=True):
        jacobian = torch.autograd.functional.jacobian(
            lambda u: forward(architecture, views, u[None, None])[0][0, 0], row
        )
        assert torch.linalg.slogdet(jacobian).logabsdet == pytest.approx(float(expected), abs=1e-8)


def test_masks_let_no_coordinate_see_itself_or_later_ones(architecture, parameters):
    single = replace(architecture, transforms=1)
    row = parameters[0, : single.n_parameters].clone()
    views = single.views(row[None])
    views[0][0].copy_(torch.eye(single.n_features)[None])
    jacobian = torch.autograd.functional.jacobian(
        lambda u: forward(single, views, u[None, None])[0][0, 0], white(single)[0, 0]
    )
    assert torch.equal(jacobian.triu(1), torch.zeros_like(jacobian))


def test_gradient_by_hand_equals_finite_differences(architecture, parameters):
    u = white(architecture, n=7)
    weight = torch.rand(3, 7, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    gradient = torch.zeros_like(parameters)
    loss_and_gradient(architecture, architecture.views(parameters), architecture.views(gradient), u, weight)

    def loss(p):
        z, log_det = forward(architecture, architecture.views(p), u)
        return (weight * (0.5 * (z**2).sum(-1) - log_det)).sum()

    for seed in range(3):
        direction = torch.randn(parameters.shape, generator=torch.Generator().manual_seed(seed))
        direction = direction.double() * architecture.mask()
        numeric = (loss(parameters + 1e-6 * direction) - loss(parameters - 1e-6 * direction)) / 2e-6
        assert float((gradient * direction).sum()) == pytest.approx(float(numeric), rel=1e-5, abs=1e-6)


def test_every_free_parameter_gets_a_gradient(architecture, parameters):
    gradient = torch.zeros_like(parameters)
    u, weight = white(architecture, n=200), torch.ones(3, 200, dtype=torch.float64)
    loss_and_gradient(architecture, architecture.views(parameters), architecture.views(gradient), u, weight)
    reached = (gradient.abs().sum(dim=0) > 0) | (architecture.mask() == 0)
    if architecture.n_features == 1:  # nothing comes before the only coordinate: no weight can say anything
        reached |= architecture.decayed() > 0
    assert reached.all()


def test_zuko_agrees_on_copied_weights():
    zuko = pytest.importorskip("zuko")
    architecture = Architecture(4, transforms=2, hidden=12)

    def univariate(shift, raw):
        scale = torch.exp(-3.0 * torch.tanh(raw / 3.0))
        return AffineTransform(-shift * scale, scale)

    torch.manual_seed(0)
    theirs = [
        zuko.flows.MaskedAutoregressiveTransform(
            4, order=order, hidden_features=(12,), activation=torch.nn.Tanh,
            univariate=univariate, shapes=[(), ()],
        )
        for order in (torch.arange(4), torch.arange(4).flip(0))
    ]  # fmt: skip
    parameters = architecture.initial(0)
    for (mix, w1, b1, w2, b2), transform in zip(architecture.views(parameters[None]), theirs, strict=True):
        first, last = transform.hyper[0], transform.hyper[-1]
        mix.copy_(torch.eye(4)[None])
        w1.copy_((first.mask * first.weight).T[None].detach())
        b1.copy_(first.bias.detach())
        w2.copy_((last.mask * last.weight).reshape(4, 2, 12).transpose(0, 1).reshape(8, 12).T[None].detach())
        b2.copy_(last.bias.reshape(4, 2).T.reshape(8).detach())
    x = torch.randn(50, 4)
    flow = zuko.flows.Flow(theirs, zuko.flows.UnconditionalDistribution(
        zuko.distributions.DiagNormal, torch.zeros(4), torch.ones(4), buffer=True,
    ))  # fmt: skip
    z, log_det = forward(architecture, architecture.views(parameters[None]), x[None])
    ours = log_det[0] - 0.5 * (z[0] ** 2).sum(-1) - 2 * np.log(2 * np.pi)
    assert torch.allclose(ours, flow().log_prob(x), atol=1e-4)


def test_density_integrates_to_one_in_two_dimensions():
    x = draw_bananas(1500)
    for kind in ("affine", "spline"):
        (found,) = train_flows([cluster_rows(x)], FlowSettings(kind=kind, max_steps=120))
        edge = np.linspace(-12, 40, 700)
        grid = np.stack(np.meshgrid(edge, edge), axis=-1).reshape(-1, 2)
        mass = np.exp(found.log_prob(grid)).sum() * (edge[1] - edge[0]) ** 2
        assert mass == pytest.approx(1, abs=5e-3)


def test_density_integrates_to_one_in_eight_dimensions():
    (found,) = train_flows([cluster_rows(draw_bananas(1500, 8))], FlowSettings(max_steps=120))
    rng = np.random.default_rng(0)
    u = rng.standard_normal((100_000, 8)) / np.sqrt(rng.chisquare(5, size=(100_000, 1)) / 5)
    x = found.whitening.colour(1.5 * u)
    proposal = multivariate_t(np.zeros(8), 1.5**2 * np.eye(8), df=5).logpdf(1.5 * u) + found.whitening.log_det
    ratio = np.exp(found.log_prob(x) - proposal)
    assert ratio.mean() == pytest.approx(1, abs=max(0.03, 4 * ratio.std() / np.sqrt(len(ratio))))


def test_samples_follow_the_density(flow):
    """E_p[log p] from samples equals the cross-entropy computed by importance weights of the same flow."""
    drawn = flow.sample(20_000, 0)
    z = flow.latents(drawn)
    inside = np.abs(z).max(axis=1) < 8
    assert inside.mean() > 0.97
    assert np.abs(z[inside].mean(axis=0)).max() < 0.1
    assert np.array_equal(drawn, flow.sample(20_000, 0))


def test_save_then_load_is_bit_equal(flow):
    again = ClusterFlow.from_bytes(flow.to_bytes())
    x = flow.sample(500, 1)
    assert np.array_equal(flow.log_prob(x), again.log_prob(x))
    assert again.to_bytes() == flow.to_bytes()


def test_a_file_holds_what_scores_and_not_how_it_was_trained(flow):
    """A file from before that was so is read with its history, and scores the same."""
    before = pack("cluster_flow", flow.tensors(), flow.document() | {"history": flow.history.document()})
    again = ClusterFlow.from_bytes(before)
    assert again.history == replace(flow.history, seconds=0.0)
    assert again.to_bytes() == flow.to_bytes() != before


@pytest.mark.parametrize("at", [3, 40, -5])
def test_a_flipped_byte_is_noticed(flow, at):
    data = bytearray(flow.to_bytes())
    data[at] ^= 1
    with pytest.raises(ModelFileError):
        ClusterFlow.from_bytes(bytes(data))


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_file_cut_short_is_noticed(flow, keep):
    with pytest.raises(ModelFileError):
        ClusterFlow.from_bytes(flow.to_bytes()[:keep])


@pytest.mark.parametrize("value", [1e30, -1e30, 1e-30, 1e300, 1e6])
def test_extreme_readings_get_finite_log_densities(flow, value):
    x = np.zeros((3, flow.n_features))
    x[np.arange(3) % flow.n_features, np.arange(3) % flow.n_features] = value
    assert np.isfinite(flow.log_prob(x)).all()
    assert np.isfinite(flow.latents(x)).all()


def test_what_p_values_are_made_from_has_no_ceiling_and_what_means_are_made_from_has_one(flow):
    away = np.linspace(10, 1000, 50)[:, None] * np.ones(flow.n_features)
    found = flow.evaluate(flow.whitening.centre + away * flow.whitening.scale)
    assert (np.diff(found.conformity) < 0).all()
    assert np.ptp(found.conformity) > 10_000
    assert np.ptp(found.tempered_conformity) < 100


def test_log_prob_does_not_depend_on_the_batch(flow):
    x = flow.sample(1000, 2)
    assert flow.log_prob(x, batch_rows=64) == pytest.approx(flow.log_prob(x), abs=1e-4)


@pytest.mark.parametrize("n", [1, 3, 17, 33, 100, 700])
def test_what_is_said_of_a_reading_does_not_depend_on_how_many_come_with_it(flow, n):
    x = flow.sample(1000, 2)
    some, all_of_them = flow.evaluate(x[:n]), flow.evaluate(x)
    for name in ("latents", "log_det", "log_prob", "conformity"):
        np.testing.assert_array_equal(getattr(some, name), getattr(all_of_them, name)[:n])


def test_wrong_number_of_sensors_is_named(flow):
    with pytest.raises(SchemaMismatchError, match="expecting"):
        flow.log_prob(np.zeros((2, flow.n_features + 1)))


def test_nan_is_named_by_row_and_column(flow):
    x = np.zeros((5, flow.n_features))
    x[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"NaN.*rows 3 and columns 1"):
        flow.log_prob(x)
