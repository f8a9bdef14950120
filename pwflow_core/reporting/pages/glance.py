"""The plant at a glance: key figures, the alarm timeline, the health of the regimes, what changed since yesterday."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import pandas as pd

from pwflow_core.reporting.drawing.palette import STEPS
from pwflow_core.reporting.drawing.timelines import Cell, Mark, draw_health_timeline
from pwflow_core.reporting.facts import PlantFacts
from pwflow_core.reporting.names import shorten_name
from pwflow_core.reporting.pages.chart import Chart, Key, in_two_widths
from pwflow_core.reporting.pages.events import ListedEvent
from pwflow_core.reporting.pages.timeline import make_timeline, scale_keys
from pwflow_core.reporting.records import ClusterRow
from pwflow_core.reporting.regimes import RECENT_NIGHTS
from pwflow_core.reporting.texts import Texts

__all__ = ["Change", "GlancePage", "News", "RegimeRow", "Tile", "make_glance"]

_MOST_MACHINES, _MOST_REGIMES = 30, 40
_MOST_NEWS, _MOST_NEW_EVENTS = 10, 3


@dataclass(frozen=True)
class Tile:
    """One key figure."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Change:
    """One figure of the last night beside that of the night before."""

    label: str
    now: str
    before: str


@dataclass(frozen=True)
class News:
    """Something that is new: what, and where it is shown."""

    text: str
    link: str | None = None


@dataclass(frozen=True)
class RegimeRow:
    """How a regime does lately."""

    key: str
    segment: str
    share: str
    alarms: str
    unjudged: str
    evidence: str
    state: str


@dataclass(frozen=True)
class GlancePage:
    """Everything on the page; `n_hidden_machines` are left out of the timeline."""

    tiles: tuple[Tile, ...]
    timeline: Chart | None
    n_hidden_machines: int
    health: Chart | None
    regimes: tuple[RegimeRow, ...]
    changes: tuple[Change, ...]
    news: tuple[News, ...]


def make_glance(facts: PlantFacts, listed: Sequence[ListedEvent], texts: Texts) -> GlancePage:
    """Make the page.

    Arguments:
        facts: What is known of the plant.
        listed: The events, with their sentences.
        texts: The words.
    """
    events = {event.event_id: event for event in listed}
    counts = facts.nights.groupby("machine_id")["n_anomalies"].sum().sort_values(ascending=False)
    machines = [str(machine) for machine in counts.index]
    shown = sorted(machines[:_MOST_MACHINES])
    return GlancePage(
        _tiles(facts, texts),
        make_timeline(facts, shown, events, texts) if shown else None,
        len(machines) - len(shown),
        _health(facts, texts),
        tuple(_regime_row(facts, cluster, texts) for cluster in facts.active),
        tuple(_changes(facts, texts)),
        tuple(_news(facts, events, texts))[:_MOST_NEWS],
    )


def _tiles(facts: PlantFacts, texts: Texts) -> tuple[Tile, ...]:
    n_readings, n_scored, n_anomalies = _count(facts.nights)
    judged = texts.percent(n_scored / n_readings) if n_readings else texts("none")
    n_segments = len({cluster.segment for cluster in facts.active})
    in_time_shown = texts("tile.in_time_shown")
    return (
        Tile(texts("tile.events"), texts.number(facts.n_events), in_time_shown),
        Tile(
            texts("tile.anomalies"), texts.number(n_anomalies), texts("tile.at_alpha", alpha=texts.number(facts.alpha))
        ),
        Tile(
            texts("tile.findings"),
            texts.number(sum(verdict.is_open for verdict in facts.verdicts)),
            texts("tile.open"),
        ),
        Tile(texts("tile.judged"), judged, texts("tile.of_readings", n=texts.number(n_readings))),
        Tile(
            texts("tile.regimes"),
            texts.number(len(facts.active)),
            texts("tile.in_segments", n=texts.number(n_segments)),
        ),
        Tile(texts("tile.machines"), texts.number(facts.nights["machine_id"].nunique()), in_time_shown),
    )


def _count(nights: pd.DataFrame) -> tuple[int, int, int]:
    """Return readings, scored ones and anomalies."""
    return int(nights["n_readings"].sum()), int(nights["n_scored"].sum()), int(nights["n_anomalies"].sum())


