"""Runs: the jobs of a plant, executed in this process and recorded in its Dagster instance."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from pwflow_core.config import PlantConfig
from pwflow_core.errors import PwflowError, RegimeError, UnknownVerdictError
from pwflow_core.pipeline.decisions.kinds import RUN_ANSWERS
from pwflow_core.pipeline.decisions.verdicts import Decider, StoredVerdict, claim_verdicts, find_verdict
from pwflow_core.pipeline.flows.training import clusters_without_flow
from pwflow_core.pipeline.regimes.changing import approve_stretch, approve_verdict, reweigh_regimes
from pwflow_core.pipeline.regimes.finding import needs_cluster_model
from pwflow_core.pipeline.regimes.model import active_cluster_keys, check_cluster_keys
from pwflow_core.pipeline.scoring.checks import explain_failed_checks
from pwflow_core.plant import Plant
from pwflow_dagster.assets.regimes import PREVIOUS
from pwflow_dagster.checks import failed_check_sentences
from pwflow_dagster.definitions import build
from pwflow_dagster.jobs import (
    ANSWER_DRIFT,
    ANSWER_VERDICTS,
    LEARN_REGIMES,
    NIGHTLY_SCORING,
    RETRAIN_CLUSTER,
    TRAIN_AND_SCORE,
    flow_config,
)
from pwflow_dagster.partitions import add_clusters, adjacent_groups, cluster_partitions, partition_range_tags
from pwflow_dagster.steps import DECIDED_BY_TAG, DECIDING_RUN_TAG, REASON_TAG, verdict_tags

__all__ = [
    "LastRun",
    "RunOutcome",
    "answer_verdict",
    "answer_verdicts",
    "approve_regime",
    "find_last_run",
    "run_plant",
    "switch_flow",
]

_log = logging.getLogger("pwflow.runs")

_INTERRUPTIONS = ("DagsterExecutionInterruptedError", "KeyboardInterrupt", "Query interrupted", "INTERRUPT Error")
"""What the error of a step is called that was interrupted, in Dagster, in Python and in DuckDB."""


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended.

    Attributes:
        job: The job that ran.
        run_id: Its Dagster run.
        error: Why it failed, as one sentence; None if it succeeded.
        warnings: What the checks found that does not stop publication.
    """

    job: str
    run_id: str
    error: str | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class LastRun:
    """The last run of a plant on record.

    Attributes:
        job: The job that ran.
        run_id: Its Dagster run.
        outcome: Its status in Dagster, in lower case: success, failure, started, …
        started_at: When it started, UTC; None if it has not yet.
        ended_at: When it ended, UTC; None if it has not yet.
        error: Why it failed, as one sentence, where that is known.
    """

    job: str
    run_id: str
    outcome: str
    started_at: datetime | None
    ended_at: datetime | None
    error: str | None


def find_last_run(instance: dg.DagsterInstance) -> LastRun | None:
    """Return the run that was asked for last; None if there is none."""
    records = instance.get_run_records(limit=1)
    if not records:
        return None
    run, started, ended = records[0].dagster_run, records[0].start_time, records[0].end_time
    failed = run.status is dg.DagsterRunStatus.FAILURE
    return LastRun(
        run.job_name,
        run.run_id,
        run.status.value.lower(),
        None if started is None else datetime.fromtimestamp(started, UTC),
        None if ended is None else datetime.fromtimestamp(ended, UTC),
        _read_failure(instance, run.run_id) if failed else None,
    )


def run_plant(config: PlantConfig, instance: dg.DagsterInstance) -> Iterator[RunOutcome]:
    """Run what the plant needs: learning if there is something to learn, else the nightly scoring.

    Yields:
        The outcome of each run as it ends; the last one if a run fails.
    """
    plant = Plant.open(config)
    definitions = build(config)
    if not plant.warehouse.exists or needs_cluster_model(plant):
        outcome = _run(definitions, instance, LEARN_REGIMES)
        yield outcome
        if outcome.error is not None:
            return
    over_all = partition_range_tags(_known_partitions(config, instance, plant))
    if clusters_without_flow(plant):
        only_missing = flow_config(config, only_missing=True)
        tags = over_all | {REASON_TAG: "the regime had no flow for its readings yet"}
        yield _run(definitions, instance, TRAIN_AND_SCORE, tags=tags, run_config=only_missing)
    else:
        yield _run(definitions, instance, NIGHTLY_SCORING, tags=over_all)


