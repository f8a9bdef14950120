"""The ledger of verdicts: what may follow what, who changed it and why, and that nothing writes it but the ledger."""

import re
from datetime import date
from typing import get_args

import pytest

from pwflow_core.errors import RegimeError, UnknownVerdictError, VerdictStatusError
from pwflow_core.modelling.drift import Kind as FoundKind
from pwflow_core.pipeline.decisions.kinds import KINDS, find_kind
from pwflow_core.pipeline.decisions.verdicts import (
    TRANSITIONS,
    Decider,
    Status,
    StoredVerdict,
    change_status,
    claim_verdicts,
    close_ended,
    dismiss_verdict,
    give_up_verdicts,
    open_verdicts,
    read_verdict,
    record_verdicts,
    restore_verdict,
    settle_answered,
)
from pwflow_core.pipeline.looking.status import next_step
from pwflow_core.reporting.texts import LANGUAGES, Texts
from tests.conftest import query
from tests.processes import REPOSITORY

STATUSES = get_args(Status)
ADA = Decider("Ada")
NIGHT = date(2024, 4, 2)

WAYS: dict[Status, list[Status]] = {
    "open": [],
    "requested": ["requested"],
    "failed": ["failed"],
    "done": ["done"],
    "dismissed": ["dismissed"],
}
"""How a new verdict comes to each status."""


def a_verdict(verdict_id="v1", kind="regime_moved", night=NIGHT, **changes):
    values = {"cluster_keys": ("c0001",), "machine_ids": ("M1",), "sensors": ("pressure",)} | changes
    return StoredVerdict(
        verdict_id, night, kind, since=night, effect_size=1.0, summary="x", answer=find_kind(kind).answer, **values
    )


def record(plant, *verdicts):
    with plant.warehouse.transaction() as connection:
        return record_verdicts(connection, verdicts, by=Decider("drift"))


def change(plant, status, by=ADA, reason="because"):
    with plant.warehouse.transaction() as connection:
        change_status(connection, ["v1"], status, by=by, reason=reason)


def changes(plant):
    return query(
        plant,
        "SELECT from_status, to_status, changed_by, run_id, reason FROM mart.verdict_changes "
        "ORDER BY changed_at, rowid",
    )


@pytest.fixture
def plant(make_plant):
    return make_plant()


@pytest.mark.parametrize("after", STATUSES)
@pytest.mark.parametrize("before", STATUSES)
def test_a_status_changes_as_the_table_allows_and_leaves_a_row_or_else_nothing_changes(plant, before, after):
    record(plant, a_verdict())
    for status in WAYS[before]:
        change(plant, status)
    rows = (query(plant, "FROM mart.drift_verdicts"), changes(plant))
    if after in TRANSITIONS[before]:
        change(plant, after, Decider("Bob", "run-2"), "it is so")
        assert query(plant, "SELECT status, decided_by, run_id FROM mart.drift_verdicts") == [(after, "Bob", "run-2")]
        assert changes(plant) == [*rows[1], (before, after, "Bob", "run-2", "it is so")]
    else:
        with pytest.raises(VerdictStatusError, match="v1"):
            change(plant, after, Decider("Bob", "run-2"))
        assert (query(plant, "FROM mart.drift_verdicts"), changes(plant)) == rows


def test_every_status_can_be_left_or_is_an_end_and_only_a_person_opens_a_verdict_again():
    assert set(TRANSITIONS) == set(STATUSES)
    assert {status for status, after in TRANSITIONS.items() if not after} == {"done"}
    assert [status for status, after in TRANSITIONS.items() if "open" in after] == ["dismissed"], (
        "a person takes it back"
    )


def test_a_refused_change_takes_back_all_that_its_transaction_did(plant):
    record(plant, a_verdict("v1"), a_verdict("v2", cluster_keys=("c0002",)))
    dismiss_verdict(plant, "v2", by=ADA)
    with pytest.raises(RegimeError, match="v2 is dismissed already; only one that is open or requested can"):
        give_up_verdicts(plant, ["v1", "v2"], by=ADA, reason="x")
    assert dict(query(plant, "SELECT verdict_id, status FROM mart.drift_verdicts")) == {"v1": "open", "v2": "dismissed"}


@pytest.mark.parametrize("before", ["open", "failed"])
def test_what_was_dismissed_becomes_open_first_and_then_what_it_was(plant, before):
    record(plant, a_verdict())
    if before != "open":
        change(plant, before)
    dismiss_verdict(plant, "v1", by=ADA)
    assert restore_verdict(plant, "v1", by=ADA, reason="a wrong id").status == before
    told = [(old, new) for old, new, *_ in changes(plant)]
    assert told[-2:] == (
        [("open", "dismissed"), ("dismissed", "open")]
        if before == "open"
        else [("dismissed", "open"), ("open", "failed")]
    )


