"""Runs: the jobs of a plant, recorded in its Dagster instance.

A command executes them in its own process, so that it needs no daemon, shows what happens and ends with Ctrl-C. A run
that Dagster launched has them launched too.

Which job a name stands for is the caller's to say: the command line takes it from the definitions, and a job that
starts others from those that it belongs to. So nothing here knows how jobs are made.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import dagster as dg

from pwflow_core.config import PlantConfig
from pwflow_core.errors import PwflowError, RegimeError, UnknownVerdictError
from pwflow_core.pipeline.decisions.kinds import RUN_ANSWERS
from pwflow_core.pipeline.decisions.verdicts import Decider, StoredVerdict, claim_verdicts, find_verdict
from pwflow_core.pipeline.flows.training import clusters_without_flow
from pwflow_core.pipeline.readings.recurrence import is_stretch_id
from pwflow_core.pipeline.regimes.changing import approve_stretch, approve_verdict, reweigh_regimes
from pwflow_core.pipeline.regimes.finding import needs_cluster_model
from pwflow_core.pipeline.regimes.model import active_cluster_keys, check_cluster_keys
from pwflow_core.pipeline.scoring.checks import explain_failed_checks
from pwflow_core.plant import Plant
from pwflow_dagster.checks import failed_check_sentences
from pwflow_dagster.launching import EndedRun, Launcher
from pwflow_dagster.names import (
    ANSWER_DRIFT,
    ANSWER_VERDICTS,
    DECIDED_BY_TAG,
    DECIDING_RUN_TAG,
    LEARN_REGIMES,
    NIGHTLY_SCORING,
    PREVIOUS,
    REASON_TAG,
    RETRAIN_CLUSTER,
    TRAIN_AND_SCORE,
    TRAIN_REGIMES,
    flow_config,
    op_config,
    verdict_tags,
)
from pwflow_dagster.partitions import add_clusters, adjacent_groups, cluster_partitions, partition_range_tags
from pwflow_dagster.run_records import is_active

__all__ = [
    "TOO_SHORT",
    "RunOutcome",
    "Runner",
    "answer_verdict",
    "answer_verdicts",
    "approve_regime",
    "find_answerable",
    "run_plant",
    "switch_flow",
]

_log = logging.getLogger("pwflow.runs")

TOO_SHORT = "Too short for a regime of its own; the next `pwflow run` learns from it."
"""What is said of a stretch that was approved and got no regime."""

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
class Runner:
    """Runs the jobs of a plant.

    Attributes:
        config: The configuration of the plant.
        instance: Its Dagster instance.
        resolve: Returns a job of its definitions by its name.
        launcher: Puts runs into Dagster's queue; None to execute them in this process.
    """

    config: PlantConfig
    instance: dg.DagsterInstance
    resolve: Callable[[str], dg.JobDefinition]
    launcher: Launcher | None = None

    @cached_property
    def plant(self) -> Plant:
        """The plant, ready for a step of the pipeline."""
        return Plant.open(self.config)

    def known_partitions(self) -> Sequence[str]:
        """Return the partitions of the plant in their order; a run that was killed, or a new Dagster, may lack some."""
        partitions = cluster_partitions(self.config.plant.name)
        with self.plant.warehouse.snapshot() as connection:
            add_clusters(self.instance, partitions, active_cluster_keys(connection))
        return self.instance.get_dynamic_partitions(str(partitions.name))

    def run(
        self,
        job: str,
        *,
        tags: dict[str, str] | None = None,
        run_config: dict[str, Any] | None = None,
        partition_key: str | None = None,
    ) -> RunOutcome:
        """Run a job, and return how it ended.

        Raises:
            KeyboardInterrupt: This process was told to stop, by Ctrl-C or by a signal.
        """
        definition = self.resolve(job)
        if (n_steps := len(definition.graph.nodes)) > 1:  # a job of one op starts others, which say it themselves
            _log.info("%s: %d steps", job, n_steps, extra={"job": job, "n_steps": n_steps})
        if self.launcher is not None:
            started = self.launcher.start(definition, tags=tags, run_config=run_config, partition_key=partition_key)
            return _tell(job, self.launcher.wait([started])[0])
        result = definition.execute_in_process(
            instance=self.instance,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}} | (run_config or {}),
            tags=tags,
            partition_key=partition_key,
            raise_on_error=False,
        )
        if _was_interrupted(result):
            raise KeyboardInterrupt
        return _tell(job, EndedRun(result.run_id, result.all_events, result.success))

    def run_groups(
        self, job: str, groups: Sequence[Sequence[str]], *, tags: dict[str, str], run_config: dict[str, Any]
    ) -> list[RunOutcome]:
        """Launch a run of a job for each group of regimes, all at once, and return how they ended.

        Raises:
            ValueError: Nothing launches runs here.
        """
        if self.launcher is None:
            raise ValueError("Expected a launcher for runs that go on at once, got none.")
        definition = self.resolve(job)
        started = []
        for group in groups:
            of_group = partition_range_tags(group) | tags
            run_id = self.launcher.start(definition, tags=of_group, run_config=run_config, partition_key=None)
            started.append(run_id)
        return [_tell(job, ended) for ended in self.launcher.wait(started)]

    def groups_of(self, keys: Collection[str]) -> list[list[str]]:
        """Return regimes in the groups that runs of their own train: as many as `compute.regimes_per_run` says."""
        most = self.config.compute.regimes_per_run
        if self.launcher is None or most is None:
            return []
        adjacent = adjacent_groups(self.known_partitions(), keys)
        return [group[start : start + most] for group in adjacent for start in range(0, len(group), most)]


def run_plant(runner: Runner) -> Iterator[RunOutcome]:
    """Run what the plant needs: learning if there is something to learn, else the nightly scoring.

    Yields:
        The outcome of each run as it ends; the last one if a run fails.
    """
    plant = runner.plant
    if not plant.warehouse.exists or needs_cluster_model(plant):
        outcome = runner.run(LEARN_REGIMES)
        yield outcome
        if outcome.error is not None:
            return
    over_all = partition_range_tags(runner.known_partitions())
    if missing := clusters_without_flow(plant):
        only_missing = flow_config(runner.config.plant.name, only_missing=True)
        why = {REASON_TAG: "first flow of this regime"}
        if len(groups := runner.groups_of(missing)) < 2:
            yield runner.run(TRAIN_AND_SCORE, tags=over_all | why, run_config=only_missing)
            return
        outcomes = runner.run_groups(TRAIN_REGIMES, groups, tags=why, run_config=only_missing)
        yield from outcomes
        if any(outcome.error is not None for outcome in outcomes):
            return
    yield runner.run(NIGHTLY_SCORING, tags=over_all)


def answer_verdicts(
    runner: Runner,
    verdict_ids: Sequence[str],
    *,
    by: Decider,
    given_up: Sequence[str] = (),
) -> Iterator[RunOutcome]:
    """Answer verdicts on drift: retrain the regimes that moved, or update only the weights.

    A verdict that cannot be answered holds up none of the others.

    Arguments:
        runner: Runs the jobs of the plant.
        verdict_ids: The verdicts.
        by: The run that answers them.
        given_up: Runs that took them on before, and ended without an answer.

    Yields:
        The outcome of each run as it ends.
    """
    claimed = claim_verdicts(runner.plant, verdict_ids, by=by, given_up=given_up)
    yield from _retrain(runner, [verdict for verdict in claimed if verdict.answer == "retrain"], by)
    for verdict in claimed:
        if verdict.answer == "update_weights":
            yield _reweigh(runner, verdict, by)


def find_answerable(plant: Plant, verdict_id: str) -> StoredVerdict:
    """Return a verdict that a run can answer, by its id.

    Raises:
        UnknownVerdictError: The verdict is not known, or no run can answer it.
    """
    verdict = find_verdict(plant, verdict_id)
    if verdict.answer not in RUN_ANSWERS:
        raise UnknownVerdictError(
            f"No run can answer {verdict_id}, a verdict of kind {verdict.verdict}: `pwflow status` says what to do."
        )
    return verdict


def answer_verdict(runner: Runner, verdict_id: str) -> RunOutcome:
    """Answer one verdict on drift now, as the drift sensor would.

    Raises:
        UnknownVerdictError: The verdict is not known, or no run can answer it.
        RegimeError: It has been answered already, or a run is answering it.
    """
    verdict = find_answerable(runner.plant, verdict_id)
    given_up: list[str] = []
    if verdict.status == "requested":
        claimed_in = verdict.run_id or ""
        record = runner.instance.get_run_record_by_id(claimed_in)
        if record is not None and is_active(record, datetime.now(UTC)):
            raise RegimeError(
                f"Run {claimed_in[:8]} is answering the verdict {verdict_id}: wait for it to end. If it was killed, "
                "terminate it in `pwflow ui` under Runs, or wait for 12 hours."
            )
        given_up = [claimed_in]
    elif verdict.status != "open":
        raise RegimeError(f"The verdict {verdict_id} is {verdict.status} already: there is nothing left to answer.")
    return runner.run(
        ANSWER_DRIFT,
        tags=verdict_tags([verdict_id]),
        run_config=op_config(ANSWER_VERDICTS, verdict_ids=[verdict_id], given_up=given_up),
    )


def _retrain(runner: Runner, verdicts: Sequence[StoredVerdict], by: Decider) -> Iterator[RunOutcome]:
    """Learn again the regimes that verdicts name, each since its own verdict says that it moved.

    Each run is for regimes whose partitions lie side by side, so that no other partition is materialized. One that
    fails for several is made again for each alone. What a run has answered is settled before it publishes.
    """
    wanted = {key for verdict in verdicts for key in verdict.cluster_keys}
    for group in adjacent_groups(runner.known_partitions(), wanted):
        of_group = [verdict for verdict in verdicts if set(verdict.cluster_keys) & set(group)]
        reason = " ".join(verdict.summary for verdict in of_group)
        tags = partition_range_tags(group) | _deciding(by)
        outcome = runner.run(
            RETRAIN_CLUSTER, tags=tags, run_config=flow_config(runner.config.plant.name, reason=reason)
        )
        if outcome.error is not None and len(of_group) > 1:
            _log.warning("%s failed for %s: each is learned alone now", RETRAIN_CLUSTER, ", ".join(group))
            for verdict in of_group:
                yield from _retrain(runner, [verdict], by)
            continue
        yield outcome


def _reweigh(runner: Runner, verdict: StoredVerdict, by: Decider) -> RunOutcome:
    """Update the weights of the regimes of a segment, which settles the verdict, and score with the new weights."""
    try:
        reweigh_regimes(runner.plant, verdict, decided_by=by.name, run_id=by.run_id)
    except PwflowError as error:
        return RunOutcome(ANSWER_DRIFT, by.run_id or "", str(error))
    tags = partition_range_tags(runner.known_partitions()) | _deciding(by)
    return runner.run(NIGHTLY_SCORING, tags=tags)


def _deciding(by: Decider) -> dict[str, str]:
    """Return the tags of a run that another one starts: what it decides, that one decides."""
    return {DECIDED_BY_TAG: by.name} | ({DECIDING_RUN_TAG: by.run_id} if by.run_id else {})


def switch_flow(
    runner: Runner,
    cluster_key: str,
    flow_version: str | None,
    *,
    is_rollback: bool,
    decided_by: str,
    reason: str,
) -> RunOutcome:
    """Put a version of the flow of a regime in use and make again what depends on it.

    Arguments:
        runner: Runs the jobs of the plant.
        cluster_key: The regime.
        flow_version: The version or its first digits; the one before if None. An empty one fits none.
        is_rollback: Whether it counts as going back.
        decided_by: Who decides.
        reason: Why.

    Raises:
        UnknownClusterError: The regime is not in use.
        NotFittedError: The plant has not been run yet.
    """
    with runner.plant.warehouse.snapshot() as connection:
        check_cluster_keys(tuple(active_cluster_keys(connection)), [cluster_key])
    runner.known_partitions()
    return runner.run(
        RETRAIN_CLUSTER,
        tags={DECIDED_BY_TAG: decided_by},
        run_config=flow_config(
            runner.config.plant.name,
            put_in_use=PREVIOUS if flow_version is None else flow_version,
            reason=reason,
            is_rollback=is_rollback,
        ),
        partition_key=cluster_key,
    )


def approve_regime(
    runner: Runner,
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
        UnknownStretchError: No stretch has this id.
        RegimeError: It has been answered already, or there are too few readings of such a regime.
        NotFittedError: There is no warehouse, or there are no regimes yet.
    """
    plant = runner.plant
    if is_stretch_id(verdict_id):
        keys = approve_stretch(plant, verdict_id, approved_by=approved_by, reason=reason, run_id=run_id)
    else:
        keys = approve_verdict(plant, verdict_id, approved_by=approved_by, reason=reason, run_id=run_id)
    if not keys:
        return keys, None
    runner.known_partitions()
    why = reason or f"approved as a new regime: {verdict_id}"
    outcome = runner.run(
        TRAIN_AND_SCORE,
        tags=partition_range_tags(keys) | {DECIDED_BY_TAG: approved_by},
        run_config=flow_config(runner.config.plant.name, only_missing=True, reason=why),
    )
    return keys, outcome


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


def _tell(job: str, ended: EndedRun) -> RunOutcome:
    warnings = tuple(failed_check_sentences(ended.events, blocking=False))
    return RunOutcome(job, ended.run_id, None if ended.success else _explain(ended), warnings)


def _explain(ended: EndedRun) -> str:
    """Return what the failed checks say, else the sentence of the step that failed first, or of the framework."""
    if failed := failed_check_sentences(ended.events, blocking=True):
        return explain_failed_checks(failed)
    for event in ended.events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data and data.user_failure_data.description:
                return str(data.user_failure_data.description)
            if data.error:
                cause = data.error.cause or data.error
                return f"Step {event.step_key} failed: {cause.message.strip()}"
    return ended.problem or f"Run {ended.run_id} failed: open it with `pwflow ui`."
