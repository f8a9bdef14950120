"""Runs: the jobs of a plant, executed in this process and recorded in its Dagster instance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from pwflow_core.config import PlantConfig
from pwflow_core.pipeline.checks import explain_failed_checks
from pwflow_core.pipeline.cluster_model import active_cluster_keys
from pwflow_core.pipeline.clusters import needs_cluster_model
from pwflow_core.pipeline.drift.findings import claim_findings, settle_findings
from pwflow_core.pipeline.flows import clusters_without_flow
from pwflow_core.plant import Plant
from pwflow_dagster.checks import failed_check_sentences
from pwflow_dagster.definitions import build
from pwflow_dagster.jobs import LEARN_REGIMES, NIGHTLY_SCORING, RETRAIN_CLUSTER, TRAIN_AND_SCORE
from pwflow_dagster.partitions import add_clusters, adjacent_groups, cluster_partitions, partition_range_tags

__all__ = ["RunOutcome", "answer_findings", "run_plant"]


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
    partitions = cluster_partitions(config.plant.name)
    with plant.warehouse.snapshot() as connection:
        # a run that was killed, or a new Dagster instance, may not know every regime yet
        add_clusters(instance, partitions, active_cluster_keys(connection))
    over_all = partition_range_tags(instance.get_dynamic_partitions(str(partitions.name)))
    if clusters_without_flow(plant):
        only_missing = {f"{config.plant.name}__cluster_flow": {"config": {"only_missing": True}}}
        tags = over_all | {"pwflow/reason": "the regime had no flow yet"}
        yield _run(definitions, instance, TRAIN_AND_SCORE, tags=tags, ops=only_missing)
    else:
        yield _run(definitions, instance, NIGHTLY_SCORING, tags=over_all)


def answer_findings(
    config: PlantConfig, instance: dg.DagsterInstance, run_id: str, verdict_ids: Sequence[str], given_up: Sequence[str]
) -> Iterator[RunOutcome]:
    """Answer verdicts on drift: learn again the regimes that moved, or weigh regimes anew.

    Each run is for regimes whose partitions lie side by side, so that no other partition is materialized.

    Arguments:
        config: The plant.
        instance: Its Dagster instance.
        run_id: The run that answers them.
        verdict_ids: The verdicts.
        given_up: Runs that took them on before, and ended without an answer.

    Yields:
        The outcome of each run as it ends; the last one if a run fails.
    """
    plant = Plant.open(config)
    definitions = build(config)
    partitions = instance.get_dynamic_partitions(str(cluster_partitions(config.plant.name).name))
    by = f"dagster run {run_id}"
    for finding in claim_findings(
        plant, verdict_ids, claimed_by=by, given_up=[f"dagster run {run}" for run in given_up]
    ):
        for group in adjacent_groups(partitions, finding.cluster_keys):
            learn = {f"{config.plant.name}__cluster_flow": {"config": {"learn_from": finding.since.isoformat()}}}
            tags = partition_range_tags(group) | {"pwflow/reason": finding.summary}
            outcome = _run(definitions, instance, RETRAIN_CLUSTER, tags=tags, ops=learn)
            yield outcome
            if outcome.error is not None:
                return
        settle_findings(plant, [finding.verdict_id], "done", decided_by=by)


def _run(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    job: str,
    *,
    tags: dict[str, str] | None = None,
    ops: dict[str, Any] | None = None,
) -> RunOutcome:
    result = definitions.resolve_job_def(job).execute_in_process(
        instance=instance,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}, "ops": ops or {}},
        tags=tags,
        raise_on_error=False,
    )
    warnings = tuple(failed_check_sentences(result, blocking=False))
    return RunOutcome(job, result.run_id, None if result.success else _explain(result), warnings)


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
