"""Jobs: the whole path and its halves, the nightly scoring, the answer to drift, and what a person decides.

A Dagster run is for partitions that are known when it starts, and the regimes are not known before they are
learned. So the whole path is two runs: one that finds the regimes, and one over all of them.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from pwflow_core.config import PlantConfig
from pwflow_core.errors import PwflowError
from pwflow_dagster.names import (
    ACKNOWLEDGE_CASE,
    ANSWER_DRIFT,
    ANSWER_VERDICTS,
    APPROVE_REGIME,
    DELIVER_NOTICES,
    DISMISS,
    LEARN_REGIMES,
    MAINTAIN_WAREHOUSE,
    MARK_CASE,
    NIGHTLY_SCORING,
    PREVIOUS,
    PROMOTE_FLOW,
    RETRAIN_CLUSTER,
    ROLL_BACK_FLOW,
    SHELVE_CASE,
    TRAIN_AND_SCORE,
    UNDO_DECISION,
    WHOLE_PATH,
    asset_key,
)
from pwflow_dagster.pruning import build_pruning_job
from pwflow_dagster.resources import PlantResource
from pwflow_dagster.steps import decided_by

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

    from pwflow_core.pipeline.decisions.verdicts import Decider
    from pwflow_dagster.runs import Runner, RunOutcome

    _Runners = Callable[[dg.DagsterInstance], Runner]

__all__ = [
    "AnswerConfig",
    "ApprovalConfig",
    "CaseConfig",
    "DismissalConfig",
    "MarkConfig",
    "PromotionConfig",
    "RollbackConfig",
    "ShelveConfig",
    "build_jobs",
]

_INGEST = ("raw_readings", "readings")
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


_WHERE = "Open verdicts are in the last materialization of cluster_health, stretches in that of cluster_model."


class AnswerConfig(dg.Config):
    """Run configuration of `answer_drift`."""

    verdict_ids: list[str] = Field(description="The verdicts to answer, see mart.drift_verdicts.")
    given_up: list[str] = Field(default=[], description="Runs that took them on before, and ended without an answer.")


class ApprovalConfig(dg.Config):
    """Run configuration of `approve_regime`."""

    verdict_id: str = Field(description=f"The verdict, or the unusual stretch (U-…). {_WHERE}")
    reason: str = Field(default="approved in Dagster", description="Why, for the registry.")


class DismissalConfig(dg.Config):
    """Run configuration of `dismiss`."""

    verdict_id: str = Field(description=f"The verdict, or the unusual stretch (U-…). {_WHERE}")
    reason: str = Field(default="dismissed in Dagster", description="Why, for the record.")


_CASE = "The case, such as K-3f9a2c, or its first digits. Open ones are in the last materialization of cases."


class CaseConfig(dg.Config):
    """Run configuration of `acknowledge_case` and `undo_decision`."""

    case_id: str = Field(description=_CASE)
    reason: str = Field(default="decided in Dagster", description="Why, for the record.")


class ShelveConfig(dg.Config):
    """Run configuration of `shelve_case`."""

    case_id: str = Field(description=_CASE)
    until: str = Field(description="Until when, such as 2026-03-14 or 2026-03-14T06:00; of the plant's time zone.")
    reason: str = Field(default="shelved in Dagster", description="Why, for the record.")


class MarkConfig(dg.Config):
    """Run configuration of `mark_case`."""

    case_id: str = Field(description=_CASE)
    label: str = Field(description="What it was: fault, normal or known.")
    kind: str = Field(default="", description="Of a known cause: which, such as `filter change`.")
    reason: str = Field(default="marked in Dagster", description="Why, for the record.")


class PromotionConfig(dg.Config):
    """Run configuration of `promote_flow`."""

    cluster_key: str = Field(description="The regime, such as c0003.")
    flow_version: str = Field(description="The version or its first digits, see mart.flow_versions.")
    reason: str = Field(default="promoted in Dagster", description="Why, for the registry.")


class RollbackConfig(dg.Config):
    """Run configuration of `roll_back_flow`."""

    cluster_key: str = Field(description="The regime, such as c0003.")
    flow_version: str = Field(default=PREVIOUS, description=f"The version or its first digits, or `{PREVIOUS}`.")
    reason: str = Field(default="rolled back in Dagster", description="Why, for the registry.")


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
        return dg.define_asset_job(name, selection, description=description)

    def runner(instance: dg.DagsterInstance) -> "Runner":
        from pwflow_dagster.runs import Runner

        return Runner(config, instance, resolve)

    return [
        _whole_path(runner),
        _answer_drift(runner),
        _approve_regime(runner),
        _dismiss(PlantResource(config)),
        _deliver_notices(PlantResource(config)),
        build_pruning_job(config),
        _maintain_warehouse(PlantResource(config)),
        *_decide_about_cases(PlantResource(config)),
        _promote_flow(runner),
        _roll_back_flow(runner),
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
            "Ingest what is new, score it with the models in use, publish. Trains nothing.",
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


def _whole_path(runner: "_Runners") -> dg.JobDefinition:
    @dg.op(description="Starts the runs that the plant needs, one after the other, and waits for them.")
    def run_whole_path(context: dg.OpExecutionContext) -> None:
        from pwflow_dagster.runs import run_plant

        _follow(context, run_plant(runner(context.instance)))

    return _job_of(
        run_whole_path,
        WHOLE_PATH,
        "From files to published scores, with one click: ingest, find the regimes if there is anything to learn, train "
        "the flows that are missing, score, publish.",
    )


def _answer_drift(runner: "_Runners") -> dg.JobDefinition:
    @dg.op(
        name=ANSWER_VERDICTS,
        description="Retrains what moved, and only that, one run per group of regimes; or updates only the weights.",
    )
    def run_answers(context: dg.OpExecutionContext, config: AnswerConfig) -> None:
        from pwflow_core.pipeline.decisions.verdicts import Decider
        from pwflow_dagster.runs import answer_verdicts

        by = Decider(decided_by(context.run), context.run_id)
        outcomes = answer_verdicts(runner(context.instance), config.verdict_ids, by=by, given_up=config.given_up)
        _follow(context, outcomes)

    return _job_of(
        run_answers,
        ANSWER_DRIFT,
        "Answer verdicts on drift: train the flows of the regimes that moved, put each in use if it proves better, "
        "score those slices alone, derive what depends on them, publish. The drift sensor starts it; so can you, with "
        "the ids of verdicts from mart.drift_verdicts.",
    )


def _approve_regime(runner: "_Runners") -> dg.JobDefinition:
    @dg.op(description="Adds the regime that a verdict proposes, starts the run that learns it, and waits for it.")
    def run_approval(context: dg.OpExecutionContext, config: ApprovalConfig) -> None:
        from pwflow_dagster.runs import TOO_SHORT, approve_regime

        with _refusals():
            keys, outcome = approve_regime(
                runner(context.instance),
                config.verdict_id,
                approved_by=decided_by(context.run),
                reason=config.reason,
                run_id=context.run_id,
            )
        if outcome is None:
            context.log.info(f"{config.verdict_id}: normal. {TOO_SHORT}")
            return
        context.log.info(f"New regime {', '.join(keys)}")
        _follow(context, [outcome])

    return _job_of(
        run_approval,
        APPROVE_REGIME,
        "Answer a verdict of drift that proposes a new regime (its id goes into the launchpad; cluster_health and "
        "`pwflow status` list those that are open): add the regime under a key of its own, train its flow alone, "
        "score, publish. The other regimes stay as they are. Of an unusual stretch of the history (U-…, listed by "
        "cluster_model) it says that this is a normal way of running.",
    )


def _dismiss(plant: PlantResource) -> dg.JobDefinition:
    @dg.op(description="Records that a verdict is nothing to act on, or that an unusual stretch is a fault.")
    def run_dismissal(context: dg.OpExecutionContext, config: DismissalConfig) -> None:
        from pwflow_core.pipeline.decisions.dismissing import dismiss
        from pwflow_core.pipeline.decisions.verdicts import Decider

        by = Decider(decided_by(context.run), context.run_id)
        with _refusals():
            context.log.info(dismiss(plant.open(), config.verdict_id, by=by, reason=config.reason))

    return _job_of(
        run_dismissal,
        DISMISS,
        "Say that a verdict is neither a fault nor a lasting change (its id goes into the launchpad). Of an unusual "
        "stretch of the history (U-…) it says that it is a fault: nothing learns from it, and it is not asked about "
        "again.",
    )


def _deliver_notices(plant: PlantResource) -> dg.JobDefinition:
    @dg.op(description="Sends what is due to each target, and notes what did not arrive.")
    def run_delivery(context: dg.OpExecutionContext) -> None:
        from pwflow_dagster.assets.publication import tell_what_is_new

        context.add_output_metadata(tell_what_is_new(plant.open()))

    return _job_of(
        run_delivery,
        DELIVER_NOTICES,
        "Tell the targets of [notify] what the record has to tell and they were not told yet, and send again what did "
        "not arrive. The sensor notify starts it.",
    )


def _maintain_warehouse(plant: PlantResource) -> dg.JobDefinition:
    @dg.op(description="Puts small files together, and removes those that nobody reads any more.")
    def run_maintenance(context: dg.OpExecutionContext) -> None:
        opened = plant.open()
        with _refusals():
            done = opened.warehouse.maintain(opened.config.warehouse.keep_days)
        context.log.info(str(done) if done else "The warehouse is one DuckDB file, which needs no maintenance.")

    return _job_of(
        run_maintenance,
        MAINTAIN_WAREHOUSE,
        "Put the small files of a lake together, and remove what is older than warehouse.keep_days; once a week is "
        "enough. One DuckDB file needs none.",
    )


def _decide_about_cases(plant: PlantResource) -> list[dg.JobDefinition]:
    """Return the jobs by which a person decides about a case; what they say is published with the next run."""

    @dg.op(description="Records that somebody looks at a case.")
    def run_acknowledgement(context: dg.OpExecutionContext, config: CaseConfig) -> None:
        from pwflow_core.pipeline.cases.labels import acknowledge_case

        with _refusals():
            made = acknowledge_case(plant.open(), config.case_id, by=_decider(context), reason=config.reason)
        context.log.info(f"{made.case_id}: {made.state}. {made.summary}")

    @dg.op(description="Records that a case can wait.")
    def run_shelving(context: dg.OpExecutionContext, config: ShelveConfig) -> None:
        from pwflow_core.pipeline.cases.labels import read_until, shelve_case

        with _refusals():
            opened = plant.open()
            until = read_until(config.until, opened.config.schedule.timezone)
            made = shelve_case(opened, config.case_id, until=until, by=_decider(context), reason=config.reason)
        context.log.info(f"{made.case_id}: shelved until {made.shelved_until} UTC. {made.summary}")

    @dg.op(description="Records what a case was.")
    def run_marking(context: dg.OpExecutionContext, config: MarkConfig) -> None:
        from pwflow_core.pipeline.cases.labels import mark_case, read_label

        with _refusals():
            made = mark_case(
                plant.open(),
                config.case_id,
                read_label(config.label),
                kind=config.kind,
                by=_decider(context),
                reason=config.reason,
            )
        context.log.info(f"{made.case_id}: {made.label_kind or made.label}. {made.summary}")

    @dg.op(description="Takes back what was decided last about a case.")
    def run_undoing(context: dg.OpExecutionContext, config: CaseConfig) -> None:
        from pwflow_core.pipeline.cases.labels import undo_decision

        with _refusals():
            made = undo_decision(plant.open(), config.case_id, by=_decider(context), reason=config.reason)
        context.log.info(f"{made.case_id}: {made.state} again. {made.summary}")

    return [
        _job_of(
            run_acknowledgement,
            ACKNOWLEDGE_CASE,
            "Say that somebody looks at a case (its id goes into the launchpad; cases and `pwflow status` list those "
            "that are open). It closes by itself when its machines are normal again.",
        ),
        _job_of(
            run_shelving,
            SHELVE_CASE,
            "Put a case aside until a day or time; then it is open again, if it still goes on.",
        ),
        _job_of(
            run_marking,
            MARK_CASE,
            "Say what a case was: a fault, from which nothing learns; normal, which teaches and calibrates; or a known "
            "cause. It closes.",
        ),
        _job_of(
            run_undoing,
            UNDO_DECISION,
            "Take back what was decided last about a case: that it was seen, shelved or marked.",
        ),
    ]


def _decider(context: dg.OpExecutionContext) -> "Decider":
    from pwflow_core.pipeline.decisions.verdicts import Decider

    return Decider(decided_by(context.run), context.run_id)


def _promote_flow(runner: "_Runners") -> dg.JobDefinition:
    @dg.op(description="Starts the run that puts the flow in use, and waits for it.")
    def run_promotion(context: dg.OpExecutionContext, config: PromotionConfig) -> None:
        _switch_flow(context, runner, config, is_rollback=False)

    return _job_of(
        run_promotion,
        PROMOTE_FLOW,
        "Put a version of the flow of one regime in use (name both in the launchpad), score its slice again, derive "
        "what depends on it, publish. Trains nothing.",
    )


def _roll_back_flow(runner: "_Runners") -> dg.JobDefinition:
    @dg.op(description="Starts the run that puts the flow in use, and waits for it.")
    def run_rollback(context: dg.OpExecutionContext, config: RollbackConfig) -> None:
        _switch_flow(context, runner, config, is_rollback=True)

    return _job_of(
        run_rollback,
        ROLL_BACK_FLOW,
        "Return to the flow that one regime had before (name the regime in the launchpad), score its slice again, "
        "derive what depends on it, publish. Trains nothing.",
    )


def _job_of(op: dg.OpDefinition, name: str, description: str) -> dg.JobDefinition:
    """Return a job of one op, which starts others: the launchpad of a job of assets ignores its configuration."""

    @dg.job(name=name, executor_def=dg.in_process_executor, description=description)
    def job() -> None:
        op()

    return job


def _switch_flow(
    context: dg.OpExecutionContext,
    runner: "_Runners",
    config: PromotionConfig | RollbackConfig,
    *,
    is_rollback: bool,
) -> None:
    from pwflow_dagster.runs import switch_flow

    with _refusals():
        outcome = switch_flow(
            runner(context.instance),
            config.cluster_key,
            config.flow_version,
            is_rollback=is_rollback,
            decided_by=decided_by(context.run),
            reason=config.reason,
        )
    _follow(context, [outcome])


@contextmanager
def _refusals() -> Iterator[None]:
    """Show what the core refuses on purpose as one sentence instead of a traceback."""
    try:
        yield
    except PwflowError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error


def _follow(context: dg.OpExecutionContext, outcomes: "Iterable[RunOutcome]") -> None:
    """Log the runs that an op starts, all of them; fail if one did."""
    errors = []
    for outcome in outcomes:
        context.log.info(f"{outcome.job}: run {outcome.run_id} {'failed' if outcome.error else 'succeeded'}")
        if outcome.error is not None:
            errors.append(outcome.error)
    if errors:
        raise dg.Failure(description=" ".join(errors), allow_retries=False)
