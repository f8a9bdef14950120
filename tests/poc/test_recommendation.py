"""The rules, on results whose differences are known."""

from __future__ import annotations

import numpy as np
import pytest

from pwflow_core.poc.contenders import Contender
from pwflow_core.poc.costs import YearlyCost
from pwflow_core.poc.detection import Detection
from pwflow_core.poc.recommendation import needed_readings, recommend
from pwflow_core.poc.results import LEAST_GAIN, Result, density_gain, detects_more
from pwflow_core.poc.sentences import headline, words
from tests.conftest import config_of

N_ROWS, N_FAULTS = 4000, 100
BLOCK = np.arange(N_ROWS) // 32
NOISE = np.random.default_rng(0).normal(size=N_ROWS)


def result(key: str, nats: float, found: int = 50, n_false: int = 10, wobble: float = 0.0, seed: int = 1) -> Result:
    """Return a result with this mean log-density (above a common noise), faults found and false alarms."""
    kind, _, number = key.partition("_")
    contender = Contender("pwflow", int(number)) if kind == "pwflow" else Contender(key)
    own = wobble * np.random.default_rng(seed).normal(size=N_ROWS)
    mask = np.arange(N_FAULTS) < found
    detection = Detection(0.001, mask, n_false, float(n_false), float(np.sqrt(n_false)), {"spike": (N_FAULTS, found)})
    figures = {"train_cpu_seconds": 2.0, "bridge_mass": 0.1}
    if contender.n_regimes and contender.n_regimes > 1:
        figures["partial_cpu_seconds"] = 0.5
    return Result(contender, "", nats + NOISE + own, BLOCK, detection, figures, 1.0)


def decide(**nats: float) -> tuple[str, str]:
    found = recommend([result(key, value, wobble=0.1, seed=i) for i, (key, value) in enumerate(nats.items())], {})
    return found.code, found.model


