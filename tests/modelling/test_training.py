"""What training promises: never worse than the start, independent clusters, finite whatever comes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pwflow_core.errors import ConfigurationError
from pwflow_core.modelling import FlowSettings, train_flows

from .conftest import BRIEF, cluster_rows, draw_bananas


def gaussian_held_out(rows):
    spread = np.linalg.cholesky(rows.covariance)
    u = np.linalg.solve(spread, (rows.X_held_out - rows.mean).T)
    log_det = np.log(np.diagonal(spread)).sum()
    return float(np.mean(-0.5 * (u**2).sum(axis=0) - log_det - 0.5 * len(u) * np.log(2 * np.pi)))


@pytest.mark.parametrize("kind", ["affine", "spline"])
def test_a_bent_cluster_beats_its_gaussian(kind):
    rows = cluster_rows(draw_bananas(2000))
    (flow,) = train_flows([rows], FlowSettings(kind=kind, max_steps=300))
    assert flow.log_prob(rows.X_held_out).mean() > gaussian_held_out(rows) + 0.2
    assert not flow.is_gaussian
    assert flow.history.held_out[0] == pytest.approx(gaussian_held_out(rows), abs=0.01)


@pytest.mark.parametrize("seed", range(4))
def test_no_flow_is_worse_than_its_gaussian_on_held_out_rows(seed):
    x = np.random.default_rng(seed).standard_normal((400, 3))
    rows = cluster_rows(x)
    (flow,) = train_flows([rows], BRIEF, random_state=seed)
    assert flow.log_prob(rows.X_held_out).mean() > gaussian_held_out(rows) - 0.02
    assert max(flow.history.held_out) >= flow.history.held_out[0]


@pytest.mark.parametrize(
    ("kind", "n_features", "hidden"),
    [
        ("affine", 5, 32),
        ("affine", 3, 17),
        pytest.param("spline", 5, 32, marks=pytest.mark.long(reason="9 CPU s: the way of stacking is the same")),
    ],
)
def test_stacked_or_one_by_one_or_permuted_gives_the_same_bytes(kind, n_features, hidden):
    settings = replace(BRIEF, kind=kind, hidden=hidden)
    rows = [cluster_rows(draw_bananas(n, n_features, seed=n)) for n in (900, 910, 1600)]
    alone = [train_flows([entry], settings)[0].to_bytes() for entry in rows]
    assert [flow.to_bytes() for flow in train_flows(rows, settings)] == alone
    assert [flow.to_bytes() for flow in train_flows(rows[::-1], settings)[::-1]] == alone


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not():
    rows = [cluster_rows(draw_bananas(800))]
    first, again, other = (train_flows(rows, BRIEF, random_state=s)[0].to_bytes() for s in (0, 0, 1))
    assert first == again
    assert first != other


def draw_notched(n, seed=0):
    """Draw rows whose second column has two modes given the first: no shift and scale can make that."""
    rng = np.random.default_rng(seed)
    first = rng.standard_normal(n)
    return np.stack([first, 0.3 * first + rng.choice([-1.5, 1.5], n) + 0.2 * rng.standard_normal(n)], axis=1)


def test_auto_takes_a_spline_where_it_gains_and_only_there():
    rows = [cluster_rows(draw_notched(2000)), cluster_rows(np.random.default_rng(0).standard_normal((2000, 2)))]
    settings = FlowSettings(kind="auto", max_steps=300)
    notched, plain = train_flows(rows, settings)
    assert (notched.architecture.kind, plain.architecture.kind) == ("spline", "affine")
    (spline,) = train_flows(rows[:1], replace(settings, kind="spline"))
    assert notched.to_bytes() == spline.to_bytes()


def test_each_cluster_can_have_settings_of_its_own():
    rows = [cluster_rows(draw_bananas(n, seed=n)) for n in (900, 910)]
    settings = [BRIEF, replace(BRIEF, hidden=8)]
    flows = train_flows(rows, settings)
    assert [flow.architecture.hidden for flow in flows] == [BRIEF.hidden, 8]
    for entry, own, flow in zip(rows, settings, flows, strict=True):
        assert train_flows([entry], own)[0].to_bytes() == flow.to_bytes()
    with pytest.raises(ValueError, match="Expected settings for 2 clusters, got 1"):
        train_flows(rows, settings[:1])


def test_a_cluster_with_too_few_rows_stays_a_gaussian_and_says_so():
    (flow,) = train_flows([cluster_rows(draw_bananas(40))])
    assert flow.is_gaussian
    assert flow.history.stopped == "too_few_rows"
    assert np.isfinite(flow.log_prob(draw_bananas(100, seed=1))).all()


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:divide by zero")
@pytest.mark.parametrize("case", ["outliers", "near_singular", "five_rows", "one_repeated_row", "no_held_out"])
def test_awkward_clusters_end_in_a_finite_model(case):
    x = draw_bananas(600, 3)
    rows = cluster_rows(x)
    if case == "outliers":
        x[::50] *= 1e6
        rows = replace(cluster_rows(x), covariance=np.cov(x[1::50].T), mean=x[1::50].mean(axis=0))
    elif case == "near_singular":
        x[:, 2] = x[:, 0] + 1e-9 * x[:, 1]
        rows = cluster_rows(x)
    elif case == "five_rows":
        rows = replace(rows, X=x[:5], weight=np.ones(5))
    elif case == "one_repeated_row":
        rows = replace(rows, X=np.repeat(x[:1], 300, axis=0), weight=np.ones(300))
    else:
        rows = replace(rows, X_held_out=x[:0], weight_held_out=np.ones(0))
    (flow,) = train_flows([rows], BRIEF)
    assert np.isfinite(flow.log_prob(np.concatenate([x, 1e30 * x]))).all()
    assert np.isfinite(flow.sample(50, 0)).all()


def test_progress_is_told_for_every_cluster():
    seen = []
    train_flows([cluster_rows(draw_bananas(600, seed=s)) for s in range(2)], BRIEF, on_progress=seen.append)
    assert {p.cluster for p in seen} == {0, 1}
    assert all(p.best >= p.held_out for p in seen)


def test_weight_two_equals_a_row_repeated_in_what_is_judged():
    """Held-out weights count rows: doubling one is repeating it."""
    x = draw_bananas(500)
    rows = cluster_rows(x)
    doubled = replace(rows, weight_held_out=np.where(np.arange(len(rows.X_held_out)) < 10, 2.0, 1.0))
    repeated = replace(
        rows,
        X_held_out=np.concatenate([rows.X_held_out, rows.X_held_out[:10]]),
        weight_held_out=np.ones(len(rows.X_held_out) + 10),
    )
    first, second = (train_flows([entry], BRIEF)[0].history.held_out for entry in (doubled, repeated))
    assert first == pytest.approx(second, abs=1e-5)


@pytest.mark.quick
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_asked_for_and_is_not_there_is_an_error_that_says_what_to_do():
    with pytest.raises(ConfigurationError, match="set it to 'auto'"):
        train_flows([cluster_rows(draw_bananas(400))], replace(BRIEF, device="cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("kind", ["affine", "spline"])
def test_a_flow_that_was_trained_on_a_gpu_is_as_good_as_one_of_the_cpu(kind):
    """Sums are rounded otherwise on a GPU, so flows differ: by at most .02 nats per reading in the mean."""
    rows = cluster_rows(draw_bananas(2000))
    mean = [
        train_flows([rows], FlowSettings(kind=kind, max_steps=300, device=device))[0].log_prob(rows.X_held_out).mean()
        for device in ("cpu", "cuda")
    ]
    assert mean[1] == pytest.approx(mean[0], abs=0.02)
