"""Commands by which a person decides: about verdicts on drift, about regimes, about flows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pwflow_core.config import PlantConfig
from pwflow_core.demo import configuration_in_force
from pwflow_dagster.cli.options import check_outcome, config_option, json_option, reason_option, user
from pwflow_dagster.cli.printing import echo_json, echo_text
from pwflow_dagster.cli.progress import shown_runs

if TYPE_CHECKING:
    from pwflow_core.pipeline.cases.labels import Decision
    from pwflow_core.pipeline.flows.registry import FlowDecision

__all__ = ["COMMANDS"]


@click.command()
@click.argument("verdict_id")
@config_option
@json_option
def answer(verdict_id: str, config_file: Path | None, as_json: bool) -> None:
    """Answer a verdict on drift: retrain what moved.

    `pwflow status` shows the VERDICT_ID. Only the regimes that moved are trained again; each new flow is used if it
    describes recent readings better. If only their shares moved, the weights are updated and nothing is trained.
    """
    from pwflow_core.pipeline.decisions.verdicts import find_verdict
    from pwflow_core.pipeline.flows.registry import last_decision
    from pwflow_core.plant import Plant
    from pwflow_dagster.runs import answer_verdict

    config = configuration_in_force(config_file)
    with shown_runs(config) as runner:
        outcome = answer_verdict(runner, verdict_id)
    check_outcome(outcome)
    plant = Plant.open(config)
    verdict = find_verdict(plant, verdict_id)
    is_refit = verdict.answer == "retrain"
    decisions = [last_decision(plant, key) for key in verdict.cluster_keys] if is_refit else []
    if as_json:
        echo_json({"verdict": verdict, "decisions": decisions, "published": config.published_path})
        return
    for decision in decisions:
        echo_text(_describe(decision))
    if not is_refit:
        click.echo(f"{', '.join(verdict.cluster_keys)}: only the weights were updated.")
    click.echo(f"Scored again and published to {config.published_path}.")


@click.command()
@click.argument("verdict_id")
@config_option
@reason_option
@json_option
def dismiss(verdict_id: str, config_file: Path | None, reason: str, as_json: bool) -> None:
    """Say that a verdict is neither a fault nor a lasting change.

    `pwflow status` shows the VERDICT_ID. Training uses the readings of a suspected machine again; the same verdict is
    not raised again for thirty nights. Of an unusual stretch of the history (U-…) this says that it is a fault: nothing
    learns from it, and it is not asked about again.
    """
    from pwflow_core.pipeline.decisions.dismissing import dismiss as dismiss_finding
    from pwflow_core.pipeline.decisions.verdicts import Decider
    from pwflow_core.plant import Plant

    plant = Plant.open(configuration_in_force(config_file))
    said = dismiss_finding(plant, verdict_id, by=Decider(user()), reason=reason)
    if as_json:
        echo_json({"id": verdict_id, "result": said})
    else:
        echo_text(f"{said} `pwflow undo {verdict_id}` takes that back.")


@click.command()
@click.argument("finding_id", metavar="ID")
@config_option
@reason_option
@json_option
def undo(finding_id: str, config_file: Path | None, reason: str, as_json: bool) -> None:
    """Take back what was decided last.

    ID is that of a case (K-…) that was marked, acknowledged or shelved, of a verdict that was dismissed, or of a
    stretch of the history (U-…). It is then as it was before.
    """
    from pwflow_core.pipeline.cases.undoing import undo as undo_finding
    from pwflow_core.pipeline.decisions.verdicts import Decider
    from pwflow_core.plant import Plant

    plant = Plant.open(configuration_in_force(config_file))
    said = undo_finding(plant, finding_id, by=Decider(user()), reason=reason)
    if as_json:
        echo_json({"id": finding_id, "result": said})
    else:
        echo_text(said)


@click.command()
@click.argument("verdict_id")
@config_option
@reason_option
@json_option
def approve(verdict_id: str, config_file: Path | None, reason: str, as_json: bool) -> None:
    """Add the new regime that a verdict proposes.

    `pwflow status` shows the VERDICT_ID. The regime gets a key of its own and is trained alone. Of an unusual stretch
    of the history (U-…) this says that it is normal: it gets a regime of its own or, if it is too short for one, the
    next `pwflow run` learns from it together with the rest.
    """
    from pwflow_dagster.runs import TOO_SHORT, approve_regime

    config = configuration_in_force(config_file)
    with shown_runs(config) as runner:
        keys, outcome = approve_regime(runner, verdict_id, approved_by=user(), reason=reason)
    if outcome is not None:
        check_outcome(outcome)
    if as_json:
        echo_json({"id": verdict_id, "regimes": keys, "published": None if outcome is None else config.published_path})
    elif outcome is None:
        echo_text(f"{verdict_id}: normal. {TOO_SHORT}")
    else:
        echo_text(f"New regime {', '.join(keys)}: learned, scored and published to {config.published_path}.")


@click.command()
@click.argument("case_id", metavar="CASE")
@click.option("--fault", "is_fault", is_flag=True, help="It was a fault: nothing learns from its readings.")
@click.option("--normal", "is_normal", is_flag=True, help="It was normal: its readings teach and calibrate.")
@click.option("--known", metavar="KIND", help="A cause that you know, such as 'filter change'.")
@click.option("--undo", is_flag=True, help="Take back what was decided last about the case.")
@config_option
@reason_option
@json_option
def mark(
    case_id: str,
    is_fault: bool,
    is_normal: bool,
    known: str | None,
    undo: bool,
    config_file: Path | None,
    reason: str,
    as_json: bool,
) -> None:
    """Say what a case was: a fault, normal, or a known cause.

    `pwflow cases` lists the CASEs; the first digits suffice, or the id of one of its events (E-…). The case closes.
    A fault that comes back opens it again; what is normal or known is not told again.
    """
    from pwflow_core.pipeline.cases.labels import mark_case, read_label, undo_decision
    from pwflow_core.pipeline.decisions.verdicts import Decider
    from pwflow_core.plant import Plant

    if sum((is_fault, is_normal, known is not None, undo)) != 1:
        raise click.UsageError("Give one of --fault, --normal, --known KIND and --undo.")
    plant, by = Plant.open(configuration_in_force(config_file)), Decider(user())
    if undo:
        made = undo_decision(plant, case_id, by=by, reason=reason)
    else:
        label = read_label("fault" if is_fault else "normal" if is_normal else "known")
        made = mark_case(plant, case_id, label, kind=known, by=by, reason=reason)
    _show_decision(made, as_json=as_json)


@click.command()
@click.argument("case_id", metavar="CASE")
@config_option
@reason_option
@json_option
def acknowledge(case_id: str, config_file: Path | None, reason: str, as_json: bool) -> None:
    """Say that somebody looks at a case; it closes by itself."""
    from pwflow_core.pipeline.cases.labels import acknowledge_case
    from pwflow_core.pipeline.decisions.verdicts import Decider
    from pwflow_core.plant import Plant

    plant = Plant.open(configuration_in_force(config_file))
    _show_decision(acknowledge_case(plant, case_id, by=Decider(user()), reason=reason), as_json=as_json)


@click.command()
@click.argument("case_id", metavar="CASE")
@click.argument("until")
@config_option
@reason_option
@json_option
def shelve(case_id: str, until: str, config_file: Path | None, reason: str, as_json: bool) -> None:
    """Put a case aside until a day or time.

    UNTIL is a day or time of the record of readings, such as 2026-03-14 or 2026-03-14T06:00, in the time zone of the
    schedule. Then the case is open again, if it still goes on.
    """
    from pwflow_core.pipeline.cases.labels import read_until, shelve_case
    from pwflow_core.pipeline.decisions.verdicts import Decider
    from pwflow_core.plant import Plant

    plant = Plant.open(configuration_in_force(config_file))
    end = read_until(until, plant.config.schedule.timezone)
    _show_decision(shelve_case(plant, case_id, until=end, by=Decider(user()), reason=reason), as_json=as_json)


@click.command(deprecated="`pwflow mark CASE --normal` says it of a whole case.")
@click.argument("event_id", metavar="EVENT")
@config_option
@json_option
def confirm(event_id: str, config_file: Path | None, as_json: bool) -> None:
    """Say that an event is normal, so that refits learn from it.

    `pwflow events` lists the EVENTs; the first digits suffice.
    """
    from pwflow_core.pipeline.decisions.confirmations import confirm_event
    from pwflow_core.plant import Plant

    made = confirm_event(Plant.open(configuration_in_force(config_file)), event_id, confirmed_by=user())
    if as_json:
        echo_json({"event": made})
        return
    click.echo(
        f"{made.machine_id}, {made.started_at:%Y-%m-%d %H:%M} to {made.ended_at:%Y-%m-%d %H:%M}: normal. "
        "The next refit of the regime after drift may learn from it."
    )


@click.command()
@click.argument("cluster")
@click.argument("version")
@config_option
@reason_option
@json_option
def promote(cluster: str, version: str, config_file: Path | None, reason: str, as_json: bool) -> None:
    """Put a flow of a regime in use, score that regime again.

    The first digits of VERSION suffice; mart.flow_versions lists them.
    """
    _switch_flow(
        configuration_in_force(config_file), cluster, version, is_rollback=False, reason=reason, as_json=as_json
    )


@click.command()
@click.argument("cluster")
@click.argument("version", required=False)
@config_option
@reason_option
@json_option
def rollback(cluster: str, version: str | None, config_file: Path | None, reason: str, as_json: bool) -> None:
    """Return to the flow that a regime had before, or to VERSION."""
    _switch_flow(
        configuration_in_force(config_file), cluster, version, is_rollback=True, reason=reason, as_json=as_json
    )


COMMANDS = (mark, acknowledge, shelve, answer, dismiss, approve, undo, confirm, promote, rollback)


_SAID = {
    "fault": "a fault. Nothing learns from its readings.",
    "normal": "normal. The next training and calibration use its readings.",
}


def _show_decision(made: Decision, *, as_json: bool) -> None:
    if as_json:
        echo_json({"case": made})
        return
    if made.label is not None and made.state == "closed":
        said = _SAID.get(made.label, f"known: {made.label_kind}.")
    elif made.shelved_until is not None:
        said = f"shelved until {made.shelved_until:%Y-%m-%d %H:%M} UTC."
    else:
        said = f"{made.state}."
    echo_text(f"{made.case_id}: {said} {made.summary}")


def _describe(decision: FlowDecision) -> str:
    version, before = decision.flow_version[:12], (decision.previous_version or "none")[:12]
    if decision.decision == "refused":
        made = f"the new flow {version}… is refused, {before}… stays in use: {decision.reason.removesuffix('.')}"
    else:
        made = f"flow {version}… is in use instead of {before}…"
        if decision.gain_recent is not None:
            fit = "better" if decision.gain_recent > 0 else "worse"
            gain = f"{decision.n_recent:,} readings, {decision.gain_recent:+.2f} nats per reading"
            made += f"; it fits recent readings {fit} ({gain})"
    return f"{decision.cluster_key}: {made}."


def _switch_flow(
    config: PlantConfig, cluster: str, version: str | None, *, is_rollback: bool, reason: str, as_json: bool
) -> None:
    from pwflow_core.pipeline.flows.registry import last_decision
    from pwflow_core.plant import Plant
    from pwflow_dagster.runs import switch_flow

    with shown_runs(config) as runner:
        outcome = switch_flow(
            runner,
            cluster,
            version,
            is_rollback=is_rollback,
            decided_by=user(),
            reason=reason or f"pwflow {'rollback' if is_rollback else 'promote'}",
        )
    check_outcome(outcome)
    made = last_decision(Plant.open(config), cluster)
    if as_json:
        echo_json({"decision": made, "published": config.published_path})
        return
    echo_text(f"{_describe(made)} Its readings were scored again and published to {config.published_path}.")
