"""Jobs: the whole path and its halves, the nightly scoring, the answer to drift, and what a person decides.

A Dagster run is for partitions that are known when it starts, and the regimes are not known before they are
learned. So the whole path is two runs: one that finds the regimes, and one over all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import dagster as dg

from pwflow_core.config import PlantConfig
from pwflow_dagster.assets.regimes import PREVIOUS
from pwflow_dagster.steps import decided_by

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

    from pwflow_dagster.runs import RunOutcome

__all__ = [
    "ANSWER_DRIFT",
    "ANSWER_VERDICTS",
    "APPROVE_REGIME",
    "LEARN_REGIMES",
    "NIGHTLY_SCORING",
    "PROMOTE_FLOW",
    "RETRAIN_CLUSTER",
    "ROLL_BACK_FLOW",
    "TRAIN_AND_SCORE",
    "WHOLE_PATH",
    "build_jobs",
    "flow_config",
]

WHOLE_PATH = "whole_path"
LEARN_REGIMES = "learn_regimes"
TRAIN_AND_SCORE = "train_and_score"
NIGHTLY_SCORING = "nightly_scoring"
RETRAIN_CLUSTER = "retrain_cluster"
ANSWER_DRIFT = "answer_drift"
ANSWER_VERDICTS = "answer_verdicts"
"""The op of `answer_drift`, by which its runs are configured."""
PROMOTE_FLOW = "promote_flow"
ROLL_BACK_FLOW = "roll_back_flow"
APPROVE_REGIME = "approve_regime"

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

    def job(
        name: str, description: str, *assets: str, run_config: dict[str, Any] | None = None
    ) -> UnresolvedAssetJobDefinition:
        selection = dg.AssetSelection.assets(*([config.plant.name, asset] for asset in assets))
        return dg.define_asset_job(name, selection, description=description, config=run_config)

    return [
        _whole_path(config),
        _answer_drift(config),
        _approve_regime(config),
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
        job(
            PROMOTE_FLOW,
            "Put a version of the flow of one regime in force (name it as put_in_force in the launchpad), score its "
            "slice again, derive what depends on it, publish. Trains nothing.",
            "cluster_flow",
            *_SCORE,
            run_config=flow_config(config, put_in_force="", reason="promoted in Dagster"),
        ),
        job(
            ROLL_BACK_FLOW,
            "Return to the flow of one regime that was in force before (or to the version named as put_in_force in the "
            "launchpad), score its slice again, derive what depends on it, publish. Trains nothing.",
            "cluster_flow",
            *_SCORE,
            run_config=flow_config(config, put_in_force=PREVIOUS, is_rollback=True, reason="rolled back in Dagster"),
        ),
    ]


def flow_config(config: PlantConfig, **values: object) -> dict[str, Any]:
    """Return the run configuration that gives `cluster_flow` some values, see `ClusterFlowConfig`."""
    return {"ops": {f"{config.plant.name}__cluster_flow": {"config": values}}}


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


def _answer_drift(config: PlantConfig) -> dg.JobDefinition:
    @dg.op(
        name=ANSWER_VERDICTS,
        description="Learns again what moved, and only that, one run per group of regimes; or weighs regimes anew.",
        config_schema={
            "verdict_ids": dg.Field([str], description="The verdicts to answer, see mart.drift_verdicts."),
            "given_up": dg.Field(
                [str], default_value=[], description="Runs that took them on before, and ended without an answer."
            ),
        },
    )
    def run_answers(context) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - Dagster reads annotations
        from pwflow_dagster.runs import answer_findings

        given = context.op_config
        _follow(
            context,
            answer_findings(config, context.instance, context.run_id, given["verdict_ids"], given["given_up"]),
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
    def answer_drift() -> None:
        run_answers()

    return answer_drift


def _follow(context, outcomes: Iterable[RunOutcome]) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Log the runs that an op starts, all of them; fail if one did."""
    errors = []
    for outcome in outcomes:
        context.log.info(f"{outcome.job}: run {outcome.run_id} {'failed' if outcome.error else 'succeeded'}")
        if outcome.error is not None:
            errors.append(outcome.error)
    if errors:
        raise dg.Failure(description=" ".join(errors), allow_retries=False)


def _approve_regime(config: PlantConfig) -> dg.JobDefinition:
    @dg.op(
        description="Adds the regime that a verdict proposes, starts the run that learns it, and waits for it.",
        config_schema={
            "verdict_id": dg.Field(str, description="The verdict, see mart.drift_verdicts."),
            "reason": dg.Field(str, default_value="approved in Dagster", description="Why, for the registry."),
        },
    )
    def run_approval(context) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - Dagster reads annotations
        from pwflow_core.errors import PwflowError
        from pwflow_dagster.runs import approve_regime

        given = context.op_config
        try:
            keys, outcome = approve_regime(
                config,
                context.instance,
                given["verdict_id"],
                approved_by=decided_by(context.run),
                reason=given["reason"],
            )
        except PwflowError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        context.log.info(f"New regime {', '.join(keys)}: run {outcome.run_id}")
        if outcome.error is not None:
            raise dg.Failure(description=outcome.error, allow_retries=False)

    @dg.job(
        name=APPROVE_REGIME,
        executor_def=dg.in_process_executor,
        description=(
            "Answer a verdict of drift that proposes a new regime (name it as verdict_id in the launchpad): add the "
            "regime under a key of its own, train its flow alone, score, publish. The other regimes stay as they are."
        ),
    )
    def approve_regime_job() -> None:
        run_approval()

    return approve_regime_job
