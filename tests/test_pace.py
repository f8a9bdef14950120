"""Long steps say how far they have come, quick ones nothing."""

import logging

import pytest

from pwflow_core.pace import Pace

pytestmark = pytest.mark.quick


def said(caplog, seconds_each, **changes):
    now = [0.0]
    caplog.set_level(logging.INFO, "pwflow.pace")
    pace = Pace(logging.getLogger("pwflow.pace"), "readings scored", 1_000, clock=lambda: now[0], **changes)
    for _ in range(10):
        now[0] += seconds_each
        pace.advance(100)
    return caplog.messages


def test_a_step_says_how_far_it_is_and_how_long_the_rest_takes(caplog):
    lines = said(caplog, 60.0)
    assert lines[0] == "100 of 1,000 readings scored, about 9 min left"
    assert lines[-1] == "800 of 1,000 readings scored, about 2 min left"
    assert len(lines) == 6, "less often the longer it takes; that it is done is said by the step itself"


def test_it_is_said_now_and_then_and_not_at_all_of_a_quick_step(caplog):
    assert len(said(caplog, 4.0)) == 2
    caplog.clear()
    assert said(caplog, 0.5) == []


def test_what_may_end_early_takes_at_most_so_long(caplog):
    assert said(caplog, 7_200.0, may_end_early=True)[0] == "100 of 1,000 readings scored, at most 18 h left"
