"""Data quality: what was refused, what is missing, what is stuck."""

from __future__ import annotations

from dataclasses import dataclass

from pwflow_core.reporting.drawing.curves import draw_quality
from pwflow_core.reporting.drawing.palette import SERIES
from pwflow_core.reporting.facts import PlantFacts, nights_between
from pwflow_core.reporting.pages.chart import Chart, Key, in_two_widths
from pwflow_core.reporting.texts import Texts

__all__ = ["GapRow", "MachineRow", "QualityPage", "RejectedRow", "make_quality"]

_STATUSES = ("missing", "invalid", "stuck", "thin")
_MOST_ROWS = 60


@dataclass(frozen=True)
class MachineRow:
    """How many readings of a machine could be judged, and why the others could not; `counts` by status."""

    machine: str
    n_readings: str
    judged: str
    counts: tuple[str, ...]


@dataclass(frozen=True)
class GapRow:
    """How many values of a sensor are missing, all machines together, and where most of them are."""

    sensor: str
    n_missing: str
    share: str
    worst_machine: str


@dataclass(frozen=True)
class RejectedRow:
    """What was refused of a sensor, or of whole rows."""

    reason: str
    sensor: str
    n_values: str
    example: str
    detail: str


@dataclass(frozen=True)
class QualityPage:
    """Everything on the page; `statuses` head the counts of the machines."""

    chart: Chart | None
    statuses: tuple[str, ...]
    machines: tuple[MachineRow, ...]
    gaps: tuple[GapRow, ...]
    rejected: tuple[RejectedRow, ...]


def make_quality(facts: PlantFacts, texts: Texts) -> QualityPage:
    """Make the page."""
    return QualityPage(
        _chart(facts, texts),
        tuple(texts.label("status", status) for status in _STATUSES),
        tuple(_machines(facts, texts)),
        tuple(_gaps(facts, texts)),
        tuple(
            RejectedRow(
                texts.label("rejected", row.reason),
                row.sensor or "",
                texts.number(row.n_values),
                row.example or "",
                row.detail or "",
            )
            for row in facts.rejections
        ),
    )


def _chart(facts: PlantFacts, texts: Texts) -> Chart | None:
    counts = facts.nights.groupby("night")[["n_readings", *_STATUSES]].sum()
    shown = [status for status in _STATUSES if len(counts) and counts[status].sum() > 0]
    if not shown:
        return None
    nights = nights_between(facts.first_night, facts.last_night)
    counts = counts.reindex(nights).fillna(0)
    shares = {
        status: (counts[status] / counts["n_readings"].where(counts["n_readings"] > 0, 1)).astype(float).to_list()
        for status in shown
    }
    wide, narrow = in_two_widths(lambda width: draw_quality(nights, shares, width, texts))
    legend = tuple(
        Key("cell", series, texts.label("status", status)) for status, series in zip(shown, SERIES, strict=False)
    )
    return Chart(texts("quality.chart"), wide, narrow, legend)


def _machines(facts: PlantFacts, texts: Texts) -> list[MachineRow]:
    sums = facts.nights.groupby("machine_id")[["n_readings", "n_scored", *_STATUSES]].sum()
    sums = sums.assign(unjudged=sums["n_readings"] - sums["n_scored"]).sort_values("unjudged", ascending=False)
    return [
        MachineRow(
            str(machine),
            texts.number(row["n_readings"]),
            texts.percent(row["n_scored"] / row["n_readings"]),
            tuple(texts.number(row[status]) for status in _STATUSES),
        )
        for machine, row in sums.head(_MOST_ROWS).iterrows()
    ]


def _gaps(facts: PlantFacts, texts: Texts) -> list[GapRow]:
    total = int(facts.nights["n_readings"].sum())
    found = []
    for place, sensor in enumerate(facts.sensors):
        by_machine = {machine: counts[place] for machine, counts in facts.missing.items()}
        if count := sum(by_machine.values()):
            worst = max(by_machine, key=lambda machine: by_machine[machine])
            share = texts.percent(count / total) if total else texts("none")
            found.append((count, GapRow(sensor.name, texts.number(count), share, worst)))
    return [row for _, row in sorted(found, key=lambda pair: -pair[0])[:_MOST_ROWS]]
