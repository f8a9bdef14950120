"""Jobs: the whole path and its halves, the nightly scoring, the answer to drift, and what a person decides.

A Dagster run is for partitions that are known when it starts, and the regimes are not known before they are
learned. So the whole path is two runs: one that finds the regimes, and one over all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import dagster as dg

from pwflow_core.config import PlantConfig
from pwflow_dagster.names import (
    ANSWER_DRIFT,
    ANSWER_VERDICTS,
    APPROVE_REGIME,
    LEARN_REGIMES,
    NIGHTLY_SCORING,
    PREVIOUS,
    PROMOTE_FLOW,
    RETRAIN_CLUSTER,
    ROLL_BACK_FLOW,
    TRAIN_AND_SCORE,
    WHOLE_PATH,
    asset_key,
)
from pwflow_dagster.steps import decided_by

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

    from pwflow_dagster.runs import Runner, RunOutcome

    _Runners = Callable[[dg.DagsterInstance], Runner]

__all__ = ["build_jobs"]

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


def build_jobs(
    config: PlantConfig, resolve: Callable[[str], dg.JobDefinition]
) -> list[dg.JobDefinition | UnresolvedAssetJobDefinition]:
    """Return the jobs of a plant.

    Arguments:
        config: The configuration of the plant.
        resolve: Returns a job of its definitions by its name, for those that start others.
    """

    def job(name: str, description: str, *assets: str) -> UnresolvedAssetJobDefinition:
        selection = dg.AssetSelection.assets(*(asset_key(config.plant.name, asset) for asset in assets))
        return dg.define_asset_job(name, selection, description=description)

    def runner(instance: dg.DagsterInstance) -> Runner:
        from pwflow_dagster.runs import Runner

        return Runner(config, instance, resolve)

    return [
        _whole_path(runner),
        _answer_drift(runner),
        _approve_regime(runner),
        _switch_flow(
            runner,
            PROMOTE_FLOW,
            dg.Field(str, description="The version or its first digits, see mart.flow_versions."),
            description=(
                "Put a version of the flow of one regime in force (name both in the launchpad), score its slice again, "
                "derive what depends on it, publish. Trains nothing."
            ),
        ),
        _switch_flow(
            runner,
            ROLL_BACK_FLOW,
            dg.Field(str, default_value=PREVIOUS, description=f"The version or its first digits, or `{PREVIOUS}`."),
            description=(
                "Return to the flow that one regime had before (name the regime in the launchpad), score its slice "
                "again, derive what depends on it, publish. Trains nothing."
            ),
        ),
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
            "Train the flow of one regime, score its slice again, derive what depends on it, publish. Also what "
            "promote_flow and roll_back_flow start, with a flow that there is already.",
            "cluster_flow",
            *_SCORE,
        ),
    ]


def _whole_path(runner: _Runners) -> dg.JobDefinition:
    @dg.op(description="Starts the runs that the plant needs, one after the other, and waits for them.")
    def run_whole_path(context) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - Dagster reads annotations
        from pwflow_dagster.runs import run_plant

        _follow(context, run_plant(runner(context.instance)))

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


def _answer_drift(runner: _Runners) -> dg.JobDefinition:
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
        from pwflow_core.pipeline.decisions.verdicts import Decider
        from pwflow_dagster.runs import answer_verdicts

        given = context.op_config
        _follow(
            context,
            answer_verdicts(
                runner(context.instance),
                given["verdict_ids"],
                by=Decider(decided_by(context.run), context.run_id),
                given_up=given["given_up"],
            ),
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


def _approve_regime(runner: _Runners) -> dg.JobDefinition:
    @dg.op(
        description="Adds the regime that a verdict proposes, starts the run that learns it, and waits for it.",
        config_schema={
            "verdict_id": dg.Field(
                str, description="The verdict: those that are open stand in the last materialization of cluster_health."
            ),
            "reason": dg.Field(str, default_value="approved in Dagster", description="Why, for the registry."),
        },
    )
    def run_approval(context) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - Dagster reads annotations
        from pwflow_core.errors import PwflowError
        from pwflow_dagster.runs import approve_regime

        given = context.op_config
        try:
            keys, outcome = approve_regime(
                runner(context.instance),
                given["verdict_id"],
                approved_by=decided_by(context.run),
                reason=given["reason"],
                run_id=context.run_id,
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
            "Answer a verdict of drift that proposes a new regime (its id goes into the launchpad; cluster_health and "
            "`pwflow status` list those that are open): add the regime under a key of its own, train its flow alone, "
            "score, publish. The other regimes stay as they are."
        ),
    )
    def approve_regime_job() -> None:
        run_approval()

    return approve_regime_job


def _switch_flow(runner: _Runners, name: str, flow_version: dg.Field, *, description: str) -> dg.JobDefinition:
    """Return a job of one op that puts a flow in force; the launchpad of a job of assets ignores its configuration."""
    is_rollback = name == ROLL_BACK_FLOW
    reason = "rolled back in Dagster" if is_rollback else "promoted in Dagster"

    @dg.op(
        name="run_rollback" if is_rollback else "run_promotion",
        description="Starts the run that puts the flow in force, and waits for it.",
        config_schema={
            "cluster_key": dg.Field(str, description="The regime, such as c0003."),
            "flow_version": flow_version,
            "reason": dg.Field(str, default_value=reason, description="Why, for the registry."),
        },
    )
    def run_switch(context) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - Dagster reads annotations
        from pwflow_core.errors import PwflowError
        from pwflow_dagster.runs import switch_flow

        given = context.op_config
        try:
            outcome = switch_flow(
                runner(context.instance),
                given["cluster_key"],
                given["flow_version"],
                is_rollback=is_rollback,
                decided_by=decided_by(context.run),
                reason=given["reason"],
            )
        except PwflowError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        _follow(context, [outcome])

    @dg.job(name=name, executor_def=dg.in_process_executor, description=description)
    def switch_job() -> None:
        run_switch()

    return switch_job