def test_the_whole_way_of_a_verdict_can_be_read(plant):
    record(plant, a_verdict())
    assert [verdict.status for verdict in claim_verdicts(plant, ["v1"], by=Decider("Ada", "run-1"))] == ["open"]
    assert claim_verdicts(plant, ["v1"], by=Decider("Bob", "run-2")) == []
    with pytest.raises(VerdictStatusError, match="Ada is answering the verdict v1: wait"):
        dismiss_verdict(plant, "v1", by=Decider("Bob"))
    assert len(claim_verdicts(plant, ["v1"], by=Decider("Bob", "run-2"), given_up=["run-1"])) == 1
    settle_answered(plant, by=Decider("Bob", "run-2"))
    with plant.warehouse.transaction() as connection:
        connection.execute(
            "INSERT INTO mart.flow_decisions BY NAME FROM (VALUES ('c0001', 'run-1'), ('c0002', 'run-2')) "
            "AS made (cluster_key, run_id)"
        )
    settle_answered(plant, by=Decider("Bob", "run-2"))
    assert query(plant, "SELECT status FROM mart.drift_verdicts") == [("requested",)], "its regime was not decided on"
    with plant.warehouse.transaction() as connection:
        connection.execute("INSERT INTO mart.flow_decisions BY NAME SELECT 'c0001' AS cluster_key, 'run-2' AS run_id")
    settle_answered(plant, by=Decider("Bob", "run-2"))
    assert changes(plant) == [
        (None, "open", "drift", None, "the evidence sufficed"),
        ("open", "requested", "Ada", "run-1", "a run is to answer it"),
        ("requested", "requested", "Bob", "run-2", "a run is to answer it"),
        ("requested", "done", "Bob", "run-2", "its regimes were trained again"),
    ]


def test_a_run_that_claims_twice_leaves_one_row(plant):
    record(plant, a_verdict())
    for _ in range(2):
        assert len(claim_verdicts(plant, ["v1"], by=Decider("Ada", "run-1"))) == 1
    assert len(changes(plant)) == 2


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_same_is_not_recorded_twice_and_what_differs_in_what_the_kind_is_about_is(plant, kind):
    assert record(plant, a_verdict(kind=kind.name)) != []
    others = {"cluster_keys": ("c0009",), "machine_ids": ("M9",), "sensors": ("flow",)}
    counts = {"regimes": ["cluster_keys"], "machines": ["machine_ids"], "sensor": ["machine_ids", "sensors"]}
    for name, other in others.items():
        again = a_verdict(f"other {name}", kind.name, **{name: other})
        assert (record(plant, again) == [again]) == (name in counts[kind.identity])


def test_what_is_over_is_done_and_says_after_which_night(plant):
    record(plant, a_verdict("v1", "outage"), a_verdict("v2", "machine_moved"))
    with plant.warehouse.transaction() as connection:
        close_ended(connection, date(2024, 4, 3), {"v1": "readings came again"}, by=Decider("drift"))
    assert query(plant, "SELECT verdict_id, status, ended FROM mart.drift_verdicts ORDER BY ALL") == [
        ("v1", "done", date(2024, 4, 3)),
        ("v2", "open", None),
    ]


def test_verdicts_of_a_night_are_listed_in_the_order_of_their_kinds(plant):
    found = [a_verdict(f"{9 - place}", kind.name) for place, kind in enumerate(KINDS)]
    record(plant, *reversed(found), a_verdict("early", "mix_moved", date(2024, 4, 1), cluster_keys=("c0002",)))
    with plant.warehouse.snapshot() as connection:
        assert [v.verdict_id for v in open_verdicts(connection)] == ["early", *(v.verdict_id for v in found)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_has_words_in_every_language_and_a_next_step(kind):
    for language in LANGUAGES:
        assert {f"verdict.{kind.name}", f"said.{kind.name}", f"answer.{kind.answer}"} <= Texts(language).keys
    step = next_step(a_verdict(kind=kind.name), "retrain")
    assert "{" not in step
    assert kind.ends == "not_found" or "pwflow dismiss v1" in step


def test_the_table_has_the_kinds_that_are_found_and_another_one_is_refused():
    assert {kind.name for kind in KINDS} == set(get_args(FoundKind))
    with pytest.raises(UnknownVerdictError, match=r"got 'gremlins' in mart\.drift_verdicts: install"):
        find_kind("gremlins")


def test_a_kind_is_named_in_at_most_five_files_so_that_a_new_one_touches_no_more():
    """Of code and texts; `make reference` writes the page that lists the kinds."""
    files = [
        file
        for place in ("pwflow_core", "pwflow_dagster")
        for file in (REPOSITORY / place).rglob("*")
        if file.suffix in (".py", ".sql", ".toml", ".html")
    ]
    texts = {file: file.read_text(encoding="utf-8") for file in files}
    for kind in KINDS:
        word = re.compile(rf"[\"'`]{kind.name}[\"'`]|^{kind.name} = ", re.MULTILINE)
        found = [str(file.relative_to(REPOSITORY)) for file, text in texts.items() if word.search(text)]
        told = {f"pwflow_core/reporting/texts_{language}.toml" for language in LANGUAGES}
        assert told | {"pwflow_core/pipeline/decisions/kinds.py"} <= set(found)
        assert len(found) <= 5, found


def test_nothing_but_the_ledger_and_migrations_write_verdicts():
    writes = re.compile(
        r"(INSERT INTO|UPDATE|DELETE FROM|insert_row\(\w+,)\s+\W?mart\.(drift_verdicts|verdict_changes)"
    )
    writers = {
        file.relative_to(REPOSITORY).as_posix()
        for place in ("pwflow_core", "pwflow_dagster")
        for file in (REPOSITORY / place).rglob("*")
        if file.suffix in (".py", ".sql") and writes.search(file.read_text(encoding="utf-8"))
    }
    assert writers == {"pwflow_core/pipeline/decisions/verdicts.py", "pwflow_core/warehouse/verdict_changes.sql"}


def test_an_unknown_id_names_the_open_ones(plant):
    record(plant, a_verdict())
    with plant.warehouse.snapshot() as connection, pytest.raises(UnknownVerdictError, match=r"\(v1\), got 'v9'"):
        read_verdict(connection, "v9")
