"""Data quality: what is doubtful, what was refused, what is missing, what is stuck, how each sensor reads."""

from __future__ import annotations

from dataclasses import dataclass

from pwflow_core.pipeline.looking.data.machines import MachineProfile
from pwflow_core.pipeline.looking.data.sensors import SensorProfile
from pwflow_core.reporting.doubts import SaidDoubt, say_doubt, say_interval
from pwflow_core.reporting.drawing.curves import draw_quality
from pwflow_core.reporting.drawing.palette import SERIES
from pwflow_core.reporting.facts import PlantFacts, nights_between
from pwflow_core.reporting.pages.chart import Chart, Key, in_two_widths
from pwflow_core.reporting.texts import Texts

__all__ = ["GapRow", "MachineRow", "QualityPage", "RejectedRow", "RhythmRow", "SensorRow", "make_quality"]

_STATUSES = ("missing", "invalid", "stuck", "thin")
_MOST_ROWS = 60
_MOST_DOUBTS = 20


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
class RhythmRow:
    """How often a reading of a machine comes, and when none came."""

    machine: str
    first: str
    last: str
    interval: str
    n_gaps: str
    longest: str
    gap_days: str


@dataclass(frozen=True)
class SensorRow:
    """What a sensor reads, in the time shown."""

    sensor: str
    unit: str
    kind: str
    lowest: str
    median: str
    highest: str
    share_missing: str
    step: str
    interval: str
    n_changes: str


@dataclass(frozen=True)
class QualityPage:
    """Everything on the page; `statuses` head the counts of the machines."""

    doubts: tuple[SaidDoubt, ...]
    n_more_doubts: int
    rhythms: tuple[RhythmRow, ...]
    sensors: tuple[SensorRow, ...]
    chart: Chart | None
    statuses: tuple[str, ...]
    machines: tuple[MachineRow, ...]
    gaps: tuple[GapRow, ...]
    rejected: tuple[RejectedRow, ...]


def make_quality(facts: PlantFacts, texts: Texts) -> QualityPage:
    """Make the page."""
    return QualityPage(
        tuple(say_doubt(doubt, texts) for doubt in facts.doubts[:_MOST_DOUBTS]),
        max(0, len(facts.doubts) - _MOST_DOUBTS),
        tuple(_rhythm(machine, texts) for machine in facts.data.machines[:_MOST_ROWS]),
        tuple(_sensor(sensor, texts) for sensor in facts.data.sensors[:_MOST_ROWS]),
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
            for row in facts.data.rejections
        ),
    )


def _rhythm(machine: MachineProfile, texts: Texts) -> RhythmRow:
    longest = texts("none")
    if machine.longest_gap_seconds is not None:
        about = texts.duration(machine.longest_gap_seconds), texts.moment(machine.longest_gap_at)
        longest = texts("quality.longest", duration=about[0], time=about[1])
    return RhythmRow(
        machine.machine_id,
        texts.moment(machine.first),
        texts.moment(machine.last),
        say_interval(machine.interval_seconds, texts),
        texts.number(machine.n_gaps),
        longest,
        texts("quality.days", n=texts.number(len(machine.gap_days)), n_all=texts.number(machine.n_days)),
    )


def _sensor(sensor: SensorProfile, texts: Texts) -> SensorRow:
    span = 0.0 if sensor.step == 1 else (sensor.highest or 0.0) - (sensor.lowest or 0.0)
    return SensorRow(
        sensor.sensor,
        sensor.unit,
        texts.label("sensor_kind", sensor.kind),
        texts.figure(sensor.lowest, span / 100),
        texts.figure(sensor.median, span / 100),
        texts.figure(sensor.highest, span / 100),
        texts.percent(sensor.share_missing),
        "" if sensor.step is None else f"{sensor.step:g}",
        say_interval(sensor.interval_seconds, texts),
        "" if sensor.n_changes is None else texts.number(sensor.n_changes),
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