RULES = {
    "flows with regimes win": (
        {"pwflow_1": 1.0, "pwflow_4": 2.0, "pwflow_8": 2.01, "single": 1.1, "gmm": 1.5, "gaussian": 0},
        ("use_pwflow", "pwflow_4"),
    ),
    "many regimes are better": (
        {"pwflow_1": 1.0, "pwflow_4": 2.0, "pwflow_8": 2.5, "single": 1.1, "gmm": 1.5, "gaussian": 0},
        ("use_pwflow", "pwflow_8"),
    ),
    "a large single flow is as good": (
        {"pwflow_1": 1.0, "pwflow_4": 2.0, "single": 2.0, "gmm": 1.5, "gaussian": 0},
        ("one_regime", "single"),
    ),
    "a small single flow is as good": (
        {"pwflow_1": 2.0, "pwflow_4": 2.01, "single": 1.9, "gmm": 1.5, "gaussian": 0},
        ("one_regime", "pwflow_1"),
    ),
    "a mixture is as good": (
        {"pwflow_1": 1.0, "pwflow_4": 2.0, "single": 1.1, "gmm": 2.0, "gaussian": 0},
        ("no_flows", "gmm"),
    ),
    "a mixture is better": (
        {"pwflow_1": 1.0, "pwflow_4": 2.0, "single": 1.1, "gmm": 3.0, "gaussian": 0},
        ("no_flows", "gmm"),
    ),
    "one Gaussian is as good": (
        {"pwflow_1": 2.0, "pwflow_4": 2.0, "single": 2.0, "gmm": 2.0, "gaussian": 2.0},
        ("no_flows", "gaussian"),
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_applies_where_it_should(rule):
    nats, expected = RULES[rule]
    assert decide(**nats) == expected


def test_where_only_a_larger_flow_is_as_good_as_regimes_its_size_is_said_and_what_a_small_one_loses():
    results = [result(key, nats) for key, nats in (("pwflow_1", 1.0), ("pwflow_4", 2.0), ("single", 2.0))]
    made = recommend([*results, result("gmm", 1.5), result("gaussian", 0.0)], {})
    reasons = {remark.key: remark.values for remark in made.reasons}
    larger = reasons["larger_flow"]
    assert (larger["first"], larger["second"], larger["transforms"], larger["hidden"]) == ("pwflow_1", "single", 8, 128)
    assert larger["gain"] == pytest.approx(1.0)
    assert reasons["refit"]["second"] == "pwflow_4"
    assert made.caveats == ()


def test_flows_that_find_clearly_more_are_worth_it_even_if_a_mixture_describes_as_well():
    others = [result("pwflow_1", 1.0), result("single", 1.0), result("gmm", 2.0), result("gaussian", 0.0)]
    assert recommend([*others, result("pwflow_4", 2.0, found=80)], {}).code == "use_pwflow"
    assert recommend([*others, result("pwflow_4", 2.0, found=80, n_false=90)], {}).code == "no_flows"  # for a price


def test_more_found_for_more_false_alarms_is_not_more():
    assert detects_more(result("gmm", 0), result("pwflow_4", 0, found=70))
    assert not detects_more(result("gmm", 0), result("pwflow_4", 0, found=70, n_false=40))
    assert not detects_more(result("gmm", 0), result("pwflow_4", 0, found=51))


def test_a_difference_below_two_standard_errors_or_of_no_use_does_not_count():
    base = result("gmm", 0.0)
    assert not density_gain(base, result("pwflow_4", 0.9 * LEAST_GAIN)).is_clear  # certain, but of no use
    assert density_gain(base, result("pwflow_4", 1.1 * LEAST_GAIN)).is_clear
    loud = density_gain(base, result("pwflow_4", 0.05, wobble=5.0))
    assert loud.error > 0.05
    assert not loud.is_clear


def test_what_speaks_against_the_recommendation_is_said():
    results = [
        result("pwflow_1", 1.0),
        result("pwflow_4", 2.0),
        result("single", 1.0),
        result("gmm", 1.0),
        result("mixture_base", 3.0),
        result("knn", 0.0, found=90),
        Result(Contender("resampled_base"), error="it broke"),
    ]
    results[5] = Result(results[5].contender, detection=results[5].detection, figures=results[5].figures)
    costs = {"pwflow_4": YearlyCost(5, 5, 0), "knn": YearlyCost(1, 1, 0)}
    found = {remark.key: remark.values for remark in recommend(results, costs).caveats}
    assert found["other_density"]["second"] == "mixture_base"
    assert found["other_detects"]["second"] == "knn"
    assert "other_calmer" not in found
    assert (found["other_cheaper"]["second"], found["other_cheaper"]["first_cost"]) == ("knn", 10)
    assert found["failed"] == {"first": "resampled_base", "why": "it broke"}


def test_a_rival_that_finds_more_is_named_with_the_recommendation_and_is_no_reason_for_it():
    results = [result("pwflow_1", 1.0), result("pwflow_4", 2.0), result("single", 1.0), result("gmm", 1.0, found=90)]
    made = recommend(results, {})
    assert made.code == "use_pwflow"
    assert [remark.values["second"] for remark in made.caveats if remark.key == "other_detects"] == ["gmm"]
    assert not [remark for remark in made.reasons if remark.key == "recall" and remark.values["first"] == "gmm"]
    assert headline(made, words("en")) == "Use pwflow with 4 regimes. But a Gaussian mixture finds more faults."
    results[3] = result("gmm", 1.0)
    assert headline(recommend(results, {}), words("en")) == "Use pwflow with 4 regimes."


def test_a_model_that_finds_as_much_with_clearly_fewer_false_alarms_is_named():
    results = [
        result("pwflow_1", 1.0, n_false=0, found=20),
        result("pwflow_4", 2.0, n_false=60),
        result("single", 1.0, n_false=10, found=48),
        result("gmm", 1.0, n_false=55),
    ]
    [caveat] = recommend(results, {}).caveats
    assert (caveat.key, caveat.values["second"], caveat.values["second_false"]) == ("other_calmer", "single", 10)


@pytest.mark.parametrize(
    ("sensors", "changes", "needed", "why"),
    [
        (2, {}, 3200, "blocks"),
        (52, {}, 10_215, "parameters"),
        (2, {"flow": {"min_rows": 7000}}, 10_000, "flow"),
        (2, {"scoring": {"min_calibration_rows": 1000}}, 5000, "calibration"),
    ],
)
def test_the_readings_that_are_needed_follow_from_sensors_and_configuration(sensors, changes, needed, why):
    need = needed_readings(config_of(**changes), sensors, 32)
    assert (need.n_readings, need.why) == (needed, why)
