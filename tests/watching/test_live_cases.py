"""Live cases have the ids that the night gives them, and what is told of them is told once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from pwflow_core.notifying.delivering import tell
from pwflow_core.notifying.record import read_record
from pwflow_core.plant import Plant
from tests.conftest import plant_readings, query
from tests.notifying.conftest import SECRET, receiver  # noqa: F401 - a fixture
from tests.watching.conftest import (
    LATER,
    add_lines,
    have_a_night,
    later_readings,
    live,
    make_watch,
    open_watched,
    published,
)

CASES = (
    "SELECT event.event_id, (SELECT arg_max(case_id, told_at) FROM mart.case_events AS told "
    "WHERE told.machine_id = event.machine_id AND told.started_at <= event.ended_at "
    "AND told.ended_at >= event.started_at) "
    "FROM mart.anomaly_events AS event WHERE event.ended_at >= ? ORDER BY ALL"
)


OTHERS = pytest.mark.long(reason="5 CPU s each: other faults of the same kind; one runs at each push")


@pytest.fixture
def notified(watched, receiver, monkeypatch) -> Plant:  # noqa: F811 - the fixture
    monkeypatch.setenv("TEST_HOOK_URL", receiver.url)
    monkeypatch.setenv("TEST_HOOK_SECRET", SECRET)
    hook = {"url_env": "TEST_HOOK_URL", "secret_env": "TEST_HOOK_SECRET", "most_per_hour": 1000}
    plant = open_watched(watched.config.folder, notify={"targets": {"hook": hook}})
    tell(plant)  # what was before is history
    receiver.got.clear()
    return plant


def told(receiver) -> list[tuple[str, str]]:  # noqa: F811
    """Return kind and subject of all that was told."""
    return [(part["kind"], part["subject"]) for document in receiver.documents for part in document["notices"]]


def with_faults(n_times: int, seed: int, n_faults: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    readings = later_readings(n_times, seed=seed, fault=False)
    for _ in range(n_faults):
        machine, sensor = rng.choice(["press-1", "press-2"]), rng.choice(["temperature", "pressure"])
        rows = readings.index[readings.machine == machine]
        start = int(rng.integers(0, len(rows) - 30))
        readings.loc[rows[start : start + int(rng.integers(3, 30))], sensor] += rng.choice([8.0, 25.0, -12.0])
    return readings


def test_a_new_case_is_told_at_once_under_the_id_of_the_night_which_tells_it_no_second_time(notified, receiver):  # noqa: F811
    readings = later_readings()
    add_lines(notified, readings[:430])  # the fault has begun
    make_watch(notified).run()
    at_once = told(receiver)
    [(first,)] = published(notified, "SELECT case_id FROM mart.live_events WHERE machine_id = 'press-1'")
    assert ("opened", f"case {first}") in at_once
    add_lines(notified, readings[430:])
    make_watch(notified).run()
    make_watch(notified).run()
    so_far = told(receiver)
    assert len(set(so_far)) == len(so_far)
    have_a_night(notified)
    night = {notice.notice_id: notice for notice in read_record(notified, is_first=False)[0]}
    assert {s for kind, s in so_far if kind == "opened"} == {
        f"case {case_id}" for (case_id,) in query(notified, "SELECT case_id FROM mart.cases WHERE since >= ?", _since())
    }
    ids = {part["id"] for document in receiver.documents for part in document["notices"] if part["kind"] == "opened"}
    assert ids <= set(night)
    tell(notified)
    assert [one for one in told(receiver) if one[0] in ("opened", "worse")] == so_far
    message = receiver.documents[0]["notices"][0]
    assert "FROM mart.live_events" in message["next_step"]
    assert message["machines"] == ["press-1"] or message["machines"] == ["press-2"]


def _since() -> str:
    return LATER.replace("T", " ")


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=OTHERS) for seed in range(2, 12))])
def test_events_and_cases_are_those_of_the_night_whenever_they_are_looked_at(notified, receiver, seed):  # noqa: F811
    readings = with_faults(400, seed, n_faults=6)
    cuts = np.sort(np.random.default_rng(seed).integers(0, len(readings), 2))
    for first, last in pairwise([0, *cuts.tolist(), len(readings)]):
        add_lines(notified, readings[first:last])
        make_watch(notified).run()
    found = published(notified, "SELECT event_id, case_id FROM mart.live_events ORDER BY ALL")
    assert len(found) > 3
    opened = {subject for kind, subject in told(receiver) if kind == "opened"}
    have_a_night(notified)
    assert found == query(notified, CASES, _since())
    every = {f"case {case_id}" for (case_id,) in query(notified, "SELECT case_id FROM mart.cases")}
    assert opened <= every
    before = told(receiver)
    assert len(set(before)) == len(before)
    tell(notified)
    again = [one for one in told(receiver)[len(before) :] if one[0] in ("opened", "reopened")]
    assert again == []


def test_an_event_that_goes_on_over_the_night_stays_one_and_in_its_case(notified, receiver):  # noqa: F811
    readings = plant_readings(60, seed=4, start=LATER).sort_values("ts", kind="stable", ignore_index=True)
    rows = readings.index[readings.machine == "press-1"]
    readings.loc[rows[40:], "pressure"] += 25.0
    add_lines(notified, readings)
    have_a_night(notified)
    tell(notified)
    [(event_id, case_id)] = query(
        notified,
        "SELECT event_id, case_id FROM mart.case_events WHERE machine_id = 'press-1' AND started_at >= ?",
        _since(),
    )
    before = told(receiver)
    more = plant_readings(20, seed=5, start="2024-03-02T02:00:00").sort_values("ts", kind="stable", ignore_index=True)
    more.loc[more.machine == "press-1", "pressure"] += 25.0
    add_lines(notified, more)
    make_watch(notified).run()
    assert published(notified, "SELECT event_id, case_id FROM mart.live_events WHERE machine_id = 'press-1'") == [
        (event_id, case_id)
    ]
    assert ("opened", f"case {case_id}") not in told(receiver)[len(before) :]
    have_a_night(notified, "run-3")
    assert query(notified, "SELECT event_id FROM mart.anomaly_events WHERE ended_at >= '2024-03-02 02:00'") == [
        (event_id,)
    ]
    assert live(notified).machine_id.value_counts().to_dict() == {"press-1": 20, "press-2": 20}
