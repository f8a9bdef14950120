"""Cases: each change is told once, what was over before is history, and a verdict in a case is told with it."""

from __future__ import annotations

from datetime import timedelta

from pwflow_core.notifying.delivering import tell
from tests.notifying.conftest import NOW, record, verdict


def put_case(plant, case_id="K-1", state="open", *changes, severity="medium", n_events=3, verdict_ids=(), is_told=True):
    """Record a case as it is now, and more of what became of it: (change, hours after NOW)."""
    with plant.warehouse.transaction() as connection:
        connection.execute("DELETE FROM mart.cases WHERE case_id = ?", [case_id])
        connection.execute(
            "INSERT INTO mart.cases BY NAME SELECT $id AS case_id, $state AS state, $severity AS severity, "
            "['M1'] AS machine_ids, ['flow'] AS sensors, $since AS since, $n AS n_events, $told AS told_as_of, "
            "'M1: flow is low.' AS summary, $verdicts::VARCHAR[] AS verdict_ids",
            {
                "id": case_id,
                "state": state,
                "severity": severity,
                "since": NOW,
                "told": NOW if is_told else None,
                "n": n_events,
                "verdicts": list(verdict_ids),
            },
        )
        for change, hours in changes:
            connection.execute(
                "INSERT INTO mart.case_changes BY NAME SELECT "
                "(SELECT coalesce(max(change_number), 0) + 1 FROM mart.case_changes) AS change_number, "
                "$id AS case_id, $change AS change, $severity AS severity, $at AS as_of",
                {"id": case_id, "change": change, "severity": severity, "at": NOW + timedelta(hours=hours)},
            )


def kinds(receiver):
    return [[part["kind"] for part in document["notices"]] for document in receiver.documents]


def test_each_change_of_a_case_is_told_once_with_what_to_type(make_notified, receiver):
    plant = make_notified()
    put_case(plant, "K-1", "open", ("opened", 0))
    tell(plant)
    put_case(plant, "K-1", "open", ("worse", 2), severity="high")
    tell(plant)
    put_case(plant, "K-1", "closed", ("closed", 9), severity="high")
    tell(plant)
    put_case(plant, "K-1", "open", ("reopened", 12), severity="high")
    assert [tell(plant).n_new for _ in range(2)] == [1, 0]
    assert kinds(receiver) == [["opened"], ["worse"], ["closed"], ["reopened"]]
    assert [document["severity"] for document in receiver.documents] == ["medium", "high", "high", "high"]
    assert "pwflow mark K-1" in receiver.documents[0]["notices"][0]["next_step"]


def test_what_opened_and_closed_in_one_night_is_one_message_in_that_order(make_notified, receiver):
    plant = make_notified()
    tell(plant)
    put_case(plant, "K-0", "closed", ("opened", 0))
    tell(plant)
    put_case(plant, "K-1", "closed", ("opened", 1), ("worse", 1), ("closed", 1))
    tell(plant)
    assert kinds(receiver)[-1] == ["opened", "worse", "closed"]


def test_a_history_tells_what_goes_on_and_nothing_that_is_over(make_notified, receiver):
    plant = make_notified()
    put_case(plant, "K-1", "closed", ("opened", 0), ("worse", 1), ("closed", 2))
    put_case(plant, "K-2", "merged", ("opened", 0), ("merged", 3))
    put_case(plant, "K-3", "open", ("opened", 4))
    tell(plant)
    tell(plant)
    assert [document["notices"][0]["subject"] for document in receiver.documents] == ["case K-3"]
    put_case(plant, "K-1", "open", ("reopened", 8))
    tell(plant)
    assert kinds(receiver)[-1] == ["reopened"]


def test_a_verdict_in_a_case_is_told_in_one_message_with_it(make_notified, receiver):
    plant = make_notified()
    record(plant, verdict("1"), verdict("2"))
    put_case(plant, "K-1", "open", ("opened", 0), verdict_ids=["1"])
    put_case(plant, "K-2", "open", ("opened", 0), n_events=0, verdict_ids=["2"])
    tell(plant)
    subjects = {document["notices"][0]["subject"]: document for document in receiver.documents}
    assert set(subjects) == {"case K-1", "case K-2"}
    assert sorted(part["kind"] for part in subjects["case K-1"]["notices"]) == ["decision", "opened"]
    assert [part["kind"] for part in subjects["case K-2"]["notices"]] == ["decision"], "told by its verdict"


def test_of_a_shelved_case_nobody_hears_that_it_is_worse(make_notified, receiver):
    plant = make_notified()
    put_case(plant, "K-1", "open", ("opened", 0))
    tell(plant)
    put_case(plant, "K-1", "shelved", ("shelved", 1), ("worse", 2))
    assert tell(plant).n_new == 0


def test_a_closed_case_that_turns_out_to_be_part_of_another_is_not_told_as_closed_again(make_notified, receiver):
    plant = make_notified()
    put_case(plant, "K-1", "open", ("opened", 0))
    tell(plant)
    put_case(plant, "K-1", "closed", ("closed", 9))
    tell(plant)
    put_case(plant, "K-1", "merged", ("merged", 30))
    with plant.warehouse.transaction() as connection:
        connection.execute("UPDATE mart.case_changes SET from_state = 'closed' WHERE change = 'merged'")
    assert tell(plant).n_new == 0


def test_nobody_hears_of_a_case_that_is_not_told_until_it_is_and_then_of_all_that_became_of_it(make_notified, receiver):
    plant = make_notified()
    tell(plant)
    put_case(plant, "K-1", "open", ("opened", 0), ("worse", 2), is_told=False)
    assert tell(plant).n_new == 0
    put_case(plant, "K-1", "open", ("told", 30))
    tell(plant)
    assert kinds(receiver) == [["opened", "worse"]]
    assert tell(plant).n_new == 0
