"""The machines, a card each: how each one does, its cases, its latest events, and the regimes that it runs in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import pandas as pd

from pwflow_core.reporting.facts import PlantFacts
from pwflow_core.reporting.pages.cases import CaseCard, CasesPage
from pwflow_core.reporting.pages.chart import Chart
from pwflow_core.reporting.pages.events import ListedEvent
from pwflow_core.reporting.pages.timeline import make_timeline
from pwflow_core.reporting.regimes import RECENT_NIGHTS
from pwflow_core.reporting.texts import Texts

__all__ = ["MachineCard", "MachineRegime", "MachinesPage", "make_machines"]

_MOST_MACHINES, _MOST_CASES, _MOST_EVENTS, _MOST_SENSORS = 40, 6, 6, 6
_MUCH = 0.01


@dataclass(frozen=True)
class MachineRegime:
    """A regime that the machine ran in lately: its share of the readings there, and the share of alarms in it."""

    key: str
    share: str
    alarms: str


@dataclass(frozen=True)
class MachineCard:
    """One machine.

    Attributes:
        anchor: Where the card is, within the page.
        machine: Its name.
        last_day: Last day with readings.
        n_readings: Readings in the time shown.
        alarms: Share of anomalies in the readings that were judged.
        unjudged: Share of the readings that were not judged.
        chart: Its anomalies, night by night.
        cases: Its cases, those to decide first, each with whether it is shown in full.
        events: Its latest events.
        regimes: Regimes of the last nights, the most frequent first.
        missing: Sensors that miss a hundredth of their values or more in the time shown, with their share.
    """

    anchor: str
    machine: str
    last_day: str
    n_readings: str
    alarms: str
    unjudged: str
    chart: Chart
    cases: tuple[tuple[CaseCard, bool], ...]
    events: tuple[ListedEvent, ...]
    regimes: tuple[MachineRegime, ...]
    missing: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class MachinesPage:
    """Everything on the page; `n_hidden` machines have fewer anomalies than those that are shown."""

    cards: tuple[MachineCard, ...]
    n_hidden: int


def make_machines(facts: PlantFacts, cases: CasesPage, listed: Sequence[ListedEvent], texts: Texts) -> MachinesPage:
    """Make the page.

    Arguments:
        facts: What is known of the plant.
        cases: The cases, as they are shown.
        listed: The events, with their sentences, the latest first.
        texts: The words.
    """
    counts = facts.nights.groupby("machine_id")["n_anomalies"].sum().sort_values(ascending=False)
    shown = sorted(str(machine) for machine in counts.index[:_MOST_MACHINES])
    cards = [_card(facts, number, machine, cases, listed, texts) for number, machine in enumerate(shown, start=1)]
    return MachinesPage(tuple(cards), len(counts) - len(shown))


def _card(
    facts: PlantFacts, number: int, machine: str, cases: CasesPage, listed: Sequence[ListedEvent], texts: Texts
) -> MachineCard:
    nights = facts.nights[facts.nights["machine_id"] == machine]
    n, scored, anomalies = (int(nights[column].sum()) for column in ("n_readings", "n_scored", "n_anomalies"))
    of_machine = [event for event in listed if event.machine == machine]
    in_full = {card.case_id for card in cases.to_decide}
    own = [
        (cases.cards[case.case_id], case.case_id in in_full) for case in facts.cases.all if machine in case.machine_ids
    ]
    return MachineCard(
        f"machine-{number}",
        machine,
        texts.night(nights["night"].max()),
        texts.number(n),
        texts.percent(anomalies / scored) if scored else texts("none"),
        texts.percent(1 - scored / n) if n else texts("none"),
        make_timeline(facts, [machine], {event.event_id: event for event in listed}, texts),
        tuple(own[:_MOST_CASES]),
        tuple(of_machine[:_MOST_EVENTS]),
        _regimes(nights[nights["night"] > facts.last_night - timedelta(days=RECENT_NIGHTS)], texts),
        _missing(facts, machine, n, texts),
    )


def _regimes(lately: pd.DataFrame, texts: Texts) -> tuple[MachineRegime, ...]:
    total = int(lately["n_readings"].sum())
    sums = lately.groupby("cluster_key")[["n_readings", "n_scored", "n_anomalies"]].sum()
    rows = sums.sort_values("n_readings", ascending=False)
    return tuple(
        MachineRegime(
            str(key), texts.percent(int(n) / total), texts.percent(int(anomalies) / scored) if scored else texts("none")
        )
        for key, (n, scored, anomalies) in zip(rows.index, rows.to_numpy(), strict=True)
    )


def _missing(facts: PlantFacts, machine: str, n_readings: int, texts: Texts) -> tuple[tuple[str, str], ...]:
    counts = zip(facts.sensors, facts.missing.get(machine, ()), strict=False)
    found = sorted(((n, sensor.name) for sensor, n in counts if n >= max(_MUCH * n_readings, 1)), reverse=True)
    return tuple((name, texts.percent(n / max(n_readings, n))) for n, name in found[:_MOST_SENSORS])
