"""Alarms at the budget: the same rule for every model, and counts that mean what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pwflow_core.config import EventsConfig
from pwflow_core.poc.detection import detect
from pwflow_core.poc.trial import Stretch, Trial, TrialFacts

FACTS = TrialFacts("p", ("a",), 0, 0, 1, 1, 10_080.0, 60.0, 32, "injected", 0.01, None)
EMPTY = np.empty((0, 1))


def make_trial(n: int, faults: dict[str, list[int]], facts: TrialFacts = FACTS) -> Trial:
    """Return a trial whose judged readings are a minute apart, with faults at these rows."""
    fault = np.full(n, -1)
    for number, rows in enumerate(faults.values()):
        fault[rows] = number
    judged = Stretch(np.zeros((n, 1)), np.zeros(n, dtype=np.int64), 60.0 * np.arange(n), fault, tuple(faults))
    block = np.arange(5000)
    return Trial(facts, EMPTY, EMPTY, np.empty(0, dtype=np.intp), np.zeros((5000, 1)), block, judged)


def normal_scores(n: int, seed: int = 0) -> np.ndarray:
    return -np.random.default_rng(seed).exponential(size=n)


def test_normal_readings_raise_as_many_anomalies_as_alpha_says():
    trial = make_trial(20_000, {})
    found = detect(trial, normal_scores(5000), normal_scores(20_000, 1), EventsConfig(min_readings=1))
    # 200 anomalies at alpha = .01, which fall together within ten minutes now and then
    assert 130 < found.n_false < 220
    assert found.false_per_week == pytest.approx(found.n_false / (20_000 / 10_080))
    assert np.isnan(found.recall)


def test_a_fault_is_found_if_an_event_touches_it_and_what_touches_none_is_false():
    trial = make_trial(2000, {"spike": [100], "offset": [500, 501, 502], "swap": [1500, 1501]})
    scores = np.full(2000, -0.5)
    scores[100] = -40.0  # rare enough to be an event alone
    scores[[500, 502]] = -6.0  # two anomalies close together
    scores[1500] = -6.0  # one alone is no event
    scores[[1000, 1001]] = -6.0
    found = detect(trial, normal_scores(5000), scores, EventsConfig())
    assert found.found.tolist() == [True, True, False]
    assert found.by_kind == {"spike": (1, 1), "offset": (1, 1), "swap": (1, 0)}
    assert found.n_false == 1
    assert found.recall == pytest.approx(2 / 3)


def test_anomalies_of_two_machines_are_never_one_event():
    trial = make_trial(200, {})
    stretch = trial.judged
    halves = np.repeat([0, 1], 100)
    trial = replace(trial, judged=Stretch(stretch.X, halves, stretch.seconds, stretch.fault, ()))
    scores = np.full(200, -0.5)
    scores[[99, 100]] = -6.0
    assert detect(trial, normal_scores(5000), scores, EventsConfig()).n_false == 0


def test_a_budget_of_alarms_a_week_becomes_the_rate_that_keeps_it():
    facts = replace(FACTS, alpha=None, alarms_per_week=20.0)
    trial = make_trial(100_000, {}, facts)
    found = detect(trial, normal_scores(5000), normal_scores(100_000, 2), EventsConfig())
    assert 5 < found.false_per_week < 40
    stricter = detect(
        replace(trial, facts=replace(facts, alarms_per_week=2.0)),
        normal_scores(5000),
        normal_scores(100_000, 2),
        EventsConfig(),
    )
    assert stricter.alpha < found.alpha
    assert stricter.n_false < found.n_false
