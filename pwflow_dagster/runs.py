"""Runs: the jobs of a plant, executed in this process and recorded in its Dagster instance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dagster as dg

from pwflow_core.config import PlantConfig
from pwflow_core.pipeline.clusters import needs_cluster_model
from pwflow_core.pipeline.flows import clusters_without_flow
from pwflow_core.plant import Plant
from pwflow_dagster.definitions import build
from pwflow_dagster.instance import open_instance
from pwflow_dagster.jobs import NIGHTLY_SCORING, WHOLE_PATH
from pwflow_dagster.partitions import cluster_partitions, partition_range_tags

__all__ = ["RunOutcome", "run_plant"]


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended.

    Attributes:
        job: The job that ran.
        run_id: Its Dagster run.
        error: Why it failed, as one sentence; None if it succeeded.
    """

    job: str
    run_id: str
    error: str | None


def run_plant(config: PlantConfig) -> RunOutcome:
    """Run what the plant needs: the whole path if there is something to learn, else the nightly scoring."""
    plant = Plant.open(config)
    refit = not plant.warehouse.exists or needs_cluster_model(plant)
    learn = refit or bool(clusters_without_flow(plant))
    job = WHOLE_PATH if learn else NIGHTLY_SCORING
    run_config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    tags: dict[str, str] = {}
    with open_instance(config) as instance:
        if learn:
            run_config["ops"] = {f"{config.plant.name}__cluster_model": {"config": {"refit": refit}}}
        else:
            partitions = cluster_partitions(config.plant.name)
            tags = partition_range_tags(instance.get_dynamic_partitions(str(partitions.name)))
        result = (
            build(config)
            .resolve_job_def(job)
            .execute_in_process(instance=instance, run_config=run_config, tags=tags, raise_on_error=False)
        )
    return RunOutcome(job, result.run_id, None if result.success else _explain(result))


def _explain(result: dg.ExecuteInProcessResult) -> str:
    """Return the sentence of the step that failed first, or the error of the framework."""
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data and data.user_failure_data.description:
                return str(data.user_failure_data.description)
            if data.error:
                cause = data.error.cause or data.error
                return f"Step {event.step_key} failed: {cause.message.strip()}"
    return f"Run {result.run_id} failed: open it with `pwflow ui`."
