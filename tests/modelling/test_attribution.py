"""Laws of blame: it adds up, it does not depend on order or units, and it names the sensor that is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from pwflow_core.errors import SchemaMismatchError
from pwflow_core.modelling import (
    ClusterFlow,
    FlowSettings,
    PiecewiseFlow,
    PiecewiseFlowDetector,
    SensorAttributor,
    train_flows,
)
from pwflow_core.modelling.whitening import Whitening

from .conftest import BRIEF, cluster_rows

N_SENSORS = 5


def draw_machine(n_rows, seed=0):
    """Draw readings of two regimes: two sensors that follow a load, one bent along it, one sum, one free."""
    rng = np.random.default_rng(seed)
    load, free = rng.standard_normal((2, n_rows))
    x = np.stack([load, 2 * load, load**2, load + free, free], axis=1) + 0.15 * rng.standard_normal((n_rows, N_SENSORS))
    x[rng.random(n_rows) < 0.4] += [12.0, -10.0, 3.0, 8.0, -6.0]
    return x


def plant_faults(x, n_faulty, seed=0):
    """Shift some sensors of each reading far beyond their noise; return readings and which sensors are wrong."""
    rng = np.random.default_rng(seed)
    wrong = np.argsort(rng.random(x.shape), axis=1) < n_faulty
    return x + wrong * rng.choice([-1, 1], x.shape) * rng.uniform(2.5, 8.0, x.shape), wrong


def permuted(flow, order):
    """Return the same density over sensors in another order."""
    white = flow.whitening
    whitening = Whitening(white.centre[order], white.scale[order], white.forward[order], white.backward[:, order])
    return ClusterFlow(whitening, flow.architecture, flow.parameters, flow.history, flow.shares)


def in_unit(flow, factor, offset):
    """Return the same density over sensors in another unit."""
    white = flow.whitening
    whitening = Whitening(white.centre * factor + offset, white.scale * factor, white.forward, white.backward)
    return ClusterFlow(whitening, flow.architecture, flow.parameters, flow.history, flow.shares)


@pytest.fixture(scope="module")
def machine():
    return PiecewiseFlow(2, flow=BRIEF, random_state=0).fit(draw_machine(4000))


@pytest.fixture(scope="module")
def attributor(machine):
    return SensorAttributor(machine.weights_, machine.flows_)


@pytest.mark.parametrize("n_faulty", [0, 1, 2, N_SENSORS])
def test_the_blame_of_a_reading_adds_up_to_one_and_is_never_negative(attributor, n_faulty):
    found = attributor.attribute(plant_faults(draw_machine(500, seed=1), n_faulty)[0])
    assert found.share.shape == found.expected.shape == (500, N_SENSORS)
    assert found.share.sum(axis=1) == pytest.approx(1, abs=1e-12)
    assert found.share.min() >= 0
    assert (found.low < found.high).all()


def test_contributions_of_the_detector_add_up_to_minus_log10_of_the_p_value():
    detector = PiecewiseFlowDetector(PiecewiseFlow(2, flow=BRIEF), random_state=0).fit(draw_machine(2000))
    x = plant_faults(draw_machine(200, seed=1), 1)[0]
    contributions = detector.contributions(x)
    assert contributions.sum(axis=1) == pytest.approx(-np.log10(detector.p_values(x)), abs=1e-9)
    assert contributions.min() >= 0


def test_permuting_the_sensors_permutes_the_blame(machine, attributor):
    order = np.array([3, 0, 4, 2, 1])
    x = plant_faults(draw_machine(300, seed=1), 2)[0]
    other = SensorAttributor(machine.weights_, [permuted(flow, order) for flow in machine.flows_])
    before, after = attributor.attribute(x), other.attribute(x[:, order])
    assert np.array_equal(before.cluster, after.cluster)
    for name in ("share", "expected", "low", "high", "observed"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name)[:, order], atol=1e-4)


def test_another_unit_changes_nothing_but_the_numbers_in_it(machine, attributor):
    factor, offset = np.array([1024.0, 1.0, 2.0**-20, 8.0, 0.5]), np.array([0.0, 16.0, 0.0, -8.0, 0.0])
    x = plant_faults(draw_machine(300, seed=1), 1)[0]
    other = SensorAttributor(machine.weights_, [in_unit(flow, factor, offset) for flow in machine.flows_])
    before, after = attributor.attribute(x), other.attribute(x * factor + offset)
    np.testing.assert_allclose(after.share, before.share, atol=1e-4)
    for name in ("expected", "low", "high", "observed"):
        np.testing.assert_allclose((getattr(after, name) - offset) / factor, getattr(before, name), atol=1e-4)


def test_permuting_the_regimes_changes_nothing_but_their_numbers(machine, attributor):
    x = plant_faults(draw_machine(300, seed=1), 1)[0]
    before = attributor.attribute(x)
    after = SensorAttributor(machine.weights_[::-1], machine.flows_[::-1]).attribute(x)
    assert np.array_equal(after.cluster, 1 - before.cluster)
    np.testing.assert_allclose(after.share, before.share, atol=1e-9)


def test_the_sensor_that_is_wrong_is_named_first(attributor):
    x, wrong = plant_faults(draw_machine(2000, seed=2), 1)
    top = attributor.attribute(x).share.argmax(axis=1)
    assert wrong[np.arange(len(x)), top].mean() > 0.9


def test_two_sensors_that_are_wrong_are_among_the_first_three(attributor):
    x, wrong = plant_faults(draw_machine(2000, seed=2), 2)
    order = np.argsort(-attributor.attribute(x).share, axis=1)[:, :3]
    assert (np.take_along_axis(wrong, order, axis=1).sum(axis=1) == 2).mean() > 0.85


def test_two_sensors_that_are_wrong_among_a_hundred_are_named():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1200, 6)) @ rng.standard_normal((6, 100)) + 0.15 * rng.standard_normal((1200, 100))
    model = PiecewiseFlow(1, flow=BRIEF, random_state=0).fit(x[:1000])
    faulty, wrong = plant_faults(x[1000:], 2)
    order = np.argsort(-SensorAttributor(model.weights_, model.flows_).attribute(faulty).share, axis=1)[:, :3]
    assert (np.take_along_axis(wrong, order, axis=1).sum(axis=1) == 2).mean() > 0.95


def test_a_fault_that_moves_a_reading_towards_another_regime_is_still_a_fault_of_its_sensor(machine, attributor):
    first, second = (flow.whitening.centre for flow in machine.flows_)
    x = np.stack([first, second])
    x[:, 1] = [second[1], first[1]]
    found = attributor.attribute(x)
    assert found.share.argmax(axis=1).tolist() == [1, 1]
    assert found.cluster.tolist() == [0, 1]
    np.testing.assert_allclose(found.expected[:, 1], [first[1], second[1]], atol=2.0)


def test_in_a_gaussian_regime_the_expected_value_is_the_conditional_mean():
    rng = np.random.default_rng(0)
    covariance = np.array([[1.0, 0.8, 0.2], [0.8, 2.0, 0.5], [0.2, 0.5, 0.5]])
    x = rng.multivariate_normal([1.0, 2.0, 3.0], covariance, 500)
    [flow] = train_flows([cluster_rows(x)], FlowSettings(min_rows=10_000))
    assert flow.is_gaussian
    mean, cov = flow.whitening.centre, np.linalg.inv(flow.whitening.forward @ flow.whitening.forward.T)
    cov = cov * np.outer(flow.whitening.scale, flow.whitening.scale)
    reading = mean + np.array([0.5, 9.0, 0.3])  # the second sensor is wrong
    found = SensorAttributor(np.ones(1), [flow]).attribute(reading[None])
    others = [0, 2]
    gain = np.linalg.solve(cov[np.ix_(others, others)], cov[others, 1])
    assert found.share.argmax() == 1
    assert found.expected[0, 1] == pytest.approx(mean[1] + gain @ (reading - mean)[others], abs=1e-6)
    spread = np.sqrt(cov[1, 1] - cov[1, others] @ gain)
    assert found.high[0, 1] - found.low[0, 1] == pytest.approx(2 * 1.645 * spread, rel=0.1)


def test_healthy_readings_lie_in_the_expected_band_nine_times_in_ten_and_close_to_its_middle(attributor):
    x = draw_machine(4000, seed=3)
    found = attributor.attribute(x)
    inside = ((x >= found.low) & (x <= found.high)).mean(axis=0)
    assert (np.abs(inside - 0.9) < 0.07).all()
    assert (np.median(np.abs(x - found.expected), axis=0) < 0.25 * x.std(axis=0)).all()


def test_what_is_expected_follows_the_bend_of_the_regime(machine, attributor):
    """The third sensor is the square of the load: its Gaussian conditional mean would be the same for all loads."""
    load = np.linspace(-1.8, 1.8, 13)
    x = np.stack([load, 2 * load, np.full(13, 20.0), load, np.zeros(13)], axis=1)
    found = attributor.attribute(x)
    assert (found.share.argmax(axis=1) == 2).all()
    assert np.abs(found.expected[:, 2] - load**2).max() < 0.8


def test_with_features_blame_goes_to_the_sensor_that_they_are_made_from():
    rng = np.random.default_rng(0)
    x = draw_machine(4000)[:, [0, 1, 4]]
    features = np.column_stack([x, x + 0.1 * rng.standard_normal(x.shape)])
    groups = [[0, 3], [1, 4], [2, 5]]
    model = PiecewiseFlow(2, flow=BRIEF, random_state=0).fit(features)
    attributor = SensorAttributor(model.weights_, model.flows_, groups)
    faulty, wrong = plant_faults(features[:600, :3], 1)
    readings = np.column_stack([faulty, features[:600, 3:] + (faulty - features[:600, :3]) / 2])
    found = attributor.attribute(readings)
    assert found.share.shape == (600, 3)
    assert np.array_equal(found.observed, faulty)
    assert wrong[np.arange(600), found.share.argmax(axis=1)].mean() > 0.8
    with pytest.raises(ValueError, match="each of 6 columns once"):
        SensorAttributor(model.weights_, model.flows_, [[0, 3], [1, 4], [2]])


@pytest.mark.parametrize("value", [1e30, -1e300, 1e-30])
def test_extreme_readings_get_finite_answers_within_reach_of_the_regimes(attributor, value):
    x = draw_machine(30, seed=4)
    x[:10, 1], x[10:20, [0, 3]], x[20:] = value, value, value
    found = attributor.attribute(x)
    for name in ("share", "expected", "low", "high"):
        assert np.isfinite(getattr(found, name)).all()
    assert np.abs(found.expected).max() < 100
    if abs(value) > 1:
        assert (found.share[:10].argmax(axis=1) == 1).all()


def test_one_sensor_alone_is_always_to_blame():
    x = draw_machine(1000)[:, :1]
    model = PiecewiseFlow(2, flow=BRIEF, random_state=0).fit(x)
    found = SensorAttributor(model.weights_, model.flows_).attribute(np.array([[50.0], [0.0]]))
    assert found.share.tolist() == [[1.0], [1.0]]
    assert found.high[0, 0] < 50


def test_how_readings_are_batched_changes_nothing(attributor, monkeypatch):
    x = plant_faults(draw_machine(1000, seed=1), 2)[0]
    whole = attributor.attribute(x)
    monkeypatch.setattr("pwflow_core.modelling.attribution._BATCH_CELLS", 1)
    parts = attributor.attribute(x)
    assert np.array_equal(whole.cluster, parts.cluster)
    np.testing.assert_allclose(whole.share, parts.share, atol=1e-4)
    assert attributor.attribute(x[:0]).share.shape == (0, N_SENSORS)


def test_readings_that_are_not_finite_or_of_another_plant_are_refused(attributor):
    x = draw_machine(3)
    x[1, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        attributor.attribute(x)
    with pytest.raises(SchemaMismatchError, match="3 features"):
        attributor.attribute(x[:, :3])
