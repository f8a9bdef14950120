"""Undoing: the last thing that a person decided about a case, a verdict or an unusual stretch is taken back."""

from __future__ import annotations

from pwflow_core.pipeline.cases.labels import undo_decision
from pwflow_core.pipeline.decisions.verdicts import Decider, restore_verdict
from pwflow_core.pipeline.readings.recurrence import is_stretch_id, reopen_stretch
from pwflow_core.plant import Plant
from pwflow_core.warehouse import fetch_value

__all__ = ["undo"]


def undo(plant: Plant, finding_id: str, *, by: Decider, reason: str = "") -> str:
    """Take back what a person decided last about a case, a verdict or a stretch (U-…); return what holds now.

    Raises:
        UnknownCaseError: Nothing has this id.
        CaseStateError: Nobody decided about the case, or that is undone already.
        VerdictStatusError: The verdict was not dismissed.
        UnknownStretchError: No stretch has this id.
        RegimeError: Nobody decided about the stretch, or a regime was added for it.
    """
    if is_stretch_id(finding_id):
        stretch = reopen_stretch(plant, finding_id, decided_by=by.name, reason=reason, run_id=by.run_id)
        when = f"{stretch.started_at:%Y-%m-%d %H:%M} to {stretch.ended_at:%Y-%m-%d %H:%M} UTC"
        return f"{finding_id}: open again. {stretch.machine_id}, {when}: nothing learns from it until somebody decides."
    with plant.warehouse.snapshot() as connection:
        is_verdict = fetch_value(
            connection, "SELECT count(*) FROM mart.drift_verdicts WHERE verdict_id = ?", [finding_id]
        )
    if is_verdict:
        verdict = restore_verdict(plant, finding_id, by=by, reason=reason)
        return f"{finding_id}: {verdict.status} again. {verdict.summary}"
    made = undo_decision(plant, finding_id, by=by, reason=reason)
    return f"{made.case_id}: {made.state} again. {made.summary}"
