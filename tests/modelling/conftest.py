"""Data and fitted models that several test modules share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pwflow_core.modelling import ClusterRows, FlowSettings, PiecewiseFlow, train_flows

BRIEF = FlowSettings(max_steps=160, patience=5)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def draw_bananas(n_rows, n_features=2, seed=0):
    """Draw rows from two bent modes, the second twice as likely."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_rows, n_features))
    x[:, 1] += x[:, 0] ** 2
    x[rng.random(n_rows) < 1 / 3] += 9.0
    return x


def cluster_rows(x, weight=None):
    """Turn rows into what one cluster learns from, every fifth row held out."""
    weight = np.ones(len(x)) if weight is None else weight
    judge = np.arange(len(x)) % 5 == 0
    mean = np.average(x, axis=0, weights=weight)
    covariance = np.atleast_2d(np.cov(x.T, aweights=weight))
    return ClusterRows(x[~judge], weight[~judge], x[judge], weight[judge], mean, covariance)


@pytest.fixture(scope="session")
def bananas():
    return draw_bananas(3000)


@pytest.fixture(scope="session")
def model(bananas):
    return PiecewiseFlow(2, flow=BRIEF, random_state=0).fit(bananas)


@pytest.fixture(scope="session", params=["affine", "spline"])
def flow(request):
    x = draw_bananas(1500, 3)[:, :]
    settings = FlowSettings(kind=request.param, max_steps=160)
    return train_flows([cluster_rows(x)], settings)[0]
