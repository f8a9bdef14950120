"""The first page: what to decide today, what is new since yesterday, what still goes on, and the closed cases.

Its times are local times of the plant, which the page names; the others are UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pwflow_core.pipeline.cases.view import CaseRow
from pwflow_core.reporting.facts import PlantFacts
from pwflow_core.reporting.pages.chart import Chart
from pwflow_core.reporting.records import CaseChange
from pwflow_core.reporting.texts import Texts

__all__ = ["CaseCard", "CasesPage", "make_cases"]

_MOST_CARDS, _MOST_ROWS = 20, 200


@dataclass(frozen=True)
class CaseCard:
    """One case: its sentence, its history, and what to type.

    `link` leads to its worst event, if that is shown, and `chart` is its picture.
    """

    case_id: str
    severity: str
    severity_text: str
    state: str
    machines: str
    sensors: str
    since: str
    last_seen: str
    n_events: str
    duration: str
    sentence: str
    similar: str
    commands: tuple[tuple[str, str], ...]
    link: str | None
    chart: Chart | None
    history: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class CasesPage:
    """Everything on the page; `n_more` cases to decide are not shown, and `day` is the last one with readings."""

    to_decide: tuple[CaseCard, ...]
    n_to_decide: int
    n_more: int
    new: tuple[CaseCard, ...]
    going_on: tuple[CaseCard, ...]
    not_told: tuple[CaseCard, ...]
    closed: tuple[CaseCard, ...]
    n_closed: int
    day: str
    zone: str
    precision: tuple[tuple[str, str, str, str, str], ...]

    @property
    def cards(self) -> dict[str, CaseCard]:
        """All cases of the page, by their ids."""
        return {
            card.case_id: card for card in (*self.closed, *self.new, *self.not_told, *self.going_on, *self.to_decide)
        }


def make_cases(facts: PlantFacts, charts: Mapping[str, Chart], texts: Texts) -> CasesPage:
    """Make the page.

    Arguments:
        facts: What is known of the plant.
        charts: The pictures of the events that are shown in full, by their ids.
        texts: The words.
    """
    view = facts.cases

    def card(case: CaseRow) -> CaseCard:
        return _card(facts, case, charts, texts)

    decided = {case.case_id for case in view.to_decide}
    return CasesPage(
        tuple(map(card, view.to_decide[:_MOST_CARDS])),
        len(view.to_decide),
        max(len(view.to_decide) - _MOST_CARDS, 0),
        tuple(card(case) for case in view.new[:_MOST_ROWS]),
        tuple(card(case) for case in view.going_on[:_MOST_ROWS]),
        tuple(card(case) for case in view.not_told[:_MOST_ROWS]),
        tuple(card(case) for case in view.rest[:_MOST_ROWS] if case.case_id not in decided),
        len(view.rest),
        texts.night(facts.last_night),
        facts.timezone,
        tuple(
            (
                f"{row['month']:%Y-%m}",
                texts.number(row["n_cases"]),
                texts.number(row["n_marked"]),
                texts.number(row["n_right"]),
                f"{row['precision']:.0%} ({row['low']:.0%}–{row['high']:.0%})",
            )
            for row in view.precision
        ),
    )


def _card(facts: PlantFacts, case: CaseRow, charts: Mapping[str, Chart], texts: Texts) -> CaseCard:
    state = texts.label("case_state", case.state)
    if case.label is not None:
        state = texts("case.labelled", state=state, label=case.label_kind or texts.label("case_label", case.label))
    elif case.shelved_until is not None:
        state = texts("case.until", state=state, time=texts.moment(case.shelved_until))
    if not case.is_told:
        state = texts("case.not_told", state=state)
    similar = [texts("case.like_one", case=case_id, label=_name_label(label, texts)) for case_id, label in case.similar]
    chart = None if case.worst_event_id is None else charts.get(case.worst_event_id)
    return CaseCard(
        case.case_id,
        case.severity,
        texts.label("severity", case.severity),
        state,
        texts("list.comma").join(case.machine_ids),
        texts("list.comma").join(case.sensors),
        texts.moment(case.since),
        texts.moment(case.last_seen),
        texts.number(case.n_events),
        texts.duration(case.alarm_seconds) if case.n_events else texts("none"),
        facts.names.spell_out(_sentence(case, texts)),
        texts("list.comma").join(similar),
        _commands(case, texts),
        f"#event-{case.worst_event_id}" if chart else "#findings" if not case.n_events else None,
        chart,
        tuple(_told(facts, change, texts) for change in facts.case_changes if change.case_id == case.case_id),
    )


def _told(facts: PlantFacts, change: CaseChange, texts: Texts) -> tuple[str, str]:
    """Return when a case changed, and how: what, by whom, and why."""
    what = texts.label("case_change", change.change)
    if change.change == "marked" and change.label is not None:
        what = texts("case.labelled", state=what, label=change.label_kind or texts.label("case_label", change.label))
    by = texts("case.by", what=what, who=change.changed_by) if change.changed_by else what
    return texts.moment(change.as_of), texts("case.why", what=by, why=change.reason) if change.reason else by


def _sentence(case: CaseRow, texts: Texts) -> str:
    """Return what a case is about; the warehouse has it in English."""
    if texts.language == "en":
        return case.summary
    machines = texts("list.comma").join(case.machine_ids) or texts("case.plant")
    sensors = texts("list.comma").join(case.sensors)
    if not case.n_events:
        return texts("case.verdict_alone", machines=machines, sensors=sensors or texts("event.unusual"))
    what = texts("event.unusual_sensors", sensors=sensors) if sensors else texts("event.unusual")
    duration = texts.duration(case.alarm_seconds)
    return texts("case.sentence", machines=machines, what=what, n=texts.number(case.n_events), duration=duration)


def _name_label(label: str, texts: Texts) -> str:
    """Return a label, a kind or a state as people are to read it."""
    known = texts.label("case_label", label)
    return texts.label("case_state", label) if known == label else known


def _commands(case: CaseRow, texts: Texts) -> tuple[tuple[str, str], ...]:
    """Return what a person may type about a case: the command, and what it says."""
    made = []
    if case.state == "open":
        made.append((f"pwflow acknowledge {case.case_id}", texts("case.acknowledge")))
    if case.label is None:
        made.append((f"pwflow mark {case.case_id} --fault", texts("case.fault")))
        made.append((f"pwflow mark {case.case_id} --normal", texts("case.normal")))
        made.append((f'pwflow mark {case.case_id} --known "…"', texts("case.known")))
    return tuple(made)
