"""The book of cases: what is new is read into it in the order of time, as if it had been told when it happened.

That order, and nothing of when the runs were, decides what becomes of the cases.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from pwflow_core.pipeline.cases.case import Case, Finding, Rules, Sighting, mint_case_id
from pwflow_core.pipeline.cases.clock import RunningTime
from pwflow_core.pipeline.cases.grouping import (
    choose_case,
    find_climb,
    find_twin,
    measure_pause,
    rate_case,
    sudden_peak,
)
from pwflow_core.pipeline.cases.lifecycle import Change, ChangeKind, Record, State
from pwflow_core.pipeline.cases.moves import explain_finding, explained_before, same_move

__all__ = ["CaseBook", "Told"]

_LASTING: tuple[str | None, ...] = ("normal", "known")
"""Labels of a cause that a person knows: when it comes back, nobody is told."""


@dataclass(frozen=True)
class Told:
    """What was told, and under which case.

    Attributes:
        case_id: The case at that time.
        sighting: The event; None if it is a verdict.
        finding: The verdict; None if it is an event.
    """

    case_id: str
    sighting: Sighting | None = None
    finding: Finding | None = None


@dataclass(eq=False)
class CaseBook:
    """The cases of a plant that may still go on, and what becomes of them.

    Arguments:
        rules: How long things take.
        clock: When the machines ran.
        records: The cases so far.
        known_ids: Ids of all cases that there ever were.
        unsettled: Verdicts that still wait for an answer: their cases stay open.
    """

    rules: Rules
    clock: RunningTime
    records: list[Record] = field(default_factory=list)
    known_ids: set[str] = field(default_factory=set)
    unsettled: Collection[str] = ()
    changes: list[Change] = field(default_factory=list, init=False)
    told: list[Told] = field(default_factory=list, init=False)
    _queue: list[tuple[datetime, int, str, object]] = field(default_factory=list, init=False, repr=False)
    _due: dict[str, datetime | None] = field(default_factory=dict, init=False, repr=False)

    def read(
        self,
        sightings: Iterable[Sighting],
        findings: Iterable[Finding],
        grown: Iterable[Sighting] = (),
        until: datetime | None = None,
    ) -> None:
        """Read what is new, in the order of time, then close what has been quiet.

        Arguments:
            sightings: Events that were not told yet.
            findings: Verdicts that were not told yet.
            grown: Events that were told, and went on: as they are now.
            until: Time of the last reading, UTC.
        """
        for record in self.records:
            for sighting in record.case.sightings:
                self._expect_end(sighting)
        for sighting in grown:
            self._grow(sighting)
        for sighting in sightings:
            self._push(sighting.told_at, 1, sighting, sighting)
        for finding in findings:
            heapq.heappush(self._queue, (finding.told_at, 3, finding.verdict_id, finding))
        while self._queue:
            time, _, _, item = heapq.heappop(self._queue)
            if isinstance(item, _End) and until is not None and time > until:
                continue  # it may go on
            self._close_quiet(time)
            if isinstance(item, Finding):
                self._find(item)
            elif isinstance(item, _Climb):
                self._break_off(item.sighting, time)
            elif isinstance(item, _End):
                self._judge_whole(item.event_id, time)
            elif isinstance(item, Sighting):
                self._see(item)
            self._join_moves(time)
        if until is not None:
            self._close_quiet(until)
            for record in self.records:
                if record.state == "shelved" and record.shelved_until is not None and record.shelved_until <= until:
                    self._set_state(record, "unshelved", "open", record.shelved_until, "it was shelved until then")

    def find_record(self, case_id: str) -> Record:
        """Return a case by its id."""
        return next(record for record in self.records if record.case.case_id == case_id)

    def _push(self, time: datetime, order: int, sighting: Sighting, item: object) -> None:
        heapq.heappush(self._queue, (time, order, f"{sighting.machine_id}/{sighting.event_id}", item))

    def _expect_end(self, sighting: Sighting) -> None:
        if not sighting.is_over:
            self._push(sighting.ended_at + self.rules.gap, 0, sighting, _End(sighting.event_id))

    def _see(self, sighting: Sighting) -> None:
        case = choose_case(sighting, self._candidates(), self.rules, self.clock)
        if case is None:
            record = self._open(f"{sighting.machine_id}/{sighting.event_id}", sighting.told_at)
        else:
            record = self._record_of(case)
            self._comes_back(record, sighting)
            pause = measure_pause(sighting, case, self.clock)
            case.longest_pause = max(case.longest_pause, pause)
        record.case.sightings.append(sighting)
        self._touch(record)
        self.told.append(Told(record.case.case_id, sighting=sighting))
        self._watch(sighting, record.case)
        self._expect_end(sighting)
        self._join_twin(record, sighting, sighting.told_at)

    def _join_twin(self, record: Record, sighting: Sighting, time: datetime) -> None:
        if not record.is_active or record.label is not None:
            return
        others = [r.case for r in self.records if r.is_active and r.label is None]
        twin = find_twin(record.case, sighting, others, self.rules, self.clock)
        if twin is not None:
            elder, younger = sorted((record, self._record_of(twin)), key=lambda r: (r.case.since, r.case.case_id))
            self._merge(younger, elder, time, "both go on together and blame the same")

    def _judge_whole(self, event_id: str, time: datetime) -> None:
        """Judge an event that is over as a whole: it leaves its case if it fits another one, and that one no more."""
        found = [(r, s) for r in self.records for s in r.case.sightings if s.event_id == event_id]
        if not found or found[0][1].is_over or found[0][1].ended_at + self.rules.gap != time:
            return  # it went on
        [(record, sighting)] = found
        whole = replace(sighting, is_over=True)
        record.case.sightings[record.case.sightings.index(sighting)] = whole
        self._touch(record)
        if record.label is not None:
            return
        rest = record.case.without(whole)
        others = [r.case for r in self.records if r.case is not record.case and r.merged_into is None and not r.label]
        if rest.sightings and rate_case(whole, rest, self.rules, self.clock) is not None:
            self._join_twin(record, whole, time)
            return
        target = choose_case(whole, others, self.rules, self.clock)
        if target is not None or rest.sightings:
            self._move(whole, record, target, time)

    def _move(self, sighting: Sighting, record: Record, case: Case | None, time: datetime) -> None:
        """Give an event to another case, or to one of its own; a case without any is one with that."""
        if case is not None and len(record.case.sightings) == 1 and not record.case.findings:
            self._comes_back(self._record_of(case), sighting)
            self._merge(record, self._record_of(case), time, "it blames the same")
            return
        record.case.sightings.remove(sighting)
        self._touch(record)
        if case is None:
            target = self._open(f"{sighting.machine_id}/{sighting.event_id}", time)
        else:
            target = self._record_of(case)
            self._comes_back(target, sighting)
        target.case.sightings.append(sighting)
        target.case.sightings.sort(key=lambda s: (s.told_at, s.machine_id, s.event_id))
        self._touch(target)
        self.told.append(Told(target.case.case_id, sighting=sighting))

    def _find(self, finding: Finding) -> None:
        case = explain_finding(finding, [r.case for r in self.records if self._may_go_on(r, finding.told_at)])
        record = self._open(finding.verdict_id, finding.told_at) if case is None else self._record_of(case)
        if record.state == "closed" and record.label not in _LASTING:
            self._reopen(record, finding.told_at, "a verdict says so")
        record.case.findings.append(finding)
        self._touch(record)
        self.told.append(Told(record.case.case_id, finding=finding))
        if finding.is_common:
            self._gather(record, finding)

    def _gather(self, common: Record, finding: Finding) -> None:
        """Give the case of a regime that moved what it explains of what was told before, in closed cases too."""
        for record in [r for r in self.records if r.merged_into is None and r.label is None and not r.case.is_common]:
            for sighting in explained_before(common.case, finding.since, record.case):
                self._move(sighting, record, common.case, finding.told_at)

    def _may_go_on(self, record: Record, time: datetime) -> bool:
        """Whether a case goes on, or closed so late that the same belongs to it."""
        if record.is_active or record.merged_into is not None:
            return record.is_active
        case = record.case
        idle = self.clock.between(case.machines, case.segments, case.last_seen(time), time)
        return idle <= case.comes_back_until(self.rules)

    def _grow(self, sighting: Sighting) -> None:
        """Put an event that went on in the place of what was told of it."""
        for record in self.records:
            for place, known in enumerate(record.case.sightings):
                if known.event_id == sighting.event_id:
                    record.case.sightings[place] = sighting
                    self._touch(record)
                    self._watch(sighting, record.case)
                    self._expect_end(sighting)
                    return

    def _watch(self, sighting: Sighting, case: Case) -> None:
        climb = find_climb(sighting, case)
        if climb is not None:
            self._push(climb, 2, sighting, _Climb(sighting))

    def _break_off(self, sighting: Sighting, time: datetime) -> None:
        """Give an event that became far stronger than the others of its case a case of its own."""
        record = next((r for r in self.records if sighting in r.case.sightings and r.merged_into is None), None)
        score = next((score for at, score in sighting.climbs if at == time), 0.0)
        if record is None or score <= sudden_peak(sighting, record.case):
            return
        strong = replace(sighting, head_peak=max(sighting.head_peak, score))
        others = [case for case in self._candidates() if case is not record.case]
        self._move(sighting, record, choose_case(strong, others, self.rules, self.clock), time)

    def _join_moves(self, time: datetime) -> None:
        """Join to the case of a regime that moved on several machines those that show it."""
        for common in [r for r in self.records if r.is_active and r.case.is_common]:
            others = [r.case for r in self.records if r.is_active and r.label is None]
            while joined := same_move(common.case, others):
                self._merge(self._record_of(joined[0]), common, time, "a verdict says that its machines moved alike")
                others = [case for case in others if case is not joined[0]]

    def _merge(self, record: Record, into: Record, time: datetime, reason: str) -> None:
        case, target = record.case, into.case
        target.sightings = sorted(
            [*target.sightings, *case.sightings], key=lambda s: (s.told_at, s.machine_id, s.event_id)
        )
        target.findings = sorted([*target.findings, *case.findings], key=lambda f: (f.told_at, f.verdict_id))
        target.longest_pause = max(target.longest_pause, case.longest_pause)
        case.sightings, case.findings = [], []
        record.merged_into = target.case_id
        self._set_state(record, "merged", "merged", time, f"one with {target.case_id}: {reason}")
        self._touch(into)

    def _comes_back(self, record: Record, sighting: Sighting) -> None:
        """Open a case again that was closed, unless a person knows its cause, or has decided while it went on."""
        if record.state != "closed" or record.label in _LASTING:
            return
        pause = measure_pause(sighting, record.case, self.clock)
        if record.label is not None and pause < record.case.lasts_until(self.rules):
            return
        self._reopen(record, sighting.told_at, "the same came back")

    def _reopen(self, record: Record, time: datetime, reason: str) -> None:
        record.n_reopened += 1
        record.closed_at = None
        self._set_state(record, "reopened", "open", time, reason)

    def _close_quiet(self, time: datetime) -> None:
        for record in self.records:
            if not record.is_active or any(f.verdict_id in self.unsettled for f in record.case.findings):
                continue
            due = self._due_of(record)
            if due is not None and due <= time:
                record.closed_at = due
                self._set_state(record, "closed", "closed", due, "its machines have been normal for long enough")

    def _due_of(self, record: Record) -> datetime | None:
        case = record.case
        if case.case_id not in self._due:
            if case.sightings:
                length = case.lasts_until(self.rules)
                self._due[case.case_id] = self.clock.reached(case.machines, case.segments, case.last_seen(), length)
            else:  # a verdict alone is over when it is settled
                self._due[case.case_id] = case.last_seen()
        due = self._due[case.case_id]
        return None if due is None else max([due, *(f.ended_at for f in case.findings if f.ended_at is not None)])

    def _candidates(self) -> list[Case]:
        return [record.case for record in self.records if record.merged_into is None]

    def _record_of(self, case: Case) -> Record:
        return next(record for record in self.records if record.case is case)

    def _open(self, origin: str, time: datetime) -> Record:
        case = Case(mint_case_id(origin, self.known_ids))
        self.known_ids.add(case.case_id)
        record = Record(case)
        self.records.append(record)
        self.changes.append(Change(case.case_id, "opened", None, "open", time, ""))
        return record

    def _set_state(self, record: Record, change: ChangeKind, state: State, time: datetime, reason: str) -> None:
        self.changes.append(Change(record.case.case_id, change, record.state, state, time, reason))
        record.state = state
        if state != "shelved":
            record.shelved_until = None
        self._touch(record)

    def _touch(self, record: Record) -> None:
        record.is_touched = True
        record.case.forget()
        self._due.pop(record.case.case_id, None)


@dataclass(frozen=True)
class _Climb:
    sighting: Sighting


@dataclass(frozen=True)
class _End:
    event_id: str
