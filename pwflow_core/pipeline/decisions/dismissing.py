"""Dismissing: a person says of a verdict that it is nothing to act on, or of an unusual stretch that it is a fault."""

from __future__ import annotations

from pwflow_core.pipeline.decisions.verdicts import Decider, dismiss_verdict
from pwflow_core.pipeline.readings.recurrence import decide_stretch, is_stretch_id
from pwflow_core.plant import Plant

__all__ = ["dismiss"]


def dismiss(plant: Plant, finding_id: str, *, by: Decider, reason: str = "") -> str:
    """Dismiss a verdict, or call an unusual stretch of the history (U-…) a fault; return what was done, as a sentence.

    Raises:
        UnknownVerdictError: No verdict has this id.
        VerdictStatusError: The verdict has been answered or dismissed already, or a run is answering it.
        UnknownStretchError: No stretch has this id.
    """
    if is_stretch_id(finding_id):
        stretch = decide_stretch(
            plant, finding_id, is_normal=False, decided_by=by.name, reason=reason, run_id=by.run_id
        )
        when = f"{stretch.started_at:%Y-%m-%d %H:%M} to {stretch.ended_at:%Y-%m-%d %H:%M} UTC"
        return f"{stretch.machine_id}, {when}: a fault. Nothing learns from it."
    return f"Dismissed: {dismiss_verdict(plant, finding_id, by=by, reason=reason).summary}"
