"""Telling: each thing once, to those who want to know, when they want to know it, however receivers behave."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from pwflow_core.notifying.delivering import due_work, note_run, send_waiting, take_up, tell
from pwflow_core.notifying.outbox import Outbox
from pwflow_core.notifying.record import fail_run
from pwflow_core.pipeline.decisions.verdicts import Decider, change_status, dismiss_verdict
from tests.notifying.conftest import NOW, notice, record, verdict

ME = Decider("somebody")
MINUTE = timedelta(minutes=1)


def note(plant, *notices, now=NOW):
    return Outbox(plant.config.outbox_path).note(notices, plant.config.notify.targets, now=now)


def state(plant, name="hook"):
    (found,) = Outbox(plant.config.outbox_path).states([name])
    return found


def test_what_the_record_has_to_tell_is_told_once(make_notified, receiver):
    plant = make_notified()
    assert tell(plant).n_new == 0, "there is no warehouse yet"
    record(plant, verdict("1"), verdict("2", "outage"), verdict("3", "regime_moved"))
    told = [tell(plant) for _ in range(3)]
    assert [outcome.n_new for outcome in told] == [2, 0, 0], "a run answers the third by itself"
    assert [document["type"] for document in receiver.documents] == ["pwflow.decision", "pwflow.no_data"]
    assert [document["notices"][0]["machines"] for document in receiver.documents] == [["press-1"], ["press-2"]]
    assert len(set(receiver.ids)) == 2
    assert due_work(plant, now=NOW) is None


def test_a_warehouse_that_was_put_back_to_a_backup_is_read_again(make_notified, receiver):
    """It has fewer commits than the outbox knows, and may hold what was never told."""
    plant = make_notified()
    record(plant, verdict("1"))
    warehouse = plant.warehouse
    backup = {path: path.read_bytes() for path in (warehouse.path, warehouse.ledger_path)}
    record(plant, verdict("2", "outage"))
    tell(plant)
    assert due_work(plant, now=NOW) is None
    for path, content in backup.items():
        path.write_bytes(content)
    assert due_work(plant, now=NOW) is not None
    tell(plant)
    assert due_work(plant, now=NOW) is None


def test_the_end_is_told_to_those_who_know_the_beginning(make_notified, receiver):
    plant = make_notified()
    record(plant, verdict("1"), verdict("2"))
    dismiss_verdict(plant, "1", by=ME)
    tell(plant)
    assert [document["notices"][0]["subject"] for document in receiver.documents] == ["verdict 2"]
    dismiss_verdict(plant, "2", by=ME, reason="a filter was changed")
    assert due_work(plant, now=NOW) is not None
    tell(plant)
    assert receiver.documents[1]["type"] == "pwflow.closed"
    assert "a filter was changed" in receiver.documents[1]["notices"][0]["summary"]


def test_a_verdict_that_no_run_could_answer_waits_for_a_person(make_notified, receiver):
    plant = make_notified()
    record(plant, verdict("1", "regime_moved"))
    tell(plant)
    assert receiver.got == []
    with plant.warehouse.transaction() as connection:
        change_status(connection, ["1"], "failed", by=ME, reason="given up")
    tell(plant)
    assert [document["type"] for document in receiver.documents] == ["pwflow.decision"]


def test_where_a_person_decides_on_refits_a_regime_that_moved_is_told(make_notified, receiver):
    plant = make_notified(drift={"policy": "propose"})
    record(plant, verdict("1", "regime_moved"))
    tell(plant)
    assert "pwflow answer 1" in receiver.documents[0]["notices"][0]["next_step"]


def test_a_regime_that_turns_blind_is_told_once_per_flow(make_notified, receiver):
    plant = make_notified()

    def probe(flow: str) -> None:
        with plant.warehouse.transaction() as connection:
            connection.execute("DELETE FROM mart.detectability")
            connection.execute(
                "INSERT INTO mart.detectability BY NAME SELECT 'c0004' AS cluster_key, ? AS flow_version, "
                "unnest(['b', 'a']) AS sensor, true AS is_blind, 'few_readings' AS reason, "
                "now()::TIMESTAMP AS probed_at",
                [flow],
            )

    for flow, n_told in (("one", 1), ("one", 1), ("two", 2)):
        probe(flow)
        tell(plant)
        assert len(receiver.got) == n_told
    assert receiver.documents[0]["notices"][0]["sensors"] == ["a", "b"]
    assert "c0004" in receiver.documents[0]["notices"][0]["summary"]


def test_a_failed_run_is_told_once_also_while_the_warehouse_is_held(make_notified, receiver):
    plant = make_notified()
    failed = fail_run("0123456789", "nightly_scoring", "No room on the disk.", at=NOW)
    plant.warehouse.path.write_bytes(b"no database")
    for _ in range(2):
        note_run(plant.config, failed)
        send_waiting(plant.config, now=NOW)
    assert len(receiver.got) == 1
    assert "No room on the disk." in receiver.documents[0]["notices"][0]["summary"]


@pytest.mark.parametrize("answer", [500, 429, 404, 302, None])
def test_what_was_not_taken_is_sent_again_under_the_same_id_and_later_each_time(make_notified, receiver, answer):
    plant = make_notified()
    note(plant, notice("a"))
    receiver.answers = [answer] * 3
    at, attempted = NOW, []
    while at < NOW + timedelta(hours=1):
        if due_work(plant, now=at):
            attempted.append(at)
            send_waiting(plant.config, now=at)
        at += MINUTE
    pauses = [(b - a) / MINUTE for a, b in pairwise(attempted)]
    assert pauses == [1, 5, 15]
    assert len(receiver.got) == 4
    assert len(set(receiver.ids)) == 1
    assert len({body for _, body in receiver.got}) == 1, "the same message, not another one"
    assert (state(plant).n_sent, state(plant).n_waiting) == (1, 0)


def test_one_target_that_fails_holds_up_no_other(make_notified, receiver, monkeypatch):
    hook = {"url_env": "TEST_HOOK_URL", "secret_env": "TEST_HOOK_SECRET"}
    monkeypatch.setenv("TEST_GONE", "http://127.0.0.1:9/gone")
    plant = make_notified(notify={"targets": {"gone": hook | {"url_env": "TEST_GONE"}, "hook": hook}})
    record(plant, verdict("1"))
    told = tell(plant)
    assert (told.n_sent, list(told.errors)) == ({"gone": 0, "hook": 1}, ["gone"])
    assert (state(plant, "gone").n_waiting, state(plant, "hook").n_sent) == (1, 1)


def test_a_receiver_that_is_down_for_a_day_gets_few_messages_that_tell_everything(make_notified, receiver, monkeypatch):
    plant = make_notified()
    monkeypatch.setenv("TEST_HOOK_URL", "http://127.0.0.1:9/hook")
    n_attempts = 0
    for hour in range(24):
        at = NOW + timedelta(hours=hour)
        note(plant, *(notice(f"{hour}-{i}", at) for i in range(4)), now=at)
        n_attempts += bool(send_waiting(plant.config, now=at)[1])
    assert 20 <= n_attempts <= 24
    assert state(plant).last_error
    monkeypatch.setenv("TEST_HOOK_URL", receiver.url)
    for hour in range(24, 27):
        send_waiting(plant.config, now=NOW + timedelta(hours=hour))
    told = [part["id"] for document in receiver.documents for part in document["notices"]]
    assert sorted(told) == sorted(f"{hour}-{i}.opened" for hour in range(24) for i in range(4))
    assert len(receiver.got) == 12, "six that were put together before, then five and a summary"
    assert due_work(plant, now=NOW + timedelta(hours=27)) is None


def test_ten_thousand_events_in_one_night_end_in_a_summary(make_notified, receiver):
    plant = make_notified()
    severities = ["low"] * 9_000 + ["medium"] * 997 + ["high"] * 3
    notices = [notice(f"K-{n}", severity=severity, machines=(f"M{n % 3}",)) for n, severity in enumerate(severities)]
    assert note(plant, *notices) == 10_000
    for minutes in range(0, 600, 30):
        send_waiting(plant.config, now=NOW + timedelta(minutes=minutes))
    *alone, summary = sorted(receiver.documents, key=lambda document: document["n_notices"])
    assert len(alone) == 5
    assert {document["notices"][0]["id"] for document in alone if document["severity"] == "high"} == {
        f"K-{n}.opened" for n in (9_997, 9_998, 9_999)
    }
    assert (summary["type"], summary["n_notices"]) == ("pwflow.summary", 9_995)
    assert len(summary["notices"]) < 1_000
    assert note(plant, *notices, now=NOW + MINUTE) == 0


def test_a_flood_that_goes_on_all_night_is_summed_up_each_hour(make_notified, receiver):
    plant = make_notified({"most_per_hour": 3})
    for minute in range(0, 8 * 60, 15):
        at = NOW + minute * MINUTE
        note(plant, *(notice(f"{minute}-{i}", at) for i in range(300)), now=at)
        send_waiting(plant.config, now=at)
    assert len(receiver.got) <= 3 * 8 + 3
    n_told = sum(document["n_notices"] for document in receiver.documents)
    assert n_told + state(plant).n_queued == 32 * 300


def test_what_waits_about_one_subject_is_told_together(make_notified, receiver):
    plant = make_notified()
    note(
        plant,
        notice("a"),
        notice("b", subject="case a", kind="worse", severity="high", at=NOW + MINUTE),
        notice("c", subject="case c"),
    )
    send_waiting(plant.config, now=NOW)
    told = {document["notices"][-1]["subject"]: document for document in receiver.documents}
    assert [part["kind"] for part in told["case a"]["notices"]] == ["opened", "worse"]
    assert (told["case a"]["type"], told["case a"]["severity"]) == ("pwflow.worse", "high")
    assert len(receiver.got) == 2


def test_quiet_hours_hold_back_what_is_not_grave_until_they_end(make_notified, receiver):
    plant = make_notified({"quiet": "22:00-06:00", "quiet_severity": "high"}, schedule={"timezone": "Asia/Tokyo"})
    night = datetime(2026, 3, 2, 14)  # noqa: DTZ001 - 23:00 in Tokyo
    note(plant, notice("a"), notice("b", severity="high"), now=night)
    assert due_work(plant, now=night) is not None
    for hours, n_told in ((0, 1), (3, 1), (6.9, 1), (7, 2)):
        send_waiting(plant.config, now=night + timedelta(hours=hours))
        assert len(receiver.got) == n_told, hours
    assert [document["severity"] for document in receiver.documents] == ["high", "medium"]


def test_quiet_hours_hold_back_an_attempt_to_send_again(make_notified, receiver):
    plant = make_notified({"quiet": "22:00-06:00"})
    evening = datetime(2026, 3, 2, 21, 58)  # noqa: DTZ001 - naive UTC
    note(plant, notice("a"), now=evening)
    receiver.answers = [503]
    for minutes in (0, 3, 60, 7 * 60):
        send_waiting(plant.config, now=evening + minutes * MINUTE)
    assert len(receiver.got) == 1
    send_waiting(plant.config, now=evening + 8 * 60 * MINUTE + 2 * MINUTE)
    assert len(receiver.got) == 2


def test_a_target_is_told_from_its_severity_upwards(make_notified, receiver):
    plant = make_notified({"severity": "medium"})
    note(plant, *(notice(severity, severity=severity) for severity in ("low", "medium", "high")))
    send_waiting(plant.config, now=NOW)
    assert sorted(document["severity"] for document in receiver.documents) == ["high", "medium"]


def test_a_target_that_is_added_later_is_told_what_comes_from_then_on(make_notified, receiver):
    plant = make_notified()
    record(plant, verdict("1"))
    tell(plant)
    hook = {"url_env": "TEST_HOOK_URL", "secret_env": "TEST_HOOK_SECRET"}
    plant = make_notified(notify={"targets": {"hook": hook, "late": hook}})
    record(plant, verdict("2"))
    assert tell(plant).n_sent == {"hook": 1, "late": 1}


def test_a_message_is_given_up_after_a_week_and_that_is_said(make_notified, receiver):
    plant = make_notified()
    note(plant, notice("a"))
    receiver.answers = [500] * 1_000
    for hours in range(0, 24 * 9, 8):
        send_waiting(plant.config, now=NOW + timedelta(hours=hours))
    assert (state(plant).n_given_up, state(plant).n_waiting) == (1, 0)
    assert len(receiver.got) == 23, "one attempt in eight hours, for a week"
    assert "500" in state(plant).last_error


def test_a_warehouse_that_is_made_again_tells_nothing_twice(make_notified, receiver):
    plant = make_notified()
    record(plant, verdict("1"))
    tell(plant)
    for path in (plant.warehouse.path, plant.warehouse.ledger_path):
        path.unlink()
    record(plant, verdict("1"))
    take_up(plant, now=NOW)
    tell(plant)
    assert len(receiver.got) == 1


def test_what_is_graver_now_reaches_those_who_did_not_want_to_know_before_and_nobody_twice(make_notified, receiver):
    plant = make_notified({"severity": "medium"})
    outbox, targets = Outbox(plant.config.outbox_path), plant.config.notify.targets
    low, high = notice("K-1", severity="low"), notice("K-1", severity="high")
    for one in (low, low, high, low, high):
        outbox.note([one], targets, now=NOW)
        send_waiting(plant.config, now=NOW)
    assert [document["severity"] for document in receiver.documents] == ["high"]
    worse = [replace(high, notice_id=f"K-1.{number}", kind="worse") for number in range(2)]
    assert [outbox.note([one], targets, now=NOW) for one in worse] == [1, 0]
    send_waiting(plant.config, now=NOW)
    assert [document["notices"][-1]["kind"] for document in receiver.documents] == ["opened", "worse"]
    assert outbox.severities(["K-1.opened", "unknown"]) == {"K-1.opened": "high"}
