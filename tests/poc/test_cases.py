"""The right recommendation where it is known what is right."""

from __future__ import annotations

import pytest

from pwflow_core.poc.results import density_gain

RIGHT = {
    "three modes": ("use_pwflow", "pwflow_3"),
    "one mode": ("one_regime", "single"),
    "one Gaussian": ("no_flows", "gaussian"),
    "200 rows": ("too_little_data", ""),
}


ONE_MODE = pytest.mark.long(reason="12 CPU s: its rule is held on figures in test_recommendation.py")


@pytest.mark.parametrize("case", [pytest.param(case, marks=ONE_MODE) if case == "one mode" else case for case in RIGHT])
def test_the_recommendation_is_right_where_the_answer_is_known(case, compare):
    _, found = compare(case)
    assert (found.recommendation.code, found.recommendation.model) == RIGHT[case]


def test_a_single_flow_bridges_what_lies_apart_and_several_do_not(compare):
    results = {result.key: result for result in compare("three modes")[1].results}
    assert results["single"].figure("bridge_mass") > results["pwflow_3"].figure("bridge_mass") + 0.02
    assert density_gain(results["single"], results["pwflow_3"]).is_clear


def test_learning_one_regime_again_is_cheaper_than_learning_everything(compare):
    results = {result.key: result for result in compare("three modes")[1].results}
    assert results["pwflow_3"].partial_refit_cpu_seconds < results["pwflow_3"].full_refit_cpu_seconds
    assert results["single"].partial_refit_cpu_seconds == results["single"].full_refit_cpu_seconds


def test_too_little_data_says_how_much_is_needed_and_compares_nothing(compare):
    _, found = compare("200 rows")
    assert found.need.n_readings == 3200  # 20 stretches of 32 readings in a fifth of them
    values = found.recommendation.reasons[0].values
    assert (values["have"], values["needed"], values["missing"]) == (200, 3200, 3000)
    assert all(result.error for result in found.results)


def test_nothing_that_is_judged_was_learned_from(compare):
    trial = compare("three modes")[1].trial
    learned = set(map(bytes, trial.learn))
    assert not learned & (set(map(bytes, trial.held_out)) | set(map(bytes, trial.calibration)))
    assert not set(map(bytes, trial.calibration)) & set(map(bytes, trial.judged.X))
    assert len(trial.learn) + len(trial.held_out) == 6000


def test_what_money_says_is_counted_from_what_was_measured(compare):
    _, found = compare("three modes")
    assert found.n_events == 12  # no labels, so a dozen a year are assumed
    for result in found.results:
        cost = found.yearly[result.key]
        assert cost.missed_events == pytest.approx((1 - result.detection.recall) * 12 * 2000)
        assert cost.total == pytest.approx(cost.false_alarms + cost.missed_events + cost.computing)
