"""Jobs: the whole path, its two halves, the nightly scoring, and the re-learning of one regime.

A Dagster run is for partitions that are known when it starts, and the regimes are not known before they are
learned. So the whole path is two runs: one that finds the regimes, and one over all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from pwflow_core.config import PlantConfig

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

__all__ = ["LEARN_REGIMES", "NIGHTLY_SCORING", "RETRAIN_CLUSTER", "TRAIN_AND_SCORE", "WHOLE_PATH", "build_jobs"]

WHOLE_PATH = "whole_path"
LEARN_REGIMES = "learn_regimes"
TRAIN_AND_SCORE = "train_and_score"
NIGHTLY_SCORING = "nightly_scoring"
RETRAIN_CLUSTER = "retrain_cluster"

_INGEST = ("raw_readings", "readings")
_SCORE = (
    "component_log_density",
    "anomaly_scores",
    "sensor_contributions",
    "anomaly_events",
    "cluster_health",
    "published_warehouse",
    "plant_report",
)


def build_jobs(config: PlantConfig) -> list[dg.JobDefinition | UnresolvedAssetJobDefinition]:
    """Return the jobs of a plant."""

    def job(name: str, description: str, *assets: str) -> UnresolvedAssetJobDefinition:
        selection = dg.AssetSelection.assets(*([config.plant.name, asset] for asset in assets))
        return dg.define_asset_job(name, selection, description=description)

    return [
        _whole_path(config),
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

        for outcome in run_plant(config, context.instance):
            context.log.info(f"{outcome.job}: run {outcome.run_id} {'failed' if outcome.error else 'succeeded'}")
            if outcome.error is not None:
                raise dg.Failure(description=outcome.error, allow_retries=False)

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
