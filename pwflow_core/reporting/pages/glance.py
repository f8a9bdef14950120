"""The plant at a glance: key figures, the alarm timeline, the health of the regimes, what changed since yesterday."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import pandas as pd

from pwflow_core.reporting.drawing.palette import STEPS
from pwflow_core.reporting.drawing.timelines import (
    ALARM_STEPS,
    Cell,
    Mark,
    draw_alarm_timeline,
    draw_health_timeline,
)
from pwflow_core.reporting.facts import PlantFacts
from pwflow_core.reporting.names import shorten_name
from pwflow_core.reporting.pages.chart import Chart, Key, in_two_widths
from pwflow_core.reporting.regimes import RECENT_NIGHTS
from pwflow_core.reporting.texts import Texts

__all__ = ["Change", "GlancePage", "News", "RegimeRow", "Tile", "make_glance"]

_MOST_MACHINES, _MOST_REGIMES = 30, 40
_MOST_MARKS = 120
_MOST_NEWS = 8


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


def make_glance(facts: PlantFacts, shown_events: frozenset[int], texts: Texts) -> GlancePage:
    """Make the page.

    Arguments:
        facts: What is known of the plant.
        shown_events: Events that have a place of their own in the report.
        texts: The words.
    """
    machines = facts.nights.groupby("machine_id")["n_anomalies"].sum().sort_values(ascending=False)
    shown = sorted(machines.index[:_MOST_MACHINES])
    return GlancePage(
        _tiles(facts, texts),
        _timeline(facts, shown, shown_events, texts) if shown else None,
        len(machines) - len(shown),
        _health(facts, texts),
        tuple(_regime_rows(facts, texts)),
        tuple(_changes(facts, texts)),
        tuple(_news(facts, shown_events, texts))[:_MOST_NEWS],
    )


def _tiles(facts: PlantFacts, texts: Texts) -> tuple[Tile, ...]:
    nights = facts.nights
    n_readings, n_scored, n_anomalies = (int(nights[c].sum()) for c in ("n_readings", "n_scored", "n_anomalies"))
    active = facts.clusters[facts.clusters["status"] == "active"]
    n_open = int(facts.verdicts["status"].isin(["open", "requested"]).sum())
    judged = texts.percent(n_scored / n_readings) if n_readings else texts("none")
    return (
        Tile(texts("tile.events"), texts.number(facts.n_events), texts("tile.in_time_shown")),
        Tile(
            texts("tile.anomalies"),
            texts.number(n_anomalies),
            texts("tile.at_alpha", alpha=texts.number(facts.alpha)),
        ),
        Tile(texts("tile.findings"), texts.number(n_open), texts("tile.open")),
        Tile(texts("tile.judged"), judged, texts("tile.of_readings", n=texts.number(n_readings))),
        Tile(
            texts("tile.regimes"),
            texts.number(len(active)),
            texts("tile.in_segments", n=texts.number(active["segment"].nunique())),
        ),
        Tile(texts("tile.machines"), texts.number(nights["machine_id"].nunique()), texts("tile.in_time_shown")),
    )


def _timeline(facts: PlantFacts, machines: list[str], shown_events: frozenset[int], texts: Texts) -> Chart:
    by_night = facts.nights.groupby(["machine_id", "night"])["n_anomalies"].sum()
    cells: dict[str, list[Cell]] = {machine: [] for machine in machines}
    for (machine, night), count in by_night.items():
        if machine in cells:
            text = texts("glance.cell", machine=machine, night=texts.night(night), n=texts.number(count))
            cells[machine].append(Cell(night, float(count), text))
    marks: dict[str, list[Mark]] = {machine: [] for machine in machines}
    events = facts.events.sort_values("by_peak").head(_MOST_MARKS)
    largest = float(events["peak_score"].max()) if len(events) else 1.0
    for event in events[::-1].itertuples():
        if event.machine_id in marks:
            link = f"#event-{event.event_id}" if event.event_id in shown_events else None
            text = f"{texts.moment(event.started_at)}: {event.summary}"
            marks[event.machine_id].append(
                Mark(event.started_at.to_pydatetime(), event.peak_score / largest, text, link)
            )
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
            *_scale([f"≥ {texts.number(step)}" for step in ALARM_STEPS]),
        ),
        texts("glance.timeline_note"),
    )


def _health(facts: PlantFacts, texts: Texts) -> Chart | None:
    health = facts.health[facts.health["channel"] == "alarms"].dropna(subset=["cluster_key"])
    keys = [key for key in _active_keys(facts) if key in set(health["cluster_key"])][:_MOST_REGIMES]
    if not keys:
        return None
    cells: dict[str, list[Cell]] = {key: [] for key in keys}
    for row in health.itertuples():
        if row.cluster_key in cells:
            times = row.evidence / row.threshold if row.threshold else 0.0
            times = max(times, 1.0) if row.verdict == "exceeded" else min(times, 0.999)
            text = texts(
                "glance.health_cell",
                regime=row.cluster_key,
                night=texts.night(row.night),
                n=texts.number(row.n_readings),
                share=texts.percent(row.evidence),
                threshold=texts.percent(row.threshold),
            )
            cells[row.cluster_key].append(Cell(row.night, times, text))
    marks: dict[str, list[Mark]] = {key: [] for key in keys}
    for verdict in facts.verdicts.itertuples():
        for key in _listed(verdict.cluster_keys):
            if key in marks and verdict.night is not None and facts.first_night <= verdict.night <= facts.last_night:
                text = f"{texts.night(verdict.night)}: {texts.label('verdict', verdict.verdict)}"
                marks[key].append(Mark(verdict.night, 0.5, text, f"#regime-{key}"))
    wide, narrow = in_two_widths(
        lambda width: draw_health_timeline(cells, marks, (facts.first_night, facts.last_night), width, texts)
    )
    steps = [texts(f"legend.health_{n}") for n in range(1, len(STEPS))]
    legend = (*_scale(steps), Key("diamond", "blue", texts("legend.verdict")))
    return Chart(texts("glance.health"), wide, narrow, legend, texts("glance.health_note"))


def _scale(labels: list[str]) -> list[Key]:
    return [Key("area", step, label) for step, label in zip(STEPS[1:], labels, strict=True)]


def _active_keys(facts: PlantFacts) -> list[str]:
    return [str(key) for key in facts.clusters.loc[facts.clusters["status"] == "active", "cluster_key"]]


def _listed(values: object) -> list[str]:
    """Return a list of DuckDB as a list; NULL as an empty one."""
    return [str(value) for value in values] if hasattr(values, "__iter__") else []


def _regime_rows(facts: PlantFacts, texts: Texts) -> list[RegimeRow]:
    lately = facts.nights[facts.nights["night"] > facts.last_night - timedelta(days=RECENT_NIGHTS)]
    counts = lately.groupby("cluster_key")[["n_readings", "n_scored", "n_anomalies"]].sum()
    total = int(lately["n_readings"].sum())
    drift = facts.health[facts.health["channel"] == "drift"].drop_duplicates("cluster_key", keep="last")
    drift = drift.set_index("cluster_key")
    with_flow = set(facts.versions.loc[facts.versions["in_force"].fillna(False).astype(bool), "cluster_key"])
    rows = []
    for cluster in facts.clusters[facts.clusters["status"] == "active"].itertuples():
        key = str(cluster.cluster_key)
        n, scored, anomalies = (
            (int(value) for value in counts.loc[key]) if key in counts.index else (0, 0, 0)
        )
        evidence = texts("none")
        if key in drift.index:
            found = drift.loc[key]
            evidence = texts(
                "glance.evidence", evidence=f"{found['evidence']:.1f}", threshold=texts.number(found["threshold"])
            )
        rows.append(
            RegimeRow(
                key,
                str(cluster.segment),
                texts.percent(n / total) if total else texts("none"),
                texts.percent(anomalies / scored) if scored else texts("none"),
                texts.percent(1 - scored / n) if n else texts("none"),
                evidence,
                _state(facts, key, n, scored, key in with_flow),
            )
        )
    return rows


def _state(facts: PlantFacts, key: str, n: int, scored: int, has_flow: bool) -> str:
    """Return the worst that is known of a regime, as a code of the texts."""
    health = facts.health[(facts.health["cluster_key"] == key) & (facts.health["verdict"] == "exceeded")]
    if not has_flow:
        return "no_flow"
    if any(
        key in _listed(verdict.cluster_keys) and verdict.status in ("open", "requested")
        for verdict in facts.verdicts.itertuples()
    ):
        return "drifted"
    if (health["night"] == facts.last_night).any():
        return "alarms"
    if n and not scored:
        return "thin"
    return "normal" if n else "idle"


def _changes(facts: PlantFacts, texts: Texts) -> list[Change]:
    night, before = facts.last_night, facts.last_night - timedelta(days=1)

    def figures(day: date) -> tuple[str, ...]:
        part = facts.nights[facts.nights["night"] == day]
        n, scored, anomalies = (int(part[c].sum()) for c in ("n_readings", "n_scored", "n_anomalies"))
        alarming = part.loc[part["n_anomalies"] > 0, "machine_id"].nunique()
        exceeded = facts.health[(facts.health["night"] == day) & (facts.health["verdict"] == "exceeded")]
        return (
            texts.number(n),
            texts.percent(scored / n) if n else texts("none"),
            texts.number(anomalies),
            texts.number(alarming),
            texts.number(exceeded["cluster_key"].nunique()),
        )

    labels = ("readings", "judged", "anomalies", "machines", "exceeded")
    return [
        Change(texts(f"change.{label}"), now, then)
        for label, now, then in zip(labels, figures(night), figures(before), strict=True)
    ]


def _news(facts: PlantFacts, shown_events: frozenset[int], texts: Texts) -> list[News]:
    since = pd.Timestamp(facts.last) - pd.Timedelta(days=1)
    news = []
    for verdict in facts.verdicts[facts.verdicts["night"] == facts.last_night].itertuples():
        keys = ", ".join(_listed(verdict.cluster_keys))
        news.append(News(f"{texts.label('verdict', verdict.verdict)}: {keys}", "#glance-health"))
    begun = facts.events[facts.events["started_at"] > since].sort_values("by_peak")
    if len(begun):
        news.append(News(texts("news.events", n=texts.number(len(begun))), "#events"))
    for event in begun.head(3).itertuples():
        link = f"#event-{event.event_id}" if event.event_id in shown_events else None
        news.append(News(f"{texts.moment(event.started_at)}: {shorten_name(event.summary, 160)}", link))
    health = facts.health[(facts.health["channel"] == "alarms") & (facts.health["verdict"] == "exceeded")]
    now = set(health.loc[health["night"] == facts.last_night, "cluster_key"].dropna())
    then = set(health.loc[health["night"] == facts.last_night - timedelta(days=1), "cluster_key"].dropna())
    news += [News(texts("news.exceeded", regime=key), f"#regime-{key}") for key in sorted(now - then)]
    news += [News(texts("news.calm", regime=key), f"#regime-{key}") for key in sorted(then - now)]
    recently = pd.Timestamp(facts.built_at) - pd.Timedelta(days=1)
    fresh = facts.versions[(facts.versions["promoted_at"] > recently) & facts.versions["in_force"].eq(True)]
    if len(fresh):
        news.append(News(texts("news.flows", n=texts.number(len(fresh))), "#models"))
    return news
