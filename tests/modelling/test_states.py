"""States: what was seen on days before is known, and what is new is as rare as it was among what was learned from."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pwflow_core.modelling.states import Company, States, fit_states, merge_states

pytestmark = pytest.mark.quick

DAYS = 20


def history(*values: tuple[float | None, ...], regimes: str = "r", n: int = 50) -> list[Company]:
    """Each of some ways on each day, in the regimes in turn."""
    return [
        Company(regimes[i % len(regimes)], "m", found, day, n) for day in range(DAYS) for i, found in enumerate(values)
    ]


def test_a_constant_that_moves_is_new_and_names_itself():
    states = fit_states(["valve", "pump"], history((1, 0), (1, 1)))
    assert states.chance == 1 / (1 + DAYS * 2 * 50)
    assert not states.blame("r", "m", (1, 0)).any()
    assert states.blame("r", "m", (0, 1)).tolist() == [1, 0]
    assert states.usual("r")[0] == 1
    assert not states.blame("r", "m", (None, 1)).any()


def test_a_state_in_the_wrong_company_is_new_in_its_regime_and_beside_other_states():
    seen = history((0, 0), (1, 1), (0, 1), regimes="abb")  # the heater is never on while the pump is off
    states = fit_states(["heater", "pump"], seen)
    assert states.blame("b", "m", (1, 0)).tolist() == [0, 1]  # regime b never has the pump off
    assert states.blame("a", "m", (1, 1)).tolist() == [0.5, 0.5]  # regime a has neither on
    one_regime = fit_states(["heater", "pump"], history((0, 0), (1, 1), (0, 1)))
    assert one_regime.blame("r", "m", (1, 0)).tolist() == [0.5, 0.5]


def test_states_that_were_together_by_chance_never_are_not_new_together():
    rare = [Company("r", "m", (int(day in (1, 5, 9)), int(day in (2, 6, 10))), day, 100) for day in range(DAYS)]
    states = fit_states(["one", "other"], rare)
    assert not states.blame("r", "m", (1, 1)).any()


def test_one_fault_of_the_history_is_no_normal_state_and_leaves_the_others_their_alarms():
    seen = [*history((1, 0), (1, 1)), Company("r", "m", (0, 1), 7, 300)]
    states = fit_states(["valve", "pump"], seen)
    assert states.blame("r", "m", (0, 1)).tolist() == [1, 0]
    assert states.chance < 0.001


def test_a_channel_that_keeps_taking_new_values_hides_no_other():
    seen = [Company("r", "m", (1, batch), batch // 3, 30) for batch in range(3 * DAYS)]
    states = fit_states(["valve", "batch"], seen)
    assert states.is_watched == (True, False)
    assert not states.blame("r", "m", (1, 1000)).any()
    assert states.blame("r", "m", (0, 1000)).tolist() == [1, 0]


def test_what_states_have_to_do_with_an_anomaly_is_all_of_it_unless_the_models_find_it_rarer():
    states = fit_states(["valve"], history((1,)))
    assert states.explain("r", "m", (0,), 2 * states.chance).share.tolist() == [1]
    half = states.explain("r", "m", (0,), states.chance * 0.999).share[0]
    assert 0.49 < half < 0.5
    assert states.explain("r", "m", (1,), 1e-9).share.tolist() == [0]


def test_states_survive_json_as_they_are():
    states = fit_states(["valve", "pump"], history((4.1, 0), (4.1, None)))
    again = States.from_document(json.loads(json.dumps(states.to_document())))
    assert vars(again) == vars(states)


@pytest.mark.parametrize("chance", [0.0005, 0.01])
def test_merged_p_values_hold_whatever_the_two_have_to_do_with_each_other(chance):
    n = 200_000
    own = (np.arange(n) + 0.5) / n
    for is_new in (own < chance, own >= 1 - chance, np.arange(n) % round(1 / chance) == 0):
        merged = merge_states(own, is_new, chance)
        for level in (chance / 3, chance, 2 * chance, 0.1, 0.5):
            assert (merged <= level).mean() <= level + 1 / n
        assert (merged <= 2 * np.minimum(own, np.where(is_new, chance, 1)) + 1e-12).all()