def answer_verdicts(
    config: PlantConfig,
    instance: dg.DagsterInstance,
    verdict_ids: Sequence[str],
    *,
    by: Decider,
    given_up: Sequence[str] = (),
) -> Iterator[RunOutcome]:
    """Answer verdicts on drift: learn again the regimes that moved, or weigh regimes anew.

    A verdict that cannot be answered holds up none of the others.

    Arguments:
        config: The configuration of the plant.
        instance: Its Dagster instance.
        verdict_ids: The verdicts.
        by: The run that answers them.
        given_up: Runs that took them on before, and ended without an answer.

    Yields:
        The outcome of each run as it ends.
    """
    plant = Plant.open(config)
    claimed = claim_verdicts(plant, verdict_ids, by=by, given_up=given_up)
    yield from _retrain(config, instance, plant, [verdict for verdict in claimed if verdict.answer == "retrain"], by)
    for verdict in claimed:
        if verdict.answer == "update_weights":
            yield _reweigh(config, instance, plant, verdict, by)


def answer_verdict(config: PlantConfig, instance: dg.DagsterInstance, verdict_id: str) -> RunOutcome:
    """Answer one verdict on drift now, as the drift sensor would.

    Raises:
        UnknownVerdictError: There is no such verdict, or no run can answer it.
        RegimeError: It has been answered already, or a run is answering it.
    """
    verdict = find_verdict(Plant.open(config), verdict_id)
    if verdict.answer not in RUN_ANSWERS:
        raise UnknownVerdictError(
            f"No run can answer {verdict_id}, a verdict of kind {verdict.verdict}: `pwflow status` says what to do."
        )
    given_up: list[str] = []
    if verdict.status == "requested":
        claimed_in = verdict.run_id or ""
        run = instance.get_run_by_id(claimed_in)
        if run is not None and not run.is_finished:
            raise RegimeError(f"Run {claimed_in[:8]} is answering the verdict {verdict_id}: wait for it to end.")
        given_up = [claimed_in]
    elif verdict.status != "open":
        raise RegimeError(f"The verdict {verdict_id} is {verdict.status} already: there is nothing left to answer.")
    answers = {"config": {"verdict_ids": [verdict_id], "given_up": given_up}}
    return _run(
        build(config),
        instance,
        ANSWER_DRIFT,
        tags=verdict_tags([verdict_id]),
        run_config={"ops": {ANSWER_VERDICTS: answers}},
    )


def _retrain(
    config: PlantConfig, instance: dg.DagsterInstance, plant: Plant, verdicts: Sequence[StoredVerdict], by: Decider
) -> Iterator[RunOutcome]:
    """Learn again the regimes that verdicts name, each since its own verdict says that it moved.

    Each run is for regimes whose partitions lie side by side, so that no other partition is materialized. One that
    fails for several is made again for each alone. What a run has answered is settled before it publishes.
    """
    wanted = {key for verdict in verdicts for key in verdict.cluster_keys}
    for group in adjacent_groups(_known_partitions(config, instance, plant), wanted):
        of_group = [verdict for verdict in verdicts if set(verdict.cluster_keys) & set(group)]
        reason = " ".join(verdict.summary for verdict in of_group)
        tags = partition_range_tags(group) | _deciding(by)
        outcome = _run(
            build(config), instance, RETRAIN_CLUSTER, tags=tags, run_config=flow_config(config, reason=reason)
        )
        if outcome.error is not None and len(of_group) > 1:
            _log.warning("%s failed for %s: each is learned alone now", RETRAIN_CLUSTER, ", ".join(group))
            for verdict in of_group:
                yield from _retrain(config, instance, plant, [verdict], by)
            continue
        yield outcome


def _reweigh(
    config: PlantConfig, instance: dg.DagsterInstance, plant: Plant, verdict: StoredVerdict, by: Decider
) -> RunOutcome:
    """Weigh the regimes of a segment anew, which settles the verdict, and score with the new weights."""
    try:
        reweigh_regimes(plant, verdict, decided_by=by.name, run_id=by.run_id)
    except PwflowError as error:
        return RunOutcome(ANSWER_DRIFT, by.run_id or "", str(error))
    tags = partition_range_tags(_known_partitions(config, instance, plant)) | _deciding(by)
    return _run(build(config), instance, NIGHTLY_SCORING, tags=tags)


def _deciding(by: Decider) -> dict[str, str]:
    """Return the tags of a run that another one starts: what it decides, that one decides."""
    return {DECIDED_BY_TAG: by.name} | ({DECIDING_RUN_TAG: by.run_id} if by.run_id else {})


def _known_partitions(config: PlantConfig, instance: dg.DagsterInstance, plant: Plant) -> Sequence[str]:
    """Return the partitions of a plant in their order; a run that was killed, or a new Dagster, may lack some."""
    partitions = cluster_partitions(config.plant.name)
    with plant.warehouse.snapshot() as connection:
        add_clusters(instance, partitions, active_cluster_keys(connection))
    return instance.get_dynamic_partitions(str(partitions.name))


