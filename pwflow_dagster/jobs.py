"""Jobs: the whole path and its halves, the nightly scoring, the answer to drift; `decisions` has what a person decides.

A Dagster run is for partitions that are known when it starts, and the regimes are not known before they are
learned. So the whole path is two runs: one that finds the regimes, and one over all of them.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from pwflow_core.config import PlantConfig
from pwflow_dagster.decisions import build_decisions
from pwflow_dagster.names import (
    ANSWER_DRIFT,
    ANSWER_VERDICTS,
    DELIVER_NOTICES,
    LEARN_REGIMES,
    MAINTAIN_WAREHOUSE,
    NIGHTLY_SCORING,
    PLANT_TAG,
    RETRAIN_CLUSTER,
    SHORT_CYCLE,
    TRAIN_AND_SCORE,
    TRAIN_REGIMES,
    WHOLE_PATH,
    asset_key,
)
from pwflow_dagster.op_jobs import Runners, follow, job_of, refusals
from pwflow_dagster.pruning import build_pruning_job
from pwflow_dagster.resources import PlantResource
from pwflow_dagster.steps import decider

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

    from pwflow_dagster.runs import Runner

__all__ = ["AnswerConfig", "build_jobs"]

_INGEST = ("raw_readings", "readings")
_BETWEEN_NIGHTS = (
    "component_log_density",
    "anomaly_scores",
    "sensor_contributions",
    "anomaly_events",
    "cases",
    "published_warehouse",
    "notifications",
)
_SCORE = (
    "component_log_density",
    "anomaly_scores",
    "sensor_contributions",
    "anomaly_events",
    "cluster_health",
    "cases",
    "published_warehouse",
    "plant_report",
    "notifications",
)


class AnswerConfig(dg.Config):
    """Run configuration of `answer_drift`."""

    verdict_ids: list[str] = Field(
        default=[], description="The verdicts to answer, see mart.drift_verdicts; empty: all that a run can answer."
    )
    given_up: list[str] = Field(default=[], description="Runs that took them on before, and ended without an answer.")


def build_jobs(
    config: PlantConfig, resolve: Callable[[str], dg.JobDefinition]
) -> "list[dg.JobDefinition | UnresolvedAssetJobDefinition]":
    """Return the jobs of a plant.

    Arguments:
        config: The configuration of the plant.
        resolve: Returns a job of its definitions by its name, for those that start others.
    """

    def job(name: str, description: str, *assets: str) -> "UnresolvedAssetJobDefinition":
        selection = dg.AssetSelection.assets(*(asset_key(config.plant.name, asset) for asset in assets))
        return dg.define_asset_job(name, selection, description=description, tags={PLANT_TAG: config.plant.name})

    def runner(context: dg.OpExecutionContext) -> "Runner":
        from pwflow_dagster.launching import find_launcher
        from pwflow_dagster.runs import Runner

        return Runner(config, context.instance, resolve, find_launcher(context.instance, context.run))

    plant = PlantResource(config)
    return [
        _whole_path(plant, runner),
        _answer_drift(plant, runner),
        *build_decisions(plant, runner),
        _deliver_notices(plant),
        build_pruning_job(config),
        _maintain_warehouse(plant),
        job(
            LEARN_REGIMES,
            "Ingest what is new and find the operating regimes; adds a partition for each new one.",
            *_INGEST,
            "cluster_model",
        ),
        job(
            TRAIN_AND_SCORE,
            "For a range of regimes: assign readings, train the flows, score, publish.",
            "cluster_assignments",
            "cluster_flow",
            *_SCORE,
        ),
        job(
            TRAIN_REGIMES,
            "For a range of regimes: assign readings, train the flows, compute the densities of their slices; several "
            "such runs may go on at once. Derives and publishes nothing: nightly_scoring does.",
            "cluster_assignments",
            "cluster_flow",
            "component_log_density",
        ),
        job(
            NIGHTLY_SCORING,
            "Ingest what is new, score it with the models in use, publish. Trains nothing.",
            *_INGEST,
            "cluster_assignments",
            *_SCORE,
        ),
        job(
            SHORT_CYCLE,
            "Between two nights: ingest what is new, score it with the models in use, publish and tell people. Follows "
            "no drift and writes no report. The schedule cycles starts it (schedule.every_minutes).",
            *_INGEST,
            "cluster_assignments",
            *_BETWEEN_NIGHTS,
        ),
        job(
            RETRAIN_CLUSTER,
            "Train the flow of one regime, score its slice again, derive what depends on it, publish. Also what "
            "promote_flow and roll_back_flow start, with a flow that there is already.",
            "cluster_flow",
            *_SCORE,
        ),
    ]


def _whole_path(plant: PlantResource, runner: Runners) -> dg.JobDefinition:
    @dg.op(description="Starts the runs that the plant needs, one after the other, and waits for them.")
    def run_whole_path(context: dg.OpExecutionContext) -> None:
        from pwflow_dagster.runs import run_plant

        follow(context, run_plant(runner(context)))

    return job_of(
        run_whole_path,
        plant.config.plant.name,
        WHOLE_PATH,
        "From files to published scores, with one click: ingest, find the regimes if there is anything to learn, train "
        "the flows that are missing, score, publish.",
    )


def _answer_drift(plant: PlantResource, runner: Runners) -> dg.JobDefinition:
    @dg.op(
        name=ANSWER_VERDICTS,
        description="Retrains what moved, and only that, one run per group of regimes; or updates only the weights.",
    )
    def run_answers(context: dg.OpExecutionContext, config: AnswerConfig) -> None:
        from pwflow_core.pipeline.decisions.verdicts import pending_verdicts
        from pwflow_dagster.runs import answer_verdicts, find_answerable

        started = runner(context)
        with refusals():
            for verdict_id in config.verdict_ids:
                find_answerable(started.plant, verdict_id)
        ids = config.verdict_ids or [verdict.verdict_id for verdict in pending_verdicts(started.plant)]
        outcomes = answer_verdicts(started, ids, by=decider(context.run), given_up=config.given_up)
        follow(context, outcomes)

    return job_of(
        run_answers,
        plant.config.plant.name,
        ANSWER_DRIFT,
        "Answer verdicts on drift: train the flows of the regimes that moved, put each in use if it proves better, "
        "score those slices alone, derive what depends on them, publish. The drift sensor starts it; so can you, with "
        "one click for all that are open, or with the ids of some from mart.drift_verdicts.",
    )


def _deliver_notices(plant: PlantResource) -> dg.JobDefinition:
    @dg.op(description="Sends what is due to each target, and notes what did not arrive.")
    def run_delivery(context: dg.OpExecutionContext) -> None:
        from pwflow_dagster.assets.publication import tell_what_is_new

        context.add_output_metadata(tell_what_is_new(plant.open()))

    return job_of(
        run_delivery,
        plant.config.plant.name,
        DELIVER_NOTICES,
        "Tell the targets of [notify] what the record has to tell and they were not told yet, and send again what did "
        "not arrive. The sensor notify starts it.",
    )


def _maintain_warehouse(plant: PlantResource) -> dg.JobDefinition:
    @dg.op(description="Puts small files together, and removes those that nobody reads any more.")
    def run_maintenance(context: dg.OpExecutionContext) -> None:
        from pwflow_core.warehouse.base import NO_MAINTENANCE

        opened = plant.open()
        with refusals():
            done = opened.warehouse.maintain(opened.config.warehouse.keep_days)
        context.log.info(str(done or NO_MAINTENANCE))

    return job_of(
        run_maintenance,
        plant.config.plant.name,
        MAINTAIN_WAREHOUSE,
        "Put the small files of a lake together, and remove what is older than warehouse.keep_days; once a week is "
        "enough.",
    )
