"""Jobs: the whole path, its two halves, the nightly scoring, the re-learning of one regime, and the answer to drift.

A Dagster run is for partitions that are known when it starts, and the regimes are not known before they are
learned. So the whole path is two runs: one that finds the regimes, and one over all of them.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from pwflow_core.config import PlantConfig

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

    from pwflow_dagster.runs import RunOutcome

__all__ = [
    "ANSWER_DRIFT",
    "ANSWER_VERDICTS",
    "LEARN_REGIMES",
    "NIGHTLY_SCORING",
    "RETRAIN_CLUSTER",
    "TRAIN_AND_SCORE",
    "WHOLE_PATH",
    "build_jobs",
]

WHOLE_PATH = "whole_path"
LEARN_REGIMES = "learn_regimes"
TRAIN_AND_SCORE = "train_and_score"
NIGHTLY_SCORING = "nightly_scoring"
RETRAIN_CLUSTER = "retrain_cluster"
ANSWER_DRIFT = "answer_drift"
ANSWER_VERDICTS = "answer_verdicts"
"""The op of `answer_drift`, by which its runs are configured."""

_INGEST = ("raw_readings", "readings")
_SCORE = (
    "component_log_density",
    "anomaly_scores",
    "sensor_contributions",
    "anomaly_events",
    "cluster_health",
    "published_warehouse",
)


def build_jobs(config: PlantConfig) -> "list[dg.JobDefinition | UnresolvedAssetJobDefinition]":
    """Return the jobs of a plant."""

    def job(name: str, description: str, *assets: str) -> "UnresolvedAssetJobDefinition":
        selection = dg.AssetSelection.assets(*([config.plant.name, asset] for asset in assets))
        return dg.define_asset_job(name, selection, description=description)

    return [
        _whole_path(config),
        _answer_drift(config),
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
            NIGHTLY_SCORING,
            "Ingest what is new, score it with the models in force, publish. Trains nothing.",
            *_INGEST,
            "cluster_assignments",
            *_SCORE,
        ),
        job(
            RETRAIN_CLUSTER,
            "Train the flow of one regime, score its slice again, derive what depends on it, publish.",
            "cluster_flow",
            *_SCORE,
        ),
    ]


def _whole_path(config: PlantConfig) -> dg.JobDefinition:
    @dg.op(description="Starts the runs that the plant needs, one after the other, and waits for them.")
    def run_whole_path(context) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - Dagster reads annotations
        from pwflow_dagster.runs import run_plant

        _follow(context, run_plant(config, context.instance))

    @dg.job(
        name=WHOLE_PATH,
        executor_def=dg.in_process_executor,
        description=(
            "From files to published scores, with one click: ingest, find the regimes if there is anything to "
            "learn, train the flows that are missing, score, publish."
        ),
    )
    def whole_path() -> None:
        run_whole_path()

    return whole_path


class AnswerDriftConfig(dg.Config):
    """Run configuration of `answer_drift`."""

    verdict_ids: list[str] = Field(description="The verdicts to answer, see mart.drift_verdicts.")
    given_up: list[str] = Field(
        default=[], description="Runs that took these verdicts on before, and ended without an answer."
    )


def _answer_drift(plant_config: PlantConfig) -> dg.JobDefinition:
    @dg.op(name=ANSWER_VERDICTS, description="Learns again what moved, and only that, one run per group of regimes.")
    def answer_verdicts(context, config: AnswerDriftConfig) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        from pwflow_dagster.runs import answer_findings

        _follow(
            context,
            answer_findings(plant_config, context.instance, context.run_id, config.verdict_ids, config.given_up),
        )

    @dg.job(
        name=ANSWER_DRIFT,
        executor_def=dg.in_process_executor,
        description=(
            "Answer verdicts on drift: train the flows of the regimes that moved, put each in force if it proves "
            "better, score those slices alone, derive what depends on them, publish. The drift sensor starts it; so "
            "can you, with the ids of verdicts from mart.drift_verdicts."
        ),
    )
    def answer() -> None:
        answer_verdicts()

    return answer


def _follow(context, outcomes: "Iterable[RunOutcome]") -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Log the runs that an op starts; fail with the first one that does."""
    for outcome in outcomes:
        context.log.info(f"{outcome.job}: run {outcome.run_id} {'failed' if outcome.error else 'succeeded'}")
        if outcome.error is not None:
            raise dg.Failure(description=outcome.error, allow_retries=False)
