"""The timeline of machines: anomalies per night, and the events above them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from pwflow_core.reporting.drawing.palette import STEPS
from pwflow_core.reporting.drawing.timelines import ALARM_STEPS, Cell, Mark, draw_alarm_timeline
from pwflow_core.reporting.facts import PlantFacts
from pwflow_core.reporting.pages.chart import Chart, Key, in_two_widths
from pwflow_core.reporting.pages.events import ListedEvent
from pwflow_core.reporting.texts import Texts

__all__ = ["make_timeline", "scale_keys"]

_MOST_MARKS = 120


def make_timeline(facts: PlantFacts, machines: Sequence[str], listed: Mapping[str, ListedEvent], texts: Texts) -> Chart:
    """Draw the timeline of some machines.

    Arguments:
        facts: What is known of the plant.
        machines: The machines, a row each.
        listed: The events, with their sentences.
        texts: The words.
    """
    cells: dict[str, list[Cell]] = {machine: [] for machine in machines}
    for night, of_night in facts.nights.groupby("night"):
        for machine, count in of_night.groupby("machine_id")["n_anomalies"].sum().items():
            if machine in cells and isinstance(night, date):
                text = texts("glance.cell", machine=machine, night=texts.night(night), n=texts.number(count))
                cells[str(machine)].append(Cell(night, float(count), text))
    marks: dict[str, list[Mark]] = {machine: [] for machine in machines}
    worst = sorted(facts.events, key=lambda event: event.by_peak)[:_MOST_MARKS]
    for event in reversed(worst):
        if event.machine_id in marks:
            told = listed[event.event_id]
            link = f"#event-{event.event_id}" if told.is_shown else None
            weight = event.peak_score / worst[0].peak_score
            at = texts.local(event.started_at)
            marks[event.machine_id].append(Mark(at, weight, f"{told.started}: {told.sentence}", link))
    wide, narrow = in_two_widths(
        lambda width: draw_alarm_timeline(cells, marks, (facts.first_night, facts.last_night), width, texts)
    )
    return Chart(
        texts("glance.timeline"),
        wide,
        narrow,
        (
            Key("down", "ink", texts("legend.event_shown")),
            Key("down", "muted", texts("legend.event")),
            *scale_keys([f"≥ {texts.number(step)}" for step in ALARM_STEPS]),
        ),
        texts("glance.timeline_note"),
    )


def scale_keys(labels: Sequence[str]) -> list[Key]:
    """Return the legend of the colours of cells, the weakest first."""
    return [Key("cell", step, label) for step, label in zip(STEPS[1:], labels, strict=True)]
