"""What a person decides, as jobs for the launchpad: it shows the whole form, with all that has a default filled in.

An id that is left empty stands for the only one that waits; where several do, the refusal lists them.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from pwflow_core.errors import UnknownVerdictError
from pwflow_dagster.names import (
    ACKNOWLEDGE_CASE,
    APPROVE_REGIME,
    DISMISS,
    MARK_CASE,
    NAME_REGIME,
    PREVIOUS,
    PROMOTE_FLOW,
    ROLL_BACK_FLOW,
    SHELVE_CASE,
    UNDO_DECISION,
)
from pwflow_dagster.op_jobs import Runners, follow, job_of, refusals
from pwflow_dagster.resources import PlantResource
from pwflow_dagster.steps import decided_by, decider

if TYPE_CHECKING:
    from pwflow_core.plant import Plant

__all__ = [
    "ApprovalConfig",
    "CaseConfig",
    "DismissalConfig",
    "MarkConfig",
    "NameConfig",
    "PromotionConfig",
    "RollbackConfig",
    "ShelveConfig",
    "UndoConfig",
    "build_decisions",
]

_WHERE = (
    "Open verdicts are in the last materialization of cluster_health, stretches in that of cluster_model; "
    "empty: the only one that waits."
)


class ApprovalConfig(dg.Config):
    """Run configuration of `approve_regime`."""

    verdict_id: str = Field(default="", description=f"The verdict, or the unusual stretch (U-…). {_WHERE}")
    reason: str = Field(default="approved in Dagster", description="Why, for the registry.")


class DismissalConfig(dg.Config):
    """Run configuration of `dismiss`."""

    verdict_id: str = Field(default="", description=f"The verdict, or the unusual stretch (U-…). {_WHERE}")
    reason: str = Field(default="dismissed in Dagster", description="Why, for the record.")


_CASE = (
    "The case, such as K-3f9a2c, or its first digits. Those to decide are in the last materialization of cases; "
    "empty: the only one."
)


class CaseConfig(dg.Config):
    """Run configuration of `acknowledge_case`."""

    case_id: str = Field(default="", description=_CASE)
    reason: str = Field(default="decided in Dagster", description="Why, for the record.")


class UndoConfig(dg.Config):
    """Run configuration of `undo_decision`."""

    finding_id: str = Field(
        default="", description="The case (K-…), the verdict that was dismissed, or the stretch (U-…)."
    )
    reason: str = Field(default="undone in Dagster", description="Why, for the record.")


class NameConfig(dg.Config):
    """Run configuration of `name_regime`."""

    cluster_key: str = Field(default="", description="The regime, such as c0003.")
    name: str = Field(default="", description="What it is called, such as `roughing, B`; empty takes the name away.")
    reason: str = Field(default="named in Dagster", description="Why, for the record.")


class ShelveConfig(dg.Config):
    """Run configuration of `shelve_case`."""

    case_id: str = Field(default="", description=_CASE)
    until: str = Field(
        default="", description="Until when, such as 2026-03-14 or 2026-03-14T06:00; of the plant's time zone."
    )
    reason: str = Field(default="shelved in Dagster", description="Why, for the record.")


class MarkConfig(dg.Config):
    """Run configuration of `mark_case`."""

    case_id: str = Field(default="", description=_CASE)
    label: str = Field(default="", description="What it was: fault, normal or known.")
    kind: str = Field(default="", description="Of a known cause: which, such as `filter change`.")
    reason: str = Field(default="marked in Dagster", description="Why, for the record.")


class PromotionConfig(dg.Config):
    """Run configuration of `promote_flow`."""

    cluster_key: str = Field(default="", description="The regime, such as c0003.")
    flow_version: str = Field(default="", description="The version or its first digits, see mart.flow_versions.")
    reason: str = Field(default="promoted in Dagster", description="Why, for the registry.")


class RollbackConfig(dg.Config):
    """Run configuration of `roll_back_flow`."""

    cluster_key: str = Field(default="", description="The regime, such as c0003.")
    flow_version: str = Field(default=PREVIOUS, description=f"The version or its first digits, or `{PREVIOUS}`.")
    reason: str = Field(default="rolled back in Dagster", description="Why, for the registry.")


def build_decisions(plant: PlantResource, runner: Runners) -> list[dg.JobDefinition]:
    """Return the jobs by which a person decides.

    Arguments:
        plant: The plant.
        runner: Returns what runs its other jobs.
    """
    return [
        _approve_regime(plant, runner),
        _dismiss(plant),
        *_decide_about_cases(plant),
        _undo(plant),
        _name_regime(plant),
        _promote_flow(plant, runner),
        _roll_back_flow(plant, runner),
    ]


def _approve_regime(plant: PlantResource, runner: Runners) -> dg.JobDefinition:
    @dg.op(description="Adds the regime that a verdict proposes, starts the run that learns it, and waits for it.")
    def run_approval(context: dg.OpExecutionContext, config: ApprovalConfig) -> None:
        from pwflow_dagster.runs import TOO_SHORT, approve_regime

        with refusals():
            keys, outcome = approve_regime(
                runner(context),
                config.verdict_id or _only(_proposals(plant.open()), "verdict_id"),
                approved_by=decided_by(context.run),
                reason=config.reason,
                run_id=context.run_id,
            )
        if outcome is None:
            context.log.info(f"{config.verdict_id}: normal. {TOO_SHORT}")
            return
        context.log.info(f"New regime {', '.join(keys)}")
        follow(context, [outcome])

    return job_of(
        run_approval,
        plant.config.plant.name,
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

        with refusals():
            opened = plant.open()
            verdict_id = config.verdict_id or _only(_findings(opened), "verdict_id")
            context.log.info(dismiss(opened, verdict_id, by=decider(context.run), reason=config.reason))

    return job_of(
        run_dismissal,
        plant.config.plant.name,
        DISMISS,
        "Say that a verdict is neither a fault nor a lasting change (its id goes into the launchpad). Of an unusual "
        "stretch of the history (U-…) it says that it is a fault: nothing learns from it, and it is not asked about "
        "again.",
    )


def _decide_about_cases(plant: PlantResource) -> list[dg.JobDefinition]:
    """Return the jobs by which a person decides about a case; what they say is published with the next run."""

    @dg.op(description="Records that somebody looks at a case.")
    def run_acknowledgement(context: dg.OpExecutionContext, config: CaseConfig) -> None:
        from pwflow_core.pipeline.cases.labels import acknowledge_case

        with refusals():
            opened = plant.open()
            made = acknowledge_case(opened, _case_id(opened, config), by=decider(context.run), reason=config.reason)
        context.log.info(f"{made.case_id}: {made.state}. {made.summary}")

    @dg.op(description="Records that a case can wait.")
    def run_shelving(context: dg.OpExecutionContext, config: ShelveConfig) -> None:
        from pwflow_core.pipeline.cases.labels import read_until, shelve_case

        with refusals():
            opened = plant.open()
            until = read_until(config.until, opened.config.schedule.timezone)
            made = shelve_case(
                opened, _case_id(opened, config), until=until, by=decider(context.run), reason=config.reason
            )
        context.log.info(f"{made.case_id}: shelved until {made.shelved_until} UTC. {made.summary}")

    @dg.op(description="Records what a case was.")
    def run_marking(context: dg.OpExecutionContext, config: MarkConfig) -> None:
        from pwflow_core.pipeline.cases.labels import mark_case, read_label

        with refusals():
            opened = plant.open()
            made = mark_case(
                opened,
                _case_id(opened, config),
                read_label(config.label),
                kind=config.kind,
                by=decider(context.run),
                reason=config.reason,
            )
        context.log.info(f"{made.case_id}: {made.label_kind or made.label}. {made.summary}")

    return [
        job_of(
            run_acknowledgement,
            plant.config.plant.name,
            ACKNOWLEDGE_CASE,
            "Say that somebody looks at a case (its id goes into the launchpad; cases and `pwflow status` list those "
            "that are open). It closes by itself when its machines are normal again.",
        ),
        job_of(
            run_shelving,
            plant.config.plant.name,
            SHELVE_CASE,
            "Put a case aside until a day or time; then it is open again, if it still goes on.",
        ),
        job_of(
            run_marking,
            plant.config.plant.name,
            MARK_CASE,
            "Say what a case was: a fault, from which nothing learns; normal, which teaches and calibrates; or a known "
            "cause. It closes.",
        ),
    ]


def _undo(plant: PlantResource) -> dg.JobDefinition:
    @dg.op(description="Takes back what was decided last about a case, a verdict or a stretch.")
    def run_undoing(context: dg.OpExecutionContext, config: UndoConfig) -> None:
        from pwflow_core.pipeline.cases.undoing import undo

        with refusals():
            context.log.info(undo(plant.open(), config.finding_id, by=decider(context.run), reason=config.reason))

    return job_of(
        run_undoing,
        plant.config.plant.name,
        UNDO_DECISION,
        "Take back what was decided last: that a case was seen, shelved or marked, that a verdict was dismissed, or "
        "what was said of an unusual stretch (U-…).",
    )


def _name_regime(plant: PlantResource) -> dg.JobDefinition:
    @dg.op(description="Records what people call a regime.")
    def run_naming(context: dg.OpExecutionContext, config: NameConfig) -> None:
        from pwflow_core.pipeline.regimes.naming import name_regime

        with refusals():
            made = name_regime(
                plant.open(), config.cluster_key, config.name, by=decider(context.run), reason=config.reason
            )
        context.log.info(f"{made.cluster_key}: {made.name or 'no name'}")

    return job_of(
        run_naming,
        plant.config.plant.name,
        NAME_REGIME,
        "Give a regime a name of your own (its key and the name go into the launchpad). It is shown beside the key, in "
        "the published tables and the report with the next run.",
    )


def _proposals(plant: "Plant") -> dict[str, str]:
    """Return what proposes a regime, by id: verdicts and stretches of the history."""
    from pwflow_core.pipeline.decisions.kinds import kinds_where
    from pwflow_core.pipeline.decisions.verdicts import open_verdicts
    from pwflow_core.pipeline.readings.recurrence import open_stretches

    with plant.warehouse.snapshot() as connection:
        verdicts = [verdict for verdict in open_verdicts(connection) if verdict.verdict in kinds_where("is_proposal")]
        stretches = open_stretches(connection)
    return {verdict.verdict_id: verdict.summary for verdict in verdicts} | {
        stretch.stretch_id: f"{stretch.machine_id} from {stretch.started_at:%Y-%m-%d %H:%M} UTC"
        for stretch in stretches
    }


def _findings(plant: "Plant") -> dict[str, str]:
    """Return what can be dismissed, by id: verdicts that wait, and stretches of the history."""
    from pwflow_core.pipeline.decisions.verdicts import open_verdicts

    with plant.warehouse.snapshot() as connection:
        waiting = {verdict.verdict_id: verdict.summary for verdict in open_verdicts(connection)}
    return waiting | _proposals(plant)


def _case_id(plant: "Plant", config: CaseConfig | ShelveConfig | MarkConfig) -> str:
    """Return the id of the case that is meant: the one that was given, else the only one to decide."""
    if config.case_id:
        return config.case_id
    from pwflow_core.pipeline.cases.view import read_cases

    with plant.warehouse.snapshot() as connection:
        view = read_cases(connection, plant.config.schedule.timezone, most=0)
    return _only({case.case_id: case.summary for case in view.to_decide}, "case_id")


def _only(waiting: Mapping[str, str], field: str) -> str:
    """Return the id of the only thing that waits.

    Raises:
        UnknownVerdictError: None waits, or several do.
    """
    if len(waiting) == 1:
        return next(iter(waiting))
    listed = "; ".join(f"{name}: {said}" for name, said in list(waiting.items())[:10])
    raise UnknownVerdictError(
        f"Expected {field} to say which of {len(waiting)} is meant ({listed}), got nothing: put one of these ids there."
        if waiting
        else f"Nothing waits for this decision: give {field} to decide about something else."
    )


def _promote_flow(plant: PlantResource, runner: Runners) -> dg.JobDefinition:
    @dg.op(description="Starts the run that puts the flow in use, and waits for it.")
    def run_promotion(context: dg.OpExecutionContext, config: PromotionConfig) -> None:
        _switch_flow(context, runner, config, is_rollback=False)

    return job_of(
        run_promotion,
        plant.config.plant.name,
        PROMOTE_FLOW,
        "Put a version of the flow of one regime in use (name both in the launchpad), score its slice again, derive "
        "what depends on it, publish. Trains nothing.",
    )


def _roll_back_flow(plant: PlantResource, runner: Runners) -> dg.JobDefinition:
    @dg.op(description="Starts the run that puts the flow in use, and waits for it.")
    def run_rollback(context: dg.OpExecutionContext, config: RollbackConfig) -> None:
        _switch_flow(context, runner, config, is_rollback=True)

    return job_of(
        run_rollback,
        plant.config.plant.name,
        ROLL_BACK_FLOW,
        "Return to the flow that one regime had before (name the regime in the launchpad), score its slice again, "
        "derive what depends on it, publish. Trains nothing.",
    )


def _switch_flow(
    context: dg.OpExecutionContext,
    runner: Runners,
    config: PromotionConfig | RollbackConfig,
    *,
    is_rollback: bool,
) -> None:
    from pwflow_dagster.runs import switch_flow

    with refusals():
        outcome = switch_flow(
            runner(context),
            config.cluster_key,
            config.flow_version,
            is_rollback=is_rollback,
            decided_by=decided_by(context.run),
            reason=config.reason,
        )
    follow(context, [outcome])
