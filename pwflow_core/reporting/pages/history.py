"""The history: its stretches unlike the rest, with what was read around them, before anybody trusts or refuses them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pwflow_core.reporting.drawing.signals import Band, Signal, Trace, draw_signals
from pwflow_core.reporting.facts import PlantFacts
from pwflow_core.reporting.pages.chart import Chart, Key, in_two_widths
from pwflow_core.reporting.records import StretchRow
from pwflow_core.reporting.stretch_facts import StretchFacts
from pwflow_core.reporting.texts import Texts

__all__ = ["HistoryPage", "StretchCard", "make_history"]

_WIDE = 760


@dataclass(frozen=True)
class StretchCard:
    """One stretch; without a chart where too many are longer."""

    stretch_id: str
    machine: str
    segment: str
    started: str
    duration: str
    n_readings: str
    sensors: str
    status: str
    decided: str
    is_open: bool
    chart: Chart | None


@dataclass(frozen=True)
class HistoryPage:
    """All stretches: those that wait for a decision first, the longest first."""

    stretches: tuple[StretchCard, ...]


def make_history(facts: PlantFacts, details: Mapping[str, StretchFacts], texts: Texts) -> HistoryPage:
    """Make the page.

    Arguments:
        facts: What is known of the plant.
        details: What was read around the stretches that are drawn, by their identifiers.
        texts: The words.
    """
    return HistoryPage(tuple(_card(facts, row, details.get(row.stretch_id), texts) for row in facts.stretches))


def _card(facts: PlantFacts, row: StretchRow, detail: StretchFacts | None, texts: Texts) -> StretchCard:
    interval = facts.interval_seconds if np.isfinite(facts.interval_seconds) else 0.0
    decided = "" if row.decided_by is None else f"{row.decided_by}, {texts.moment(row.decided_at)}"
    return StretchCard(
        row.stretch_id,
        row.machine_id,
        row.segment,
        texts.moment(row.started_at),
        texts.duration((row.ended_at - row.started_at).total_seconds() + interval),
        texts.number(row.n_readings),
        ", ".join(row.top_sensors),
        texts.label("stretch", row.status),
        decided,
        row.status == "open",
        None if detail is None else _chart(facts, row, detail, texts),
    )


def _chart(facts: PlantFacts, row: StretchRow, detail: StretchFacts, texts: Texts) -> Chart:
    nothing = np.empty(0, "datetime64[us]")
    band, anomalies = Band(nothing, np.empty(0), np.empty(0)), Trace(nothing, np.empty(0))
    units = {sensor.name: sensor.unit for sensor in facts.sensors}
    signals = [Signal(name, units.get(name, ""), trace, band, anomalies) for name, trace in detail.traces.items()]
    span = np.datetime64(row.started_at, "us"), np.datetime64(row.ended_at, "us")
    threshold = float(-np.log10(facts.alpha)) if facts.alpha > 0 else float("nan")
    wide, narrow = in_two_widths(
        lambda width: draw_signals(signals, detail.score, threshold, span, width, texts), _WIDE
    )
    legend = (
        Key("line", "purple", texts("legend.score")),
        Key("dashed", "ink", texts("legend.alpha")),
        Key("line", "blue", texts("legend.read")),
        Key("area", "amber", texts("legend.stretch_span")),
    )
    return Chart(texts("history.signals"), wide, narrow, legend)