def switch_flow(
    config: PlantConfig,
    instance: dg.DagsterInstance,
    cluster_key: str,
    flow_version: str | None,
    *,
    is_rollback: bool,
    decided_by: str,
    reason: str,
) -> RunOutcome:
    """Put a version of the flow of a regime in force and make again what depends on it.

    Arguments:
        config: The configuration of the plant.
        instance: Its Dagster instance.
        cluster_key: The regime.
        flow_version: The version or its first digits; the one before if None. An empty one fits none.
        is_rollback: Whether it counts as going back.
        decided_by: Who decides.
        reason: Why.

    Raises:
        UnknownClusterError: There is no such regime in force.
        NotFittedError: There is no warehouse yet.
    """
    plant = Plant.open(config)
    with plant.warehouse.snapshot() as connection:
        check_cluster_keys(tuple(active_cluster_keys(connection)), [cluster_key])
    _known_partitions(config, instance, plant)
    return _run(
        build(config),
        instance,
        RETRAIN_CLUSTER,
        tags={DECIDED_BY_TAG: decided_by},
        run_config=flow_config(
            config,
            put_in_force=PREVIOUS if flow_version is None else flow_version,
            reason=reason,
            is_rollback=is_rollback,
        ),
        partition_key=cluster_key,
    )


def approve_regime(
    config: PlantConfig,
    instance: dg.DagsterInstance,
    verdict_id: str,
    *,
    approved_by: str,
    reason: str,
    run_id: str | None = None,
) -> tuple[list[str], RunOutcome | None]:
    """Add the regime that a verdict or an unusual stretch (U-…) proposes, learn it alone, and make again what follows.

    Returns:
        The keys of the regimes that were added, and how the run ended; no keys and None where a stretch is too short
        for a regime of its own.

    Raises:
        UnknownVerdictError: No verdict has this id, or it does not propose a new regime.
        RegimeError: It has been answered already, or there are too few readings of such a regime.
        NotFittedError: There is no warehouse, or there are no regimes yet.
    """
    plant = Plant.open(config)
    if verdict_id.startswith("U-"):
        keys = approve_stretch(plant, verdict_id, approved_by=approved_by, reason=reason)
    else:
        keys = approve_verdict(plant, verdict_id, approved_by=approved_by, reason=reason, run_id=run_id)
    if not keys:
        return keys, None
    _known_partitions(config, instance, plant)
    outcome = _run(
        build(config),
        instance,
        TRAIN_AND_SCORE,
        tags=partition_range_tags(keys) | {DECIDED_BY_TAG: approved_by},
        run_config=flow_config(config, only_missing=True, reason=reason or f"approved as a new regime: {verdict_id}"),
    )
    return keys, outcome


def _run(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    job: str,
    *,
    tags: dict[str, str] | None = None,
    run_config: dict[str, Any] | None = None,
    partition_key: str | None = None,
) -> RunOutcome:
    definition = definitions.resolve_job_def(job)
    if (n_steps := len(definition.graph.nodes)) > 1:  # a job of one op starts others, which say it themselves
        _log.info("%s: %d steps", job, n_steps, extra={"job": job, "n_steps": n_steps})
    result = definition.execute_in_process(
        instance=instance,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}} | (run_config or {}),
        tags=tags,
        partition_key=partition_key,
        raise_on_error=False,
    )
    if _was_interrupted(result):
        raise KeyboardInterrupt
    warnings = tuple(failed_check_sentences(result, blocking=False))
    return RunOutcome(job, result.run_id, None if result.success else _explain(result), warnings)


def _was_interrupted(result: dg.ExecuteInProcessResult) -> bool:
    """Whether a run ended because this process was told to stop, by Ctrl-C or by a signal."""
    errors = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    texts = []
    while errors:
        error = errors.pop()
        if error is not None:  # the framework wraps what was raised in a step
            texts.append(f"{error.cls_name} {error.message}")
            errors.append(error.cause)
    return any(sign in text for text in texts for sign in _INTERRUPTIONS)


def _read_failure(instance: dg.DagsterInstance, run_id: str) -> str | None:
    """Return the sentence of the step of a run on record that failed first; None if there is none."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        data = entry.get_dagster_event().step_failure_data
        if data.user_failure_data and data.user_failure_data.description:
            return str(data.user_failure_data.description)
    return None


def _explain(result: dg.ExecuteInProcessResult) -> str:
    """Return what the failed checks say, else the sentence of the step that failed first, or of the framework."""
    if failed := failed_check_sentences(result, blocking=True):
        return explain_failed_checks(failed)
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data and data.user_failure_data.description:
                return str(data.user_failure_data.description)
            if data.error:
                cause = data.error.cause or data.error
                return f"Step {event.step_key} failed: {cause.message.strip()}"
    return f"Run {result.run_id} failed: open it with `pwflow ui`."