def _health(facts: PlantFacts, texts: Texts) -> Chart | None:
    rows = [row for row in facts.health if row.channel == "alarms" and row.cluster_key is not None]
    alarming = {row.cluster_key for row in rows}
    keys = [cluster.cluster_key for cluster in facts.active if cluster.cluster_key in alarming][:_MOST_REGIMES]
    if not keys:
        return None
    cells: dict[str, list[Cell]] = {key: [] for key in keys}
    for row in rows:
        if row.cluster_key in cells:
            times = (row.share or 0.0) / row.share_threshold if row.share_threshold else 0.0
            text = texts(
                "glance.health_cell",
                regime=facts.names.label(row.cluster_key),
                night=texts.night(row.night),
                n=texts.number(row.n_readings),
                share=texts.percent(row.share),
                threshold=texts.percent(row.share_threshold),
            )
            value = max(times, 1.0) if row.verdict == "exceeded" else min(times, 0.999)
            cells[row.cluster_key].append(Cell(row.night, value, text))
    marks: dict[str, list[Mark]] = {key: [] for key in keys}
    for verdict in facts.verdicts:
        for key in verdict.cluster_keys:
            if key in marks and facts.first_night <= verdict.night <= facts.last_night:
                text = f"{texts.night(verdict.night)}: {texts.label('verdict', verdict.verdict)}"
                marks[key].append(Mark(verdict.night, 0.5, text, f"#regime-{key}"))
    wide, narrow = in_two_widths(
        lambda width: draw_health_timeline(cells, marks, (facts.first_night, facts.last_night), width, texts)
    )
    steps = [texts(f"legend.health_{number}") for number in range(1, len(STEPS))]
    legend = (*scale_keys(steps), Key("diamond", "blue", texts("legend.verdict")))
    return Chart(texts("glance.health"), wide, narrow, legend, texts("glance.health_note"))


def _regime_row(facts: PlantFacts, cluster: ClusterRow, texts: Texts) -> RegimeRow:
    key = cluster.cluster_key
    lately = facts.nights[facts.nights["night"] > facts.last_night - timedelta(days=RECENT_NIGHTS)]
    total = int(lately["n_readings"].sum())
    n, scored, anomalies = _count(lately[lately["cluster_key"] == key])
    drift = [row for row in facts.health if row.channel == "drift" and row.cluster_key == key]
    evidence = texts("none")
    if drift and drift[-1].evidence is not None:
        evidence = texts(
            "glance.evidence", evidence=f"{drift[-1].evidence:.1f}", threshold=texts.number(drift[-1].threshold)
        )
    return RegimeRow(
        key,
        cluster.segment,
        texts.percent(n / total) if total else texts("none"),
        texts.percent(anomalies / scored) if scored else texts("none"),
        texts.percent(1 - scored / n) if n else texts("none"),
        evidence,
        _state(facts, key, n, scored),
    )


def _state(facts: PlantFacts, key: str, n_readings: int, n_scored: int) -> str:
    """Return the worst that is known of a regime, as a code of the texts."""
    if key not in facts.in_force:
        return "no_flow"
    found = {verdict.answer for verdict in facts.verdicts if verdict.is_open and key in verdict.cluster_keys}
    if "retrain" in found:
        return "drifted"
    if key in _exceeded(facts, facts.last_night):
        return "alarms"
    if found:
        return "asked"
    if not n_readings:
        return "idle"
    return "normal" if n_scored else "thin"


def _exceeded(facts: PlantFacts, night: date) -> set[str]:
    """Return the regimes with any channel above its threshold in a night."""
    return {
        row.cluster_key
        for row in facts.health
        if row.night == night and row.verdict == "exceeded" and row.cluster_key is not None
    }


def _changes(facts: PlantFacts, texts: Texts) -> list[Change]:
    def figures(night: date) -> tuple[str, ...]:
        part = facts.nights[facts.nights["night"] == night]
        n, scored, anomalies = _count(part)
        return (
            texts.number(n),
            texts.percent(scored / n) if n else texts("none"),
            texts.number(anomalies),
            texts.number(part.loc[part["n_anomalies"] > 0, "machine_id"].nunique()),
            texts.number(len(_exceeded(facts, night))),
        )

    labels = ("readings", "judged", "anomalies", "machines", "exceeded")
    now, before = figures(facts.last_night), figures(facts.last_night - timedelta(days=1))
    return [Change(texts(f"change.{label}"), *pair) for label, *pair in zip(labels, now, before, strict=True)]


def _news(facts: PlantFacts, listed: Mapping[str, ListedEvent], texts: Texts) -> list[News]:
    news = [
        News(
            " · ".join(
                [
                    texts.label("verdict", verdict.verdict),
                    *facts.names.labels(verdict.cluster_keys),
                    *verdict.machine_ids,
                ]
            ),
            "#findings",
        )
        for verdict in facts.verdicts
        if verdict.night == facts.last_night
    ]
    begun = [event for event in facts.events if event.started_at > facts.last - timedelta(days=1)]
    if begun:
        news.append(News(texts("news.events", n=texts.number(len(begun))), "#events"))
    for event in sorted(begun, key=lambda event: event.by_peak)[:_MOST_NEW_EVENTS]:
        told = listed[event.event_id]
        link = f"#event-{event.event_id}" if told.is_shown else None
        news.append(News(f"{told.started}: {shorten_name(told.sentence, 160)}", link))
    now, then = (_exceeded(facts, facts.last_night - timedelta(days=days)) for days in (0, 1))
    news += [
        News(texts("news.exceeded", regime=facts.names.label(key)), f"#regime-{key}") for key in sorted(now - then)
    ]
    news += [News(texts("news.calm", regime=facts.names.label(key)), f"#regime-{key}") for key in sorted(then - now)]
    recently = facts.built_at - timedelta(days=1)
    fresh = [v for v in facts.in_force.values() if v.promoted_at is not None and v.promoted_at > recently]
    if fresh:
        news.append(News(texts("news.flows", n=texts.number(len(fresh))), "#models"))
    return news
