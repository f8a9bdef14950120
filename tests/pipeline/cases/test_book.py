"""Laws of the book of cases: what a night sees does not change what the cases are, and no id is told twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pwflow_core.pipeline.cases.book import CaseBook
from pwflow_core.pipeline.cases.case import Finding, Rules, Sighting, mint_case_id
from pwflow_core.pipeline.cases.clock import RunningTime
from pwflow_core.pipeline.cases.lifecycle import Record
from pwflow_core.pipeline.scoring.events import find_events
from tests.conftest import examples

pytestmark = pytest.mark.quick

START = datetime(2026, 1, 5)  # noqa: DTZ001 - UTC without saying so, as in the tables
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
RULES = Rules(quiet=12 * HOUR, comeback=48 * HOUR, gap=15 * MINUTE)
PART = HOUR / 2
SENSORS = ("flow", "pressure", "speed", "current")
END = 14 * 24 * HOUR


def clock_until(end: datetime, gaps: tuple[tuple[int, int], ...] = ()) -> RunningTime:
    """Return the clock of two machines that change their segment every six hours, as it is known at a time."""
    first = int((START - datetime(1970, 1, 1)) / PART)  # noqa: DTZ001
    parts: dict[tuple[str, str], list[int]] = {}
    for machine in ("M1", "M2"):
        for number in range(int((end - START) / PART) + 1):
            hour = number // 2
            if not any(a <= hour < b for a, b in gaps):
                parts.setdefault((machine, "AB"[hour // 6 % 2]), []).append(first + number)
    return RunningTime(PART, {key: np.array(numbers) for key, numbers in parts.items()})


def make_sighting(
    hour: float,
    machine: str = "M1",
    blame: dict[str, float] | None = None,
    *,
    peak: float = 6.0,
    minutes: int = 10,
    segment: str | None = None,
    key: str = "c0001",
) -> Sighting:
    started = START + hour * HOUR
    blame = blame or {"flow": 1.0}
    return Sighting(
        event_id=f"E-{int(hour * 3600) * 10 + int(machine[-1])}",
        machine_id=machine,
        started_at=started,
        told_at=started + MINUTE,
        ended_at=started + minutes * MINUTE,
        lasted_until=started + minutes * MINUTE,
        n_readings=minutes,
        peak=peak,
        head_peak=min(peak, 5.0),
        cluster_key=key,
        segment=segment or "AB"[int(hour) // 6 % 2],
        blame=blame,
        head_blame=blame,
        climbs=((started + (minutes // 2) * MINUTE, peak),) if peak > 5 else (),
    )


def make_finding(hour: float, machines: tuple[str, ...], sensors: tuple[str, ...] = (), **about: object) -> Finding:
    values = {"keys": ("c0001",), "segments": ("A",), "is_common": len(machines) > 1} | about
    told = START + hour * HOUR
    return Finding(f"v{hour}", "regime_moved", told, told - 48 * HOUR, machines, sensors=sensors, **values)  # type: ignore[arg-type]


def known_at(sighting: Sighting, end: datetime) -> Sighting | None:
    """Return what is known of an event at a time; None if it is none yet."""
    if sighting.told_at > end:
        return None
    if sighting.ended_at <= end:
        return sighting
    share = (end - sighting.started_at) / (sighting.ended_at - sighting.started_at)
    climbs = tuple(climb for climb in sighting.climbs if climb[0] <= end)
    return replace(
        sighting,
        ended_at=end,
        lasted_until=end,
        n_readings=max(2, int(share * sighting.n_readings)),
        peak=max([score for _, score in climbs] or [sighting.head_peak]),
        blame=sighting.head_blame,
        climbs=climbs,
    )


def read_history(sightings: list[Sighting], findings: list[Finding], nights: list[datetime]) -> CaseBook:
    """Read a history night by night; each book starts with what the one before left."""
    records: list[Record] = []
    ids: set[str] = set()
    told: dict[int, Sighting] = {}
    book = CaseBook(RULES, clock_until(START))
    for end in nights:
        book = CaseBook(RULES, clock_until(end), records, ids)
        now = {s.event_id: known for s in sightings if (known := known_at(s, end)) is not None}
        fresh = [s for event_id, s in now.items() if event_id not in told]
        grown = [s for event_id, s in now.items() if event_id in told and told[event_id] != s]
        before = {f.verdict_id for record in records for f in record.case.findings}
        book.read(fresh, [f for f in findings if f.told_at <= end and f.verdict_id not in before], grown, end)
        told = now
        records, ids = book.records, book.known_ids
    return book


def summarise(book: CaseBook) -> dict[str, object]:
    return {
        record.case.case_id: (
            record.state,
            record.n_reopened,
            record.merged_into,
            record.closed_at,
            record.case.longest_pause,
            [s.event_id for s in record.case.sightings],
            [f.verdict_id for f in record.case.findings],
        )
        for record in book.records
    }


@st.composite
def histories(draw: st.DrawFn) -> list[Sighting]:
    """Draw events of two machines; those of one machine follow each other."""
    found = []
    for machine in ("M1", "M2"):
        hour = 0.0
        for _ in range(draw(st.integers(0, 9))):
            hour += draw(st.sampled_from([0.6, 1.0, 2.0, 5.0, 13.0, 26.0, 60.0]))
            minutes = draw(st.sampled_from([2, 10, 35]))
            if hour * HOUR > END - 2 * HOUR:
                break
            main, other = draw(st.permutations(SENSORS))[:2]
            share = draw(st.sampled_from([1.0, 0.7, 0.5]))
            blame = {main: share, other: 1 - share}
            peak = draw(st.sampled_from([4.0, 9.0, 40.0]))
            found.append(make_sighting(hour, machine, blame, peak=peak, minutes=minutes))
            hour += minutes / 60
    return found


@given(histories(), st.lists(st.integers(1, int(END / MINUTE) - 1), max_size=6, unique=True), st.booleans())
@hypothesis_settings(max_examples=examples(60, 600), deadline=None)
def test_the_same_history_ends_in_the_same_cases_in_any_split_of_nights(sightings, cuts, with_verdict):
    findings = [make_finding(24 * 7, ("M1", "M2"), ("flow",))] if with_verdict else []
    nights = [START + cut * MINUTE for cut in sorted(cuts)]
    whole = read_history(sightings, findings, [START + END])
    split = read_history(sightings, findings, [*nights, START + END])
    assert summarise(split) == summarise(whole)


@given(histories(), st.integers(1, int(END / MINUTE) - 1))
@hypothesis_settings(max_examples=examples(30, 300), deadline=None)
def test_every_event_is_in_one_case_and_every_case_stays_known(sightings, cut):
    first = read_history(sightings, [], [START + cut * MINUTE])
    told = {record.case.case_id for record in first.records}
    book = read_history(sightings, [], [START + cut * MINUTE, START + END])
    assert told <= {record.case.case_id for record in book.records}
    events = [s.event_id for record in book.records for s in record.case.sightings]
    assert sorted(events) == sorted(s.event_id for s in sightings)


def cases_of(book: CaseBook) -> list[Record]:
    return [record for record in book.records if record.merged_into is None]


def test_events_of_one_sensor_that_follow_each_other_are_one_case_across_segments():
    book = read_history(
        [make_sighting(h, blame={"flow": 0.9, "speed": 0.1}) for h in range(1, 40, 3)], [], [START + END]
    )
    [record] = cases_of(book)
    assert {s.segment for s in record.case.sightings} == {"A", "B"}
    assert record.state == "closed"


def test_faults_on_different_sensors_of_one_machine_are_two_cases():
    book = read_history([make_sighting(1), make_sighting(2, blame={"speed": 1.0}), make_sighting(3)], [], [START + END])
    assert sorted(len(record.case.sightings) for record in cases_of(book)) == [1, 2]


def test_what_comes_back_soon_opens_the_same_case_again_and_later_it_is_another():
    soon = read_history([make_sighting(1), make_sighting(26)], [], [START + END])
    [record] = cases_of(soon)
    assert [change.change for change in soon.changes] == ["opened", "closed", "reopened", "closed"]
    assert record.n_reopened == 1
    late = read_history([make_sighting(1), make_sighting(205)], [], [START + END])
    assert len(cases_of(late)) == 2


def test_a_fault_that_comes_every_second_day_stays_one_case_by_its_rhythm():
    hours = [1.0, 31.0, 31 + 60.0, 31 + 60 + 90.0]
    book = read_history([make_sighting(h, segment="A") for h in hours], [], [START + END])
    assert len(cases_of(book)) == 1


def test_a_case_does_not_close_while_its_machine_stands_still():
    clock = clock_until(START + 100 * HOUR, gaps=((3, 100),))
    book = CaseBook(RULES, clock)
    book.read([make_sighting(1)], [], until=START + 100 * HOUR)
    assert book.records[0].state == "open"


def test_an_event_far_stronger_than_a_faint_case_is_a_case_of_its_own():
    faint = [make_sighting(h, peak=4.0) for h in (1, 2, 3)]
    book = read_history([*faint, make_sighting(4, peak=60.0, minutes=30)], [], [START + END])
    assert sorted(len(record.case.sightings) for record in cases_of(book)) == [1, 3]


def test_a_verdict_that_machines_moved_alike_joins_their_cases_to_one_and_takes_what_follows():
    sightings = [make_sighting(h, m, segment="A") for h in (60, 61, 62) for m in ("M1", "M2")]
    later = [make_sighting(h, m, segment="A") for h in (80, 82) for m in ("M1", "M2")]
    book = read_history([*sightings, *later], [make_finding(72, ("M1", "M2"), ("flow",))], [START + END])
    [record] = cases_of(book)
    assert record.case.machines == ("M1", "M2")
    assert len(record.case.sightings) == 10
    merged = [r for r in book.records if r.merged_into]
    assert {r.merged_into for r in merged} == {record.case.case_id}


def test_an_event_whose_head_blames_the_wrong_sensor_is_in_the_end_in_the_case_of_its_cause():
    flow = [make_sighting(h) for h in (1, 3)]
    misled = replace(make_sighting(5), head_blame={"speed": 1.0})
    early = read_history([*flow, misled], [], [START + 5 * HOUR + 5 * MINUTE])
    assert sorted(len(record.case.sightings) for record in cases_of(early)) == [1, 2]
    late = read_history([*flow, misled], [], [START + 5 * HOUR + 5 * MINUTE, START + END])
    [record] = cases_of(late)
    assert len(record.case.sightings) == 3
    assert [r.merged_into for r in late.records if r.merged_into] == [record.case.case_id]


def test_a_move_explains_faint_events_of_its_regime_and_neither_strong_ones_nor_those_that_blame_another_sensor():
    moved = [make_sighting(h, m, {"flow": 0.6, "speed": 0.4}, peak=5.0) for h in (60, 61, 62) for m in ("M1", "M2")]
    faint = make_sighting(84, blame={"current": 0.6, "speed": 0.4}, peak=5.0)
    strong = make_sighting(86, blame={"current": 0.6, "speed": 0.4}, peak=30.0)
    other = make_sighting(88, "M2", blame={"pressure": 1.0}, peak=5.0)
    finding = make_finding(72, ("M1", "M2"), ("flow",))
    segments = {s.segment for s in (*moved, faint, strong, other)}
    finding = replace(finding, segments=tuple(segments))
    book = read_history([*moved, faint, strong, other], [finding], [START + END])
    sizes = sorted(len(record.case.sightings) for record in cases_of(book))
    assert sizes == [1, 1, 7]


def test_a_move_takes_what_it_explains_since_it_began_out_of_closed_cases_and_nothing_from_before():
    before = make_sighting(14, "M1", {"flow": 1.0}, segment="A", peak=5.0)
    since = [make_sighting(h, "M1", {"flow": 0.7, "speed": 0.3}, segment="A", peak=5.0) for h in (100, 101)]
    follows = [make_sighting(h, m, segment="A", peak=5.0) for h in (220, 221) for m in ("M1", "M2")]
    finding = make_finding(200, ("M1", "M2"), ("flow",))
    finding = replace(finding, since=START + 96 * HOUR)
    book = read_history([before, *since, *follows], [finding], [START + 190 * HOUR, START + END])
    closed, moved = cases_of(book)
    assert [s.event_id for s in closed.case.sightings] == [before.event_id]
    assert len(moved.case.sightings) == 6
    assert [r.merged_into for r in book.records if r.merged_into] == [moved.case.case_id]


def test_an_event_of_a_moved_regime_goes_to_the_move_though_another_case_blames_more_of_it_unless_it_is_long():
    moved = [make_sighting(h, m, {"flow": 0.7, "speed": 0.3}, peak=5.0) for h in (60, 61, 62) for m in ("M1", "M2")]
    elsewhere = [make_sighting(h, blame={"current": 1.0}, peak=5.0, key="c0002") for h in (80, 82)]
    short = make_sighting(84, blame={"speed": 0.5, "current": 0.5}, peak=5.0)
    long = make_sighting(86, blame={"speed": 0.5, "current": 0.5}, peak=5.0, minutes=120)
    finding = make_finding(72, ("M1", "M2"), ("flow",), segments=("A", "B"))
    book = read_history([*moved, *elsewhere, short, long], [finding], [START + END])
    owner = {s.event_id: r.case.case_id for r in cases_of(book) for s in r.case.sightings}
    assert owner[short.event_id] == owner[moved[0].event_id]
    assert owner[long.event_id] == owner[elsewhere[0].event_id] != owner[short.event_id]


def test_what_comes_back_after_its_case_was_over_has_to_blame_much_the_same():
    alike = make_sighting(26, blame={"flow": 0.9, "speed": 0.1})
    partly = make_sighting(26, blame={"flow": 0.4, "speed": 0.35, "current": 0.25})
    assert len(cases_of(read_history([make_sighting(1), alike], [], [START + END]))) == 1
    assert len(cases_of(read_history([make_sighting(1), partly], [], [START + END]))) == 2
    assert (
        len(cases_of(read_history([make_sighting(1), make_sighting(3, blame=dict(partly.blame))], [], [START + END])))
        == 1
    )


def test_two_verdicts_for_one_fact_are_one_case():
    about = {"is_common": False, "segments": ("A", "B")}
    findings = [
        make_finding(72, ("M1",), ("flow",), **about),
        make_finding(73, ("M1",), ("flow", "pressure"), keys=("c0002",), **about),
    ]
    book = read_history([], findings, [START + END])
    [record] = cases_of(book)
    assert len(record.case.findings) == 2


def test_a_case_with_a_verdict_that_wants_an_answer_stays_open():
    finding = make_finding(72, ("M1",), ("flow",), is_common=False)
    book = CaseBook(RULES, clock_until(START + END), unsettled={finding.verdict_id})
    book.read([make_sighting(60)], [finding], until=START + END)
    assert [record.state for record in cases_of(book)] == ["open"]


def test_an_id_is_never_minted_twice():
    first = mint_case_id("M1/5", set())
    second = mint_case_id("M1/5", {first})
    assert first != second
    assert mint_case_id("M1/5", set()) == first


@pytest.mark.parametrize(
    ("label", "state", "n_told"), [("fault", "open", 1), ("normal", "closed", 0), ("known", "closed", 0)]
)
def test_a_fault_that_comes_back_opens_its_case_and_a_cause_that_is_known_does_not(label, state, n_told):
    first = read_history([make_sighting(1)], [], [START + 20 * HOUR])
    [record] = first.records
    record.label, record.state = label, "closed"
    book = CaseBook(RULES, clock_until(START + 27 * HOUR), first.records, first.known_ids)
    book.read([make_sighting(26)], [], until=START + 27 * HOUR)
    [record] = book.records
    assert (record.state, len(record.case.sightings)) == (state, 2)
    assert len(book.changes) == n_told


@given(
    st.floats(0.4, 30),
    st.lists(st.floats(0.5, 1.0), min_size=60, max_size=60),
)
@hypothesis_settings(max_examples=examples(30, 300), deadline=None)
def test_a_cause_that_comes_and_goes_is_one_case_and_a_few_messages_whatever_its_rhythm(pause, jitter):
    """It falls silent for up to 30 hours, longer than a case stays open at first, and comes back for two weeks."""
    hours = [1.0]
    for part in jitter:
        if hours[-1] + pause * part + 1 < END / HOUR - 1:
            hours.append(hours[-1] + pause * part + 0.2)
    sightings = [make_sighting(hour, segment="A") for hour in hours]
    whole = sorted({int(number) for numbers in clock_until(START + END).parts.values() for number in numbers})
    clock = RunningTime(PART, {("M1", "A"): np.array(whole)})
    book = CaseBook(RULES, clock)
    book.read(sightings, [], until=START + END)
    [record] = cases_of(book)
    assert len(record.case.sightings) == len(sightings)
    kinds = [change.change for change in book.changes]
    assert kinds.count("reopened") <= 2, "each pause that was too long doubles the patience"
    assert len(kinds) <= 6


@pytest.mark.parametrize("every", [2, 5, 9, 12, 30])
def test_a_signal_that_chatters_about_the_limit_for_a_day_is_one_case(every):
    """Two readings in a few are anomalies: one event where they are close, else many events of one case."""
    p_value = np.full(1440, 0.5)
    p_value[60::every] = 5e-4
    p_value[61::every] = 8e-4
    events = find_events(p_value, np.ones(1440), 60.0 * np.arange(1440), alpha=0.001, gap_seconds=600.0, min_readings=2)
    assert len(events) == (1 if every <= 10 else 1440 // every - 60 // every)
    sightings = [
        make_sighting(float(rows[0]) / 60, segment="A", minutes=int(rows[-1] - rows[0]), peak=3.3) for rows in events
    ]
    book = read_history(sightings, [], [START + END])
    [record] = cases_of(book)
    assert [change.change for change in book.changes] == ["opened", "closed"]
    assert len(record.case.sightings) == len(events)
