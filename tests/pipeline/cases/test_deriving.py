"""The step of the cases on a real warehouse: told once, kept as told, decided by people, and used."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

import pytest

from pwflow_core.errors import CaseStateError, LabelsError, UnknownCaseError
from pwflow_core.pipeline.cases.changes import read_changes
from pwflow_core.pipeline.cases.deriving import derive_cases
from pwflow_core.pipeline.cases.labels import acknowledge_case, mark_case, shelve_case, undo_decision
from pwflow_core.pipeline.cases.similarity import Profile, most_similar
from pwflow_core.pipeline.cases.view import find_case, read_case
from pwflow_core.pipeline.decisions.verdicts import Decider
from pwflow_core.pipeline.evaluation.evaluation import evaluate_plant
from pwflow_core.pipeline.evaluation.labels import labels_of_cases
from pwflow_core.pipeline.flows.registry import rollback
from pwflow_core.pipeline.flows.training import train_cluster_flows
from pwflow_core.pipeline.readings.training_rows import select_training_rows, training_window
from pwflow_core.pipeline.regimes.finding import fit_cluster_model
from pwflow_core.pipeline.scoring.contributions import explain_anomalies
from pwflow_core.pipeline.scoring.events import derive_events
from pwflow_core.plant import Plant
from tests.conftest import TRAINED, learn_all, open_plant, plant_readings, put_file, query, read_all, reopen, score_all

RUN = Decider("dagster run 1", "run-1")
ADA = Decider("Ada")
LOG = "SELECT * FROM mart.alarm_log ORDER BY entry_number"


def tell(plant: Plant, run: Decider = RUN):
    explain_anomalies(plant)
    derive_events(plant)
    return derive_cases(plant, by=run)


def add_night(plant: Plant, start: str, *, fault: tuple[int, int] | None = None, n_times: int = 1440, seed: int = 5):
    """Let a day of readings arrive, in which press-1 reads too much pressure for a while."""
    night = plant_readings(n_times, seed=seed, start=start)
    if fault:
        rows = night.index[night.machine == "press-1"][fault[0] : fault[1]]
        night.loc[rows, "pressure"] += 25.0
    put_file(plant.config.folder / "data" / f"night-{start}.parquet", night)
    read_all(plant)
    score_all(plant)


def log_bytes(plant: Plant) -> bytes:
    """Return the alarm log as a file has it."""
    target = plant.config.folder / "alarm_log.csv"
    with plant.warehouse.snapshot() as connection:
        connection.execute(f"COPY ({LOG}) TO '{target}'")
    return target.read_bytes()


def case_with(plant: Plant, day: str) -> str:
    """Return the case of the longest event of a day."""
    [(case_id,)] = query(
        plant,
        "SELECT case_id FROM mart.case_events WHERE started_at::DATE = ?::DATE ORDER BY n_readings DESC LIMIT 1",
        day,
    )
    return case_id


@pytest.fixture(scope="session")
def _told_folder(make_once, _trained_folder):
    def make(folder: Path) -> None:
        shutil.copytree(_trained_folder, folder, dirs_exist_ok=True)
        plant = open_plant(folder, TRAINED)
        tell(plant)
        add_night(plant, "2024-03-10", fault=(300, 360))
        tell(plant, Decider("dagster run 2", "run-2"))
        shutil.rmtree(folder / "data")  # what was ingested stays

    return make_once("told", make)


@pytest.fixture
def told(_told_folder, tmp_path):
    """Return a copy of a plant whose cases were told twice: its history, then a night with a fault of press-1."""
    shutil.copytree(_told_folder, tmp_path, dirs_exist_ok=True)
    return open_plant(tmp_path, TRAINED)


def test_a_fault_is_one_case_that_is_told_once_with_its_model(told):
    case_id = case_with(told, "2024-03-10")
    [(machines, sensors, n_events)] = query(
        told, "SELECT machine_ids, sensors, n_events FROM mart.cases WHERE case_id = ?", case_id
    )
    assert machines == ["press-1"]
    assert sensors[0] == "pressure"
    entries = query(
        told,
        "SELECT entry, run_id, flow_version IS NOT NULL, calibrated_at IS NOT NULL, alpha FROM mart.alarm_log "
        "WHERE case_id = ? AND entry = 'event'",
        case_id,
    )
    assert entries == [("event", "run-2", True, True, 0.01)] * n_events
    before = log_bytes(told)
    assert tell(told, Decider("dagster run 3", "run-3")).n_told == 0
    assert log_bytes(told) == before


def test_what_became_of_cases_in_a_run_can_be_asked_for(told):
    with told.warehouse.snapshot() as connection:
        every = read_changes(connection)
        of_run = read_changes(connection, run_id="run-2")
        later = read_changes(connection, after=every[-1].change_number)
    assert [change.change_number for change in every] == list(range(1, len(every) + 1))
    assert case_with(told, "2024-03-10") in {c.case_id for c in of_run if c.change == "opened"}
    assert {change.run_id for change in of_run} == {"run-2"}
    assert later == []


def test_refit_rollback_and_new_regimes_leave_the_alarm_log_byte_equal_and_the_ids_told(told):
    before, ids = log_bytes(told), query(told, "SELECT case_id FROM mart.cases ORDER BY ALL")
    told_events = "SELECT case_id, event_id, started_at, n_readings FROM mart.case_events ORDER BY ALL"
    events = query(told, told_events)
    since = datetime(2024, 3, 1, 6)  # noqa: DTZ001 - UTC, as everywhere in the warehouse
    train_cluster_flows(
        told, ["c0001"], reason="refit", promoted_by="test", learn_from={"c0001": since}, challenge=False
    )
    score_all(told)
    tell(told)
    assert log_bytes(told) == before
    rollback(told, "c0001", decided_by="test", reason="back")
    score_all(told)
    tell(told)
    assert log_bytes(told) == before
    changed = reopen(told, clustering={"n_clusters": 1})
    fit_cluster_model(changed)
    learn_all(changed)
    tell(changed)
    assert log_bytes(changed) == before
    assert query(changed, "SELECT case_id FROM mart.cases ORDER BY ALL") == ids
    assert (
        query(changed, "SELECT case_id, event_id, started_at, n_readings FROM mart.case_events ORDER BY ALL") == events
    )


@pytest.mark.parametrize("n_nights", [2, pytest.param(3, marks=pytest.mark.long(reason="9 CPU s: one night more"))])
def test_the_cases_are_the_same_whether_the_nights_are_read_one_by_one_or_at_once(
    trained_plant, tmp_path_factory, n_nights
):
    other_folder = tmp_path_factory.mktemp("other")
    shutil.copytree(trained_plant.config.folder, other_folder, dirs_exist_ok=True)
    other = open_plant(other_folder, TRAINED)
    nights = [("2024-03-10", (300, 340)), ("2024-03-11", (20, 90)), ("2024-03-12", (400, 430))]
    for start, fault in nights[:n_nights]:
        add_night(trained_plant, start, fault=fault, n_times=480)
        tell(trained_plant)
        add_night(other, start, fault=fault, n_times=480)
    tell(other)
    asked = (
        "SELECT case_id, state, severity, machine_ids, sensors, since, last_seen, n_events, n_readings, n_reopened, "
        "closed_at, summary FROM mart.cases ORDER BY ALL"
    )
    assert query(trained_plant, asked) == query(other, asked)


@pytest.mark.parametrize("given", ["", " ", "K-", "case", "%"])
def test_what_is_not_the_beginning_of_an_id_matches_no_case_even_if_there_is_only_one(told, given):
    kept = case_with(told, "2024-03-10")
    with told.warehouse.transaction() as connection:
        connection.execute("DELETE FROM mart.cases WHERE case_id <> ?", [kept])
        assert find_case(connection, kept[:6]) == kept
        with pytest.raises(UnknownCaseError, match=f"Expected the id of a case in mart.cases .*, got {given!r}"):
            find_case(connection, given)


def test_a_person_acknowledges_shelves_marks_and_undoes(told):
    case_id = case_with(told, "2024-03-10")
    with told.warehouse.snapshot() as connection:
        assert read_case(connection, case_id[2:6]).case.case_id == case_id
    assert acknowledge_case(told, case_id, by=ADA, reason="on my way").state == "acknowledged"
    until = datetime(2024, 3, 20)  # noqa: DTZ001 - UTC, as everywhere in the warehouse
    assert shelve_case(told, case_id, until=until, by=ADA).shelved_until == until
    assert undo_decision(told, case_id, by=ADA).state == "acknowledged"
    made = mark_case(told, case_id, "known", kind="filter change", by=ADA)
    assert (made.state, made.label, made.label_kind) == ("closed", "known", "filter change")
    undone = undo_decision(told, case_id, by=ADA, reason="wrong case")
    assert (undone.state, undone.label) == ("acknowledged", None)
    assert undo_decision(told, case_id, by=ADA).state == "open"
    with pytest.raises(CaseStateError, match="Nobody has decided"):
        undo_decision(told, case_id, by=ADA)
    rows = query(
        told,
        "SELECT change, changed_by, reason FROM mart.case_changes WHERE case_id = ? ORDER BY change_number",
        case_id,
    )
    assert [row[0] for row in rows if row[1] == "Ada"] == [
        "acknowledged",
        "shelved",
        "undone",
        "marked",
        "undone",
        "undone",
    ]
    assert ("acknowledged", "Ada", "on my way") in rows


def test_what_cannot_be_decided_is_refused_by_name(told):
    case_id = case_with(told, "2024-03-10")
    with pytest.raises(UnknownCaseError, match=r"got 'K-zz'"):
        mark_case(told, "K-zz", "fault", by=ADA)
    with pytest.raises(CaseStateError, match="after the last reading"):
        shelve_case(told, case_id, until=datetime(2024, 3, 1), by=ADA)  # noqa: DTZ001 - UTC
    for label, kind in (("known", None), ("fault", "leak"), ("known", "x" * 81)):
        with pytest.raises(CaseStateError, match="kind of a known cause"):
            mark_case(told, case_id, label, kind=kind, by=ADA)
    mark_case(told, case_id, "fault", by=ADA)
    with pytest.raises(CaseStateError, match="is closed"):
        acknowledge_case(told, case_id, by=ADA)
    [(n_cases,)] = query(told, "SELECT count(*) FROM mart.cases WHERE state <> 'merged' AND since >= DATE '2024-03-01'")
    [row] = query(
        told, "SELECT n_cases, n_marked, n_right, precision, low, high FROM mart.alarm_precision WHERE n_right > 0"
    )
    assert row[:4] == (n_cases, 1, 1, 1.0)
    assert row[4:] == pytest.approx((0.2065, 1.0), abs=1e-3)  # Wilson, one of one


def test_nothing_learns_from_a_case_that_is_marked_as_a_fault_and_normal_ones_teach(told):
    def teaching(within: str) -> int:
        with told.warehouse.snapshot() as connection:
            rows = select_training_rows(told.config.training)
            sql = f"SELECT count(*) FROM ({rows}) WHERE machine_id = 'press-1' AND ts BETWEEN {within}"
            return connection.execute(sql, training_window(told.config.training)).fetchall()[0][0]

    case_id = case_with(told, "2024-03-10")
    [(start, end)] = query(
        told,
        "SELECT started_at, ended_at FROM mart.case_events WHERE case_id = ? ORDER BY n_readings DESC LIMIT 1",
        case_id,
    )
    span = f"TIMESTAMP '{start}' AND TIMESTAMP '{end}'"
    before = teaching(span)
    assert before > 20
    mark_case(told, case_id, "fault", by=ADA)
    assert teaching(span) == 0
    mark_case(told, case_id, "normal", by=ADA)
    assert teaching(span) == before


def test_what_is_normal_joins_its_case_and_opens_nothing(told):
    case_id = case_with(told, "2024-03-10")
    mark_case(told, case_id, "normal", by=ADA)
    add_night(told, "2024-03-11", fault=(300, 360), seed=6)
    tell(told)
    assert case_with(told, "2024-03-11") == case_id
    assert query(told, "SELECT state, label FROM mart.cases WHERE case_id = ?", case_id) == [("closed", "normal")]


def test_cases_like_it_are_earlier_blame_the_same_and_have_the_shape():
    def profile(case_id: str, day: int, *, n_events: int = 1, **blame: float) -> Profile:
        return Profile(case_id, datetime(2024, 3, day), blame, n_events, 600.0 * n_events, 5.0)  # noqa: DTZ001

    others = [
        profile("K-1", 1, pressure=1.0),
        profile("K-2", 2, pressure=0.9, temperature=0.1, n_events=40),
        profile("K-3", 3, temperature=1.0),
        profile("K-5", 9, pressure=1.0),
    ]
    assert most_similar(profile("K-4", 4, pressure=1.0), others) == ["K-1", "K-2"]
    assert most_similar(profile("K-4", 4), others) == []


def test_evaluation_runs_on_what_people_said(told):
    with pytest.raises(LabelsError, match="none"):
        labels_of_cases(told)
    case_id = case_with(told, "2024-03-10")
    mark_case(told, case_id, "fault", by=ADA)
    labels = labels_of_cases(told)
    assert [fault.machine_id for fault in labels.faults] == ["press-1"]
    result = evaluate_plant(told, labels, with_training=True)
    [total] = [kind for kind in result.kinds if kind.kind == "all"]
    assert (total.n_faults, total.n_found) == (1, 1)
    # events of cases that nobody marked are neither faults nor false alarms
    assert result.n_false_alarms == 0


def test_a_run_that_fails_at_its_end_has_told_nothing_and_the_next_one_tells_all(told, monkeypatch):
    add_night(told, "2024-03-13", fault=(10, 60), seed=9)
    explain_anomalies(told)
    derive_events(told)
    before = log_bytes(told)
    monkeypatch.setattr("pwflow_core.pipeline.cases.deriving._remember_seen", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        derive_cases(told, by=RUN)
    monkeypatch.undo()
    assert log_bytes(told) == before
    assert derive_cases(told, by=RUN).n_told > 0
    assert log_bytes(told).startswith(before.rstrip(b"\n"))


def test_more_new_cases_than_people_can_look_at_are_a_flood(trained_plant):
    plant = reopen(trained_plant, cases={"flood": 1})
    tell(plant)
    add_night(plant, "2024-03-10", fault=(300, 360))
    summary = tell(plant)
    assert summary.is_flood == (summary.n_opened > 1)
