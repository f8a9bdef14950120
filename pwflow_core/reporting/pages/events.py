"""The events: the worst and the latest in full, the others in a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pwflow_core.marks import FILE_NAME_COLUMN, NO_SEGMENT, SEGMENT_JOINT
from pwflow_core.reporting.drawing.signals import Band, Signal, draw_signals
from pwflow_core.reporting.event_facts import Blame, EventFacts, choose_events
from pwflow_core.reporting.facts import PlantFacts
from pwflow_core.reporting.pages.chart import Chart, Key, in_two_widths
from pwflow_core.reporting.records import EventRow
from pwflow_core.reporting.texts import Texts

__all__ = ["BlameRow", "EventCard", "EventsPage", "ListedEvent", "make_events"]

_WIDE = 760
_MOST_BLAMED, _LEAST_BLAME = 8, 0.01


@dataclass(frozen=True)
class BlameRow:
    """One sensor that caused an event: its share (also in percent, for a bar), what it read, and what was expected."""

    sensor: str
    unit: str
    share: str
    percent: float
    observed: str
    expected: str
    is_outside: bool


@dataclass(frozen=True)
class EventCard:
    """One event in full."""

    event_id: str
    machine: str
    started: str
    sentence: str
    score: str
    n_readings: str
    duration: str
    regime: str
    segment: str
    blame: tuple[BlameRow, ...]
    chart: Chart


@dataclass(frozen=True)
class ListedEvent:
    """One event in the table."""

    event_id: str
    is_shown: bool
    machine: str
    started: str
    duration: str
    score: str
    n_readings: str
    regime: str
    sentence: str


@dataclass(frozen=True)
class HighScore:
    """The highest anomaly score of a machine on a day."""

    at: str
    machine: str
    score: str
    regime: str


@dataclass(frozen=True)
class EventsPage:
    """Everything on the page; where there are no events, the highest scores instead."""

    cards: tuple[EventCard, ...]
    rows: tuple[ListedEvent, ...]
    n_events: int
    highest: tuple[HighScore, ...]


def make_events(
    facts: PlantFacts, details: Mapping[str, EventFacts], bands: Mapping[str, Mapping[str, Band]], texts: Texts
) -> EventsPage:
    """Make the page.

    Arguments:
        facts: What is known of the plant.
        details: What was read of the chosen events.
        bands: What the models expect of each sensor around them; empty where there are no models.
        texts: The words.
    """
    cards = [
        _card(facts, event, details[event.event_id], bands.get(event.event_id, {}), texts)
        for event in choose_events(facts)
    ]
    rows = [
        ListedEvent(
            event.event_id,
            event.event_id in details,
            event.machine_id,
            texts.moment(event.started_at),
            _duration(facts, event, texts),
            texts.number(event.peak_score),
            texts.number(event.n_readings),
            event.cluster_key or "",
            _sentence(facts, event, details.get(event.event_id), texts),
        )
        for event in facts.events
    ]
    highest = [
        HighScore(texts.moment(row.ts), row.machine_id, texts.number(row.anomaly_score), row.cluster_key or "")
        for row in facts.highest_scores
    ]
    return EventsPage(tuple(cards), tuple(rows), facts.n_events, tuple(highest))


def _card(facts: PlantFacts, event: EventRow, detail: EventFacts, bands: Mapping[str, Band], texts: Texts) -> EventCard:
    return EventCard(
        detail.event_id,
        detail.machine_id,
        texts.moment(detail.started_at),
        _sentence(facts, event, detail, texts),
        texts.number(event.peak_score),
        texts.number(event.n_readings),
        _duration(facts, event, texts),
        event.cluster_key or "",
        event.segment or "",
        tuple(
            _blame_row(part, texts)
            for part in detail.blame[:_MOST_BLAMED]
            if part.sensor in detail.traces or part.share >= _LEAST_BLAME
        ),
        _chart(facts, detail, bands, texts),
    )


def _chart(facts: PlantFacts, detail: EventFacts, bands: Mapping[str, Band], texts: Texts) -> Chart:
    nothing = Band(np.empty(0, "datetime64[us]"), np.empty(0), np.empty(0))
    units = {sensor.name: sensor.unit for sensor in facts.sensors}
    signals = [
        Signal(sensor, units.get(sensor, ""), trace, bands.get(sensor, nothing), detail.anomalies[sensor])
        for sensor, trace in detail.traces.items()
    ]
    span = np.datetime64(detail.started_at, "us"), np.datetime64(detail.ended_at, "us")
    threshold = float(-np.log10(facts.alpha)) if facts.alpha > 0 else float("nan")
    wide, narrow = in_two_widths(
        lambda width: draw_signals(signals, detail.score, threshold, span, width, texts), _WIDE
    )
    return Chart(
        texts("event.signals"),
        wide,
        narrow,
        (
            Key("line", "purple", texts("legend.score")),
            Key("dashed", "ink", texts("legend.alpha")),
            Key("line", "blue", texts("legend.read")),
            Key("area", "green", texts("legend.expected")),
            Key("dot", "vermilion", texts("legend.anomaly")),
            Key("area", "amber", texts("legend.event_span")),
        ),
    )


def _blame_row(part: Blame, texts: Texts) -> BlameRow:
    width = part.high - part.low
    return BlameRow(
        part.sensor,
        part.unit,
        texts.percent(part.share),
        round(100 * min(max(part.share, 0.0), 1.0), 1),
        texts.figure(part.observed, width),
        texts("event.range", low=texts.figure(part.low, width), high=texts.figure(part.high, width)),
        part.share >= _LEAST_BLAME and not part.low <= part.observed <= part.high,
    )


def _duration(facts: PlantFacts, event: EventRow, texts: Texts) -> str:
    if event.n_readings == 1:
        return texts("event.one_reading")
    interval = facts.interval_seconds if np.isfinite(facts.interval_seconds) else 0.0
    return texts.duration((event.lasted_until - event.started_at).total_seconds() + interval)


def _conditions(facts: PlantFacts, segment: str, texts: Texts) -> str:
    """Return the process conditions of a segment by their names, such as `recipe B`, as the English sentence does."""
    values = segment.split(SEGMENT_JOINT)
    if len(values) != len(facts.segment_columns):
        return segment
    pairs = zip(facts.segment_columns, values, strict=True)
    named = [value if column == FILE_NAME_COLUMN else f"{column.replace('_', ' ')} {value}" for column, value in pairs]
    return texts("list.comma").join(named)


def _sentence(facts: PlantFacts, event: EventRow, detail: EventFacts | None, texts: Texts) -> str:
    """Return the sentence of an event; the warehouse has it in English."""
    if texts.language == "en":
        return event.summary
    if detail is None or not detail.blame:
        sensors = texts("event.and").join(sensor for sensor in event.top_sensors)
        what = texts("event.unusual_sensors", sensors=sensors) if sensors else texts("event.unusual")
    else:
        told = [part for place, part in enumerate(detail.blame[:2]) if place == 0 or part.share >= 0.25]
        rows = [_blame_row(part, texts) for part in told]
        what = texts("event.and").join(
            texts(
                "event.outside" if row.is_outside else "event.misfit",
                sensor=row.sensor,
                observed=row.observed,
                unit=row.unit,
                expected=row.expected,
            )
            for row in rows
        )
    where = event.machine_id
    if event.segment not in (None, NO_SEGMENT, event.machine_id):
        where = texts("event.where", machine=event.machine_id, segment=_conditions(facts, event.segment, texts))
    return texts("event.sentence", where=where, what=what, duration=_duration(facts, event, texts))
