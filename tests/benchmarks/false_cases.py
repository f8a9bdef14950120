"""The share of false cases that people are told of against what was promised, on a hundred simulated plant-years.

    python tests/benchmarks/false_cases.py
    python tests/benchmarks/false_cases.py --alarms-per-week 1 --kinds 2

A year of three machines with a reading each ten minutes: six sensors, each like itself by a correlation of 0.9 from one
reading to the next. The first thirty days calibrate, in the blocks of the pipeline; then p-values, events, cases and
the promise are those of pwflow, night by night. Faults, two a week, shift a sensor by 3 to 12 standard deviations for
twenty minutes to twelve hours. Of the cases that were told, people mark seven in ten, on average ten days later. A case
is false if no fault touches it. Printed for each kind of plant, with 95% intervals over the plants: the share of false
cases at the end of the year and the largest at any time, the cases a week that are raised and that are told, all and
false ones, the false events a week, and the share of faults with a case that is raised and that is told. Plants with
heavy tails have sensors of Student's distribution, and a density that takes them to be Gaussian, so that p-values far
below those of the held-out readings are too small.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
from measuring import command_line
from numpy.typing import NDArray
from scipy import stats
from scipy.signal import lfilter

from pwflow_core.modelling.calibration import Calibration, calibrate
from pwflow_core.pipeline.cases.book import CaseBook
from pwflow_core.pipeline.cases.case import Rules, Sighting
from pwflow_core.pipeline.cases.clock import RunningTime
from pwflow_core.pipeline.cases.lifecycle import Record
from pwflow_core.pipeline.cases.promise import choose_told, e_values, share_of_day
from pwflow_core.pipeline.readings.rate import DEFAULT_GAP_INTERVALS, rate_of_events
from pwflow_core.pipeline.readings.timing import BLOCK_READINGS
from pwflow_core.pipeline.scoring.events import find_events

EPOCH, START = datetime(1970, 1, 1), datetime(2026, 1, 1)  # noqa: DTZ001 - UTC, as the tables have it
MINUTES, PER_DAY, N_MACHINES, N_SENSORS = 10, 144, 3, 6
MEMORY = 0.9
LEARNED_DAYS = 30
GAP = timedelta(minutes=DEFAULT_GAP_INTERVALS * MINUTES)
QUIET = min(72 * GAP, timedelta(days=3))
RULES = Rules(QUIET, 4 * QUIET, GAP)
PART = QUIET / 24
FAULTS_A_WEEK, MARKED, LATE_DAYS = 2.0, 0.7, 10.0

Array = NDArray[np.float64]


@dataclass
class Year:
    """What a year of one plant came to; the lists have a value for each night."""

    n_raised: int = 0
    n_raised_false: int = 0
    n_told: int = 0
    n_told_false: int = 0
    n_events_false: int = 0
    n_faults: int = 0
    n_seen: int = 0
    n_seen_told: int = 0
    shares: list[float] = field(default_factory=list)


@dataclass
class Plant:
    """Simulated readings: sensors have shape (machines, times, sensors), `fault` is the number of the fault or -1."""

    sensors: Array
    fault: NDArray[np.int64]
    n_faults: int


def simulate(rng: np.random.Generator, days: int, *, faults_a_week: float, freedom: float | None) -> Plant:
    """Simulate the sensors of a plant, in standard deviations; with `freedom` their tails are those of Student."""
    n = days * PER_DAY
    noise = rng.standard_normal((N_MACHINES, n + 200, N_SENSORS)) * np.sqrt(1 - MEMORY**2)
    sensors = lfilter([1.0], [1.0, -MEMORY], noise, axis=1)[:, 200:]
    if freedom is not None:
        sensors = stats.t.ppf(stats.norm.cdf(sensors), freedom)
    fault = np.full((N_MACHINES, n), -1)
    first = LEARNED_DAYS * PER_DAY
    n_faults = 0
    for _ in range(rng.poisson(faults_a_week * (days - LEARNED_DAYS) / 7)):
        machine, start = int(rng.integers(N_MACHINES)), int(rng.integers(first, n - 72))
        length = round(np.exp(rng.uniform(np.log(2), np.log(72))))
        if (fault[machine, max(start - 12, 0) : start + length + 12] >= 0).any():
            continue
        shift = rng.uniform(3, 12) * rng.choice([-1, 1])
        sensors[machine, start : start + length, rng.integers(N_SENSORS)] += shift
        fault[machine, start : start + length] = n_faults
        n_faults += 1
    return Plant(sensors, fault, n_faults)


def calibrate_plant(log_density: Array) -> Calibration:
    """Calibrate on every other block of the days that were learned from."""
    learned = log_density[:, : LEARNED_DAYS * PER_DAY]
    place = np.arange(learned.shape[1]) // BLOCK_READINGS
    block = np.arange(N_MACHINES)[:, None] * (place.max() + 1) + place
    held_out = (block % 2 == 0).ravel()
    return calibrate(learned.ravel()[held_out], blocks=block.ravel()[held_out])


def find_sightings(plant: Plant, p_value: Array, alpha: float) -> list[tuple[Sighting, NDArray[np.intp]]]:
    """Return the events after the days that were learned from, each with its anomalies, as rows of (machine, time)."""
    n = p_value.shape[1]
    machine, place = np.divmod(np.arange(p_value.size), n)
    p, seconds = p_value.ravel(), place * 60.0 * MINUTES
    later = place >= LEARNED_DAYS * PER_DAY
    rows = np.flatnonzero(later)
    sensors = plant.sensors.reshape(-1, N_SENSORS)
    found = []
    for event in find_events(
        p[rows], machine[rows], seconds[rows], alpha=alpha, gap_seconds=GAP.total_seconds(), min_readings=2
    ):
        places = rows[event]
        times = [START + timedelta(minutes=int(MINUTES * t)) for t in place[places]]
        score = -np.log10(p[places])
        told = 0 if p[places[0]] <= alpha / 100 else min(1, len(places) - 1)
        cause = sensors[places] ** 2
        whole, head = (
            dict(zip(map(str, range(N_SENSORS)), part.sum(axis=0), strict=True)) for part in (cause, cause[: told + 1])
        )
        climbs = tuple((times[i], float(score[i])) for i in range(told + 1, len(places)) if score[i] > score[:i].max())
        of = str(machine[places[0]])
        found.append(
            (
                Sighting(
                    event_id=f"E-{places[0]}",
                    machine_id=of,
                    started_at=times[0],
                    told_at=times[told],
                    ended_at=times[-1],
                    lasted_until=times[-1],
                    n_readings=len(places),
                    peak=float(score.max()),
                    head_peak=float(score[: told + 1].max()),
                    cluster_key="c0001",
                    segment="A",
                    blame=whole,
                    head_blame=head,
                    climbs=climbs,
                ),
                places,
            )
        )
    return found


def live(plant: Plant, p_value: Array, alpha: float, promise: float, rng: np.random.Generator) -> Year:
    """Read a year night by night into cases, tell them by the promise, and mark what was told."""
    n = p_value.shape[1]
    days = n // PER_DAY
    p, fault = p_value.ravel(), plant.fault.ravel()
    number = np.arange(n) // PER_DAY - LEARNED_DAYS + 1
    share = np.where(number >= 1, share_of_day(np.maximum(number, 1)), 0.0)  # type: ignore[arg-type]
    weight = e_values(p, alpha) * np.tile(share, N_MACHINES) / (N_MACHINES * PER_DAY)
    sightings = find_sightings(plant, p_value, alpha)
    evidence = {s.event_id: float(weight[places].sum()) for s, places in sightings}
    touched = {s.event_id: set(fault[places].tolist()) - {-1} for s, places in sightings}
    of_night: dict[int, list[Sighting]] = {}
    for sighting, _ in sightings:  # an event is read in the night after its end
        of_night.setdefault((sighting.ended_at - START).days, []).append(sighting)
    first = int((START - EPOCH) / PART)
    parts = np.arange(first, first + int(days * timedelta(days=1) / PART) + 2)
    year, ids = Year(n_faults=plant.n_faults), set[str]()
    records: list[Record] = []
    over: list[Record] = []
    spent: set[str] = set()
    told: dict[str, bool] = {}
    due: dict[str, int] = {}
    for day in range(LEARNED_DAYS, days):
        end = START + timedelta(days=day + 1)
        so_far = parts[: np.searchsorted(parts, int((end - EPOCH) / PART), side="right")]
        book = CaseBook(RULES, RunningTime(PART, {(str(m), "A"): so_far for m in range(N_MACHINES)}), records, ids)
        book.read(of_night.get(day, []), [], until=end)
        ids = book.known_ids
        cases = {record.case.case_id: record for record in (*over, *book.records)}
        sums = {
            case_id: sum(evidence[s.event_id] for s in record.case.sightings if s.event_id not in spent)
            for case_id, record in cases.items()
            if case_id not in told and record.label is None and record.merged_into is None
        }
        n_told = sum(cases[case_id].label != "normal" for case_id in told)
        for case_id in choose_told(sums, promise, n_told):
            events = [s.event_id for s in cases[case_id].case.sightings]
            told[case_id] = not any(touched[event] for event in events)
            spent.update(events)
            if rng.random() < MARKED:
                due[case_id] = day + 1 + int(rng.exponential(LATE_DAYS))
        for case_id in [case_id for case_id, late in due.items() if late <= day]:
            mark(cases[case_id], is_false=told[case_id])
            del due[case_id]
        year.shares.append(sum(told.values()) / max(len(told), 1))
        is_over = [not r.is_active and (r.merged_into is not None or _is_past(r, end)) for r in book.records]
        over += [record for record, past in zip(book.records, is_over, strict=True) if past]
        records = [record for record, past in zip(book.records, is_over, strict=True) if not past]
    records += over
    sum_up(year, records, told, touched)
    year.n_events_false = sum(not faults for faults in touched.values())
    return year


def _is_past(record: Record, end: datetime) -> bool:
    """Tell whether a closed case is too old to come back; the machines run all the time."""
    return record.case.last_seen() + record.case.comes_back_until(RULES) + timedelta(days=1) < end


def mark(record: Record, *, is_false: bool) -> None:
    """Have a person say what a case was."""
    if record.merged_into is None:
        record.state, record.label = "closed", "normal" if is_false else "fault"


def sum_up(year: Year, records: list[Record], told: dict[str, bool], touched: dict[str, set[int]]) -> None:
    """Count the cases of a year and the faults that have one."""
    seen: set[int] = set()
    seen_told: set[int] = set()
    for record in records:
        if record.merged_into is not None:
            continue
        faults = set().union(*(touched[s.event_id] for s in record.case.sightings))
        year.n_raised += 1
        year.n_raised_false += not faults
        seen |= faults
        seen_told |= faults if record.case.case_id in told else set()
    year.n_told, year.n_told_false = len(told), sum(told.values())
    year.n_seen, year.n_seen_told = len(seen), len(seen_told)


def mean_of(values: list[float]) -> str:
    """Write a mean with its 95% interval."""
    mean, error = float(np.mean(values)), 1.96 * float(np.std(values)) / np.sqrt(len(values))
    return f"{mean:.3f} ± {error:.3f}"


def summarise(years: list[Year], weeks: float) -> str:
    """Return the cells of a row: means over the plants."""
    n_faults = max(sum(year.n_faults for year in years), 1)
    pairs = [
        (mean_of([getattr(year, name) / weeks for year in years]) for name in names)
        for names in (("n_raised", "n_told"), ("n_raised_false", "n_told_false"))
    ]
    cells = [
        mean_of([year.shares[-1] for year in years]),
        mean_of([max(year.shares) for year in years]),
        *(" / ".join(pair) for pair in pairs),
        mean_of([year.n_events_false / weeks for year in years]),
        " / ".join(
            f"{sum(getattr(year, name) for year in years) / n_faults:.2f}" for name in ("n_seen", "n_seen_told")
        ),
    ]
    return " | ".join(cells)


KINDS: tuple[tuple[str, float, float | None], ...] = (
    ("tails as they are fitted", FAULTS_A_WEEK, None),
    ("the same without faults", 0.0, None),
    ("heavier tails: Student, 8 degrees", FAULTS_A_WEEK, 8.0),
    ("the same without faults", 0.0, 8.0),
    ("far heavier: Student, 4 degrees, without faults", 0.0, 4.0),
)
"""Name, faults a week, and degrees of freedom of the sensors; None is Gaussian."""


def main() -> None:
    """Simulate the years and print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--plants", type=int, default=100)
    parser.add_argument("--promise", type=float, default=0.2)
    parser.add_argument("--alpha", type=float, default=0.001)
    parser.add_argument("--kinds", type=int, default=len(KINDS), help="Only the first of the kinds of plants.")
    parser.add_argument("--alarms-per-week", type=float, help="A budget of false events instead of alpha.")
    arguments = parser.parse_args()
    n_plants, days = (2, 60) if arguments.smoke else (arguments.plants, 365 + LEARNED_DAYS)
    weeks = (days - LEARNED_DAYS) / 7
    print(
        "| plant | share of false cases, end of the year | largest at any time | cases a week, raised / told | "
        "false ones a week, raised / told | false events a week | faults with a case, raised / told |\n"
        "|---|---|---|---|---|---|---|"
    )
    for kind, faults_a_week, freedom in KINDS[: arguments.kinds]:
        years = []
        for seed in range(n_plants):
            rng = np.random.default_rng(seed)
            plant = simulate(rng, days, faults_a_week=faults_a_week, freedom=freedom)
            log_density = np.asarray(-0.5 * (plant.sensors**2).sum(axis=2))
            calibration = calibrate_plant(log_density)
            alpha = arguments.alpha
            if arguments.alarms_per_week is not None:
                per_reading = arguments.alarms_per_week / (7 * PER_DAY * N_MACHINES)
                alpha = rate_of_events(per_reading, 2, DEFAULT_GAP_INTERVALS, calibration.tail_dependence)
            p_value = calibration.p_values(log_density.ravel()).reshape(log_density.shape)
            years.append(live(plant, p_value, alpha, arguments.promise, rng))
        print(f"| {kind} | {summarise(years, weeks)} |", flush=True)


if __name__ == "__main__":
    main()
