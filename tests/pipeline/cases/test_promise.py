"""The promise on false cases: laws of its arithmetic, and a warehouse that keeps it, from which SQL finds the bound."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import date
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pwflow_core.pipeline.cases.labels import mark_case
from pwflow_core.pipeline.cases.promise import choose_told, e_values, share_of_day
from pwflow_core.pipeline.decisions.verdicts import Decider
from tests.conftest import (
    TRAINED,
    examples,
    merge,
    open_plant,
    plant_readings,
    put_file,
    query,
    read_all,
    reopen,
    score_all,
)
from tests.notifying.conftest import record, verdict
from tests.pipeline.cases.test_deriving import add_night, case_with, log_bytes, tell

PROMISED = {"scoring": {"false_cases": 0.2}}
CASES = st.dictionaries(st.sampled_from("ABCDEFGHIJ"), st.floats(0, 50), max_size=10)
PROMISE = st.floats(0.01, 0.99)
TOLD = "SELECT case_id, promise, place, evidence, needed FROM mart.told_cases ORDER BY place"


@pytest.mark.quick
@given(st.integers(1, 3_000))
@hypothesis_settings(max_examples=examples(30, 300), deadline=None)
def test_the_shares_of_all_days_add_up_to_less_than_one(n):
    assert sum(Fraction(365, (t + 364) * (t + 365)) for t in range(1, n + 1)) == Fraction(n, n + 365)
    assert share_of_day(n) == pytest.approx(float(Fraction(365, (n + 364) * (n + 365))), rel=1e-12)


@pytest.mark.quick
@pytest.mark.parametrize("alpha", [0.05, 0.001, 1e-9])
def test_the_e_value_of_a_normal_reading_is_at_most_one_on_average_and_falls_with_p(alpha):
    log_p = np.linspace(np.log(1e-280), 0, 400_001)
    value = e_values(alpha * np.exp(log_p), alpha)
    assert (np.diff(value) <= 1e-6 * value[1:]).all()
    step = log_p[1] - log_p[0]
    right = float(np.sum(value * alpha * np.exp(log_p)) * step)
    assert right == pytest.approx(2 - 2 * np.log(2), abs=2e-3), "p-values that are right"
    half = float(np.sum(value * alpha * 0.5 * np.exp(log_p / 2)) * step)
    assert half == pytest.approx(1 - 1 / 322, abs=2e-3), "those that are right in half of their decades; the rest"
    assert e_values([alpha * 1.0001, 0.9], alpha).tolist() == [0.0, 0.0]


@pytest.mark.quick
@given(CASES, PROMISE, st.integers(0, 20), st.sets(st.sampled_from("ABCDEFGHIJ")))
@hypothesis_settings(max_examples=examples(200, 2_000), deadline=None)
def test_whichever_cases_are_false_their_share_is_at_most_the_promise_times_their_evidence(
    evidence, promise, n_told, false
):
    told = choose_told(evidence, promise, n_told)
    share = len(false & set(told)) / max(n_told + len(told), 1)
    assert share <= promise * sum(evidence.get(case, 0.0) for case in false) * (1 + 1e-9)


@pytest.mark.quick
@given(CASES, PROMISE, st.integers(0, 20))
@hypothesis_settings(max_examples=examples(200, 2_000), deadline=None)
def test_as_many_cases_are_told_as_can_be(evidence, promise, n_told):
    told = choose_told(evidence, promise, n_told)
    needed = 1 / (promise * (n_told + len(told))) if told else np.inf
    assert all(evidence[case] >= needed * (1 - 1e-9) for case in told)
    for n in range(len(told) + 1, len(evidence) + 1):
        assert sum(promise * value * (n_told + n) >= 1 for value in evidence.values()) < n
    assert set(told) <= set(choose_told(evidence, promise, n_told + 1)), "a mark as normal can only untell what follows"


@pytest.mark.quick
@given(
    st.lists(st.tuples(st.sampled_from("ABCDEFGHIJ"), st.floats(0, 20)), max_size=30),
    st.lists(st.integers(1, 30), max_size=5),
    PROMISE,
)
@hypothesis_settings(max_examples=examples(200, 2_000), deadline=None)
def test_any_split_of_nights_tells_the_same_cases_and_what_was_told_stays_told(arrivals, cuts, promise):
    def read(nights):
        sums, told = {}, []
        for start, end in zip([0, *nights], [*nights, len(arrivals)], strict=True):
            for case, value in arrivals[start:end]:
                sums[case] = sums.get(case, 0.0) + value
            told += choose_told({case: sums[case] for case in sums if case not in told}, promise, len(told))
        return told

    assert set(read(sorted(cuts))) == set(read([]))


@pytest.fixture
def promised(trained_plant):
    """Return a plant with a promise: its history, then a night with a fault of press-1."""
    plant = reopen(trained_plant, **PROMISED)
    tell(plant)
    add_night(plant, "2024-03-10", fault=(300, 360))
    tell(plant, Decider("dagster run 2", "run-2"))
    return plant


def test_a_fault_is_told_and_what_may_be_chance_is_kept_and_sent_to_nobody(promised):
    fault = case_with(promised, "2024-03-10")
    told = {row[0]: row for row in query(promised, TOLD)}
    assert fault in told
    kept = query(promised, "SELECT case_id FROM mart.cases WHERE told_as_of IS NULL AND state <> 'merged'")
    assert kept, "alpha is 0.01: some cases of the history are chance"
    assert not {row[0] for row in kept} & set(told)
    assert all(evidence >= needed > 0 for *_, evidence, needed in told.values())
    assert [row[2] for row in told.values()] == list(range(1, len(told) + 1))
    logged = query(promised, "SELECT case_id FROM mart.alarm_log WHERE entry = 'told'")
    assert sorted(logged) == sorted((case,) for case in told)
    before = log_bytes(promised)
    assert tell(promised).n_told == 0
    assert log_bytes(promised) == before


def test_an_analyst_finds_the_evidence_of_each_case_from_the_scores(promised):
    """As the certificate has it: from p-values over the level of the day to what was told."""
    found = query(
        promised,
        """
        SELECT told.case_id, any_value(told.evidence), sum(
            days.share / days.n_expected
            * (1 - u + u * ln(u)) / (0.01 * u * ln(u) ** 2)
        )
        FROM mart.told_cases AS told
        JOIN mart.case_events AS event USING (case_id)
        JOIN (SELECT *, sqrt(p_value / 0.01) AS u FROM mart.anomaly_scores WHERE is_anomaly) AS score
          ON score.machine_id = event.machine_id AND score.ts BETWEEN event.started_at AND event.ended_at
        JOIN mart.promise_days AS days ON days.day = score.ts::DATE
        WHERE u < 0.999
        GROUP BY told.case_id
        """,
    )
    assert found
    for _, told, recomputed in found:
        assert recomputed == pytest.approx(told, rel=1e-3)
    [(spent,)] = query(promised, "SELECT sum(share * greatest(1, n_readings / n_expected)) FROM mart.promise_days")
    n_days = query(promised, "SELECT max(day_number) FROM mart.promise_days")[0][0]
    assert 0 < spent < 2 * n_days / (n_days + 365)


def test_nights_read_one_by_one_or_at_once_tell_the_same_cases(trained_plant, tmp_path_factory):
    folder = tmp_path_factory.mktemp("at-once")
    shutil.copytree(trained_plant.config.folder, folder, dirs_exist_ok=True)
    plant, other = reopen(trained_plant, **PROMISED), open_plant(folder, merge(TRAINED, PROMISED))
    for start, fault in (("2024-03-10", (300, 340)), ("2024-03-11", (20, 90))):
        add_night(plant, start, fault=fault, n_times=480)
        tell(plant)
        add_night(other, start, fault=fault, n_times=480)
    tell(other)
    asked = "SELECT case_id FROM mart.cases WHERE told_as_of IS NOT NULL ORDER BY ALL"
    assert query(plant, asked) == query(other, asked)
    evidence = "SELECT event_id, day, round(sum(e_value), 9) FROM mart.event_evidence GROUP BY ALL ORDER BY ALL"
    assert query(plant, evidence) == query(other, evidence)


def test_a_case_marked_as_normal_no_longer_counts_so_that_the_next_one_needs_more(promised):
    [(first, _, place, _, needed)] = query(promised, TOLD)
    assert (place, needed) == (1, 5.0)
    mark_case(promised, first, "normal", by=Decider("Ada"))
    night = plant_readings(1440, seed=6, start="2024-03-12")
    night.loc[night.index[night.machine == "press-2"][500:560], "temperature"] += 60.0
    put_file(promised.config.folder / "data" / "later.parquet", night)
    read_all(promised)
    score_all(promised)
    tell(promised)
    _, (second, _, place, _, needed) = query(promised, TOLD + ", as_of")
    assert second != first
    assert (place, needed) == (1, 5.0), "the one before turned out to be false"


def test_without_the_promise_all_cases_are_told_and_with_it_those_before_stay_told(trained_plant):
    tell(trained_plant)
    assert query(trained_plant, "SELECT count(*) FROM mart.cases WHERE told_as_of IS NULL") == [(0,)]
    known = query(trained_plant, "SELECT case_id FROM mart.cases ORDER BY ALL")
    plant = reopen(trained_plant, **PROMISED)
    add_night(plant, "2024-03-10")
    tell(plant)
    kept = query(plant, "SELECT case_id FROM mart.cases WHERE told_as_of IS NULL AND state <> 'merged'")
    assert kept
    assert not set(kept) & set(known)
    without = reopen(plant)
    tell(without)
    assert query(without, "SELECT count(*) FROM mart.cases WHERE told_as_of IS NULL") == [(0,)]
    again = query(without, "SELECT case_id FROM mart.case_changes WHERE change = 'told' ORDER BY ALL")
    assert set(kept) <= set(again)


def test_a_case_with_a_verdict_is_told_because_of_it_and_does_not_count_for_the_promise(promised):
    before = query(promised, TOLD)
    found = verdict("1", since=date(2024, 3, 9), machine_ids=("press-3",))
    record(promised, replace(found, night=date(2024, 3, 10)))
    tell(promised)
    [(case_id,)] = query(promised, "SELECT case_id FROM mart.case_events WHERE verdict_id = '1'")
    assert query(promised, "SELECT told_as_of::DATE FROM mart.cases WHERE case_id = ?", case_id) == [
        (date(2024, 3, 11),)
    ]
    assert query(promised, TOLD) == before
