"""What has to be told, drawn from the record in the warehouse.

The record decides what there is to tell, and its ids: reading it twice finds the same notices. So it does not matter
where a run was killed; whoever reads the record next finds what is missing.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import duckdb

from pwflow_core.config import PlantConfig, Severity
from pwflow_core.errors import NotFittedError
from pwflow_core.notifying.cases import cases_of_verdicts, name_case, read_cases
from pwflow_core.notifying.notices import Notice, identify
from pwflow_core.pipeline.decisions.kinds import RUN_ANSWERS, find_kind
from pwflow_core.pipeline.decisions.verdicts import OPEN, StoredVerdict, read_verdict
from pwflow_core.pipeline.looking.status import explain_blindness, next_step
from pwflow_core.pipeline.readings.nights import begin_of
from pwflow_core.pipeline.regimes.naming import RegimeNames, read_names
from pwflow_core.pipeline.scoring.sight import blind_sensors, read_sight
from pwflow_core.plant import Plant
from pwflow_core.warehouse import read_sql

__all__ = ["count_record", "fail_run", "late_scoring", "name_regimes", "read_record"]


def read_record(plant: Plant, *, is_first: bool) -> tuple[list[Notice], int]:
    """Return everything that the record has to tell, in the order in which it came about, and its last commit.

    Arguments:
        plant: The plant.
        is_first: Whether it was never read before: then cases that are over are history.
    """
    try:
        with plant.warehouse.snapshot() as connection:
            notices = [
                *_read_verdicts(connection, plant.config),
                *read_cases(connection, is_first=is_first),
                *_read_blind(connection),
            ]
            commits, names = plant.warehouse.commit_number(connection), read_names(connection)
    except NotFittedError:
        return [], 0
    if names.of:
        notices = [name_regimes(notice, names) for notice in notices]
    return sorted(notices, key=lambda notice: notice.at), commits


def count_record(plant: Plant) -> int:
    """Return the number of the last commit of the record; nothing waits for it."""
    return plant.warehouse.last_commit_number()


def fail_run(run_id: str, job: str, reason: str, *, at: datetime) -> Notice:
    """Return the notice of a run that failed; `at` is UTC."""
    return Notice(
        identify("run", run_id),
        "failed_run",
        f"run {run_id}",
        "high",
        at,
        f"The run {run_id[:8]} of {job} failed: {reason.strip() or 'its log says why'}",
    )


def late_scoring(run_id: str, ended_at: datetime, *, at: datetime) -> Notice:
    """Return the notice that nothing was scored since a run ended; times are UTC."""
    return Notice(
        identify("late", run_id),
        "late",
        "the nightly run",
        "high",
        at,
        f"Nothing was scored since {ended_at:%Y-%m-%d %H:%M} UTC: the next run of the schedule is late.",
        since=ended_at,
        next_step="`pwflow doctor` says what is wrong",
    )


def name_regimes(notice: Notice, names: RegimeNames) -> Notice:
    """Return a notice with the names of its regimes; its id, and what it is about, stay."""
    is_named = any(key in names.of for key in notice.regimes)
    return replace(
        notice,
        summary=names.spell_out(notice.summary),
        next_step=names.spell_out(notice.next_step),
        regime_names=tuple(names.labels(notice.regimes)) if is_named else (),
    )


def _read_verdicts(connection: duckdb.DuckDBPyConnection, config: PlantConfig) -> list[Notice]:
    """Return the verdicts that wait for a person, and what became of those that did."""
    notices = []
    cases = cases_of_verdicts(connection)
    for verdict_id, made_at, status, changed_at, reason in connection.execute(
        read_sql(__package__, "verdict_ends.sql"), {"open": list(OPEN)}
    ).fetchall():
        verdict = read_verdict(connection, verdict_id)
        subject = name_case(cases[verdict_id]) if verdict_id in cases else f"verdict {verdict_id}"
        if status is not None:
            begun = _tell_verdict(verdict, subject, config, made_at)
            notices.append(_end(begun, identify(verdict_id, status), changed_at, status, reason))
        elif _waits_for_a_person(verdict, config.drift.policy):
            notices.append(_tell_verdict(verdict, subject, config, made_at))
    return notices


def _waits_for_a_person(verdict: StoredVerdict, policy: str) -> bool:
    is_for_a_run = verdict.answer in RUN_ANSWERS and policy == "retrain"
    return not is_for_a_run or verdict.status == "failed"


def _tell_verdict(verdict: StoredVerdict, subject: str, config: PlantConfig, made_at: datetime) -> Notice:
    is_for_nobody = find_kind(verdict.verdict).answer == "none"
    severity: Severity = "high" if is_for_nobody else "medium"
    return Notice(
        identify(verdict.verdict_id, "failed" if verdict.status == "failed" else "open"),
        "no_data" if is_for_nobody else "decision",
        subject,
        severity,
        made_at,
        verdict.summary,
        machines=verdict.machine_ids,
        sensors=verdict.sensors,
        regimes=verdict.cluster_keys,
        since=None if verdict.since is None else begin_of(verdict.since, config.schedule.timezone),
        verdict=verdict.verdict,
        next_step=next_step(verdict, config.drift.policy),
    )


def _end(begun: Notice, notice_id: str, at: datetime, status: str, reason: str | None) -> Notice:
    return Notice(
        notice_id,
        "closed",
        begun.subject,
        begun.severity,
        at,
        f"{begun.summary} Now {status}{f': {reason}' if reason else ''}.",
        is_over=True,
        machines=begun.machines,
        sensors=begun.sensors,
        regimes=begun.regimes,
        since=begun.since,
        verdict=begun.verdict,
    )


def _read_blind(connection: duckdb.DuckDBPyConnection) -> list[Notice]:
    """Return the regimes in use that are blind to shifts of some sensors; a new flow is a new matter."""
    notices = []
    probed = dict(connection.execute(read_sql(__package__, "probed.sql")).fetchall())
    for key, blind in blind_sensors(read_sight(connection)).items():
        sensors = tuple(sorted(sight.sensor for sight in blind))
        said, remedies = zip(*explain_blindness(blind), strict=True)
        notices.append(
            Notice(
                identify("blind", key, blind[0].flow_version, *sensors),
                "blind",
                f"regime {key}",
                "low",
                probed[key],
                f"{'; '.join(said)}.",
                sensors=sensors,
                regimes=(key,),
                next_step="; ".join(dict.fromkeys(remedies)),
            )
        )
    return notices
