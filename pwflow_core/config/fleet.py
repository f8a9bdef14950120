"""What machines of one plant have of their own: the section `[fleet]`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pwflow_core.config.base import Section

__all__ = ["FleetConfig"]


class FleetConfig(Section):
    """How machines that differ a little share the flows of their regimes."""

    correct_machines: bool = True
    """Whether location and scale of each machine are taken out before the shared flow, in regimes where that makes
    readings more probable. It takes effect for a regime when its flow is trained."""
    min_machines: Annotated[int, Field(ge=3)] = 5
    """Fewer machines in a regime are no fleet: all are judged as they are."""
    first_days: Annotated[float, Field(gt=0, le=90)] = 3.0
    """Days of a new machine that its correction is learned from; then it stays as it is."""
