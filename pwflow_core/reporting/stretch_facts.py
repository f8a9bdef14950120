"""What the report shows of the unusual stretches of the history: the sensors that stand out, over time around each."""

from __future__ import annotations

from dataclasses import dataclass

from pwflow_core.plant import Plant
from pwflow_core.reporting.drawing.signals import Trace
from pwflow_core.reporting.event_facts import read_traces
from pwflow_core.reporting.facts import PlantFacts

__all__ = ["StretchFacts", "read_stretches"]

_MOST_STRETCHES = 8
_MOST_SIGNALS = 3


@dataclass(frozen=True, eq=False)
class StretchFacts:
    """Around one stretch: the anomaly score, and what the sensors read that stand out, the most first."""

    score: Trace
    traces: dict[str, Trace]


def read_stretches(plant: Plant, facts: PlantFacts) -> dict[str, StretchFacts]:
    """Read what is drawn of the first stretches, by their identifiers."""
    drawn = facts.stretches[:_MOST_STRETCHES]
    if not drawn:
        return {}
    with plant.warehouse.snapshot() as connection:
        return {
            row.stretch_id: StretchFacts(
                *read_traces(
                    connection, facts, row.machine_id, row.started_at, row.ended_at, row.top_sensors[:_MOST_SIGNALS]
                )
            )
            for row in drawn
        }
