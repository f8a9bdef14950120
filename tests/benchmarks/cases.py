"""Cases per labelled fault on simulated plants: how many a person is told of, and what each joins.

    python tests/benchmarks/cases.py --keep /tmp/plants
    python tests/benchmarks/cases.py --false-cases 0.2

Sixty days of five plants with known faults, and a tool that wears from day 40 on. An event belongs to a fault that it
overlaps on its machine if that has the sensor blamed most; else to what has most of its blame, such a fault or the
wear, where most of its readings are worn, if one of their sensors is among the three blamed most. Printed for each
plant: events and cases in a week, cases per fault, the largest number of cases of one fault and of the wear, and cases
that join faults without a common sensor. With --keep, plants that were trained before are used again, and the cases are
derived again: a change of the rules is tried in seconds. With --false-cases, also the cases that are told at that
promise, those of them that belong to no fault, and the faults with a case that is told.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import duckdb
from measuring import command_line
from plants import TINY, bundled_config, learn_and_score, read_all

from pwflow_core.pipeline.cases.deriving import derive_cases
from pwflow_core.pipeline.decisions.verdicts import Decider
from pwflow_core.pipeline.drift.evidence import follow_drift
from pwflow_core.pipeline.drift.health import derive_health
from pwflow_core.pipeline.scoring.contributions import explain_anomalies
from pwflow_core.pipeline.scoring.events import derive_events
from pwflow_core.plant import Plant
from pwflow_core.simulation import write_exports
from pwflow_core.simulation.physics import AGEING_END_SHIFT

SEEDS = (7, 11, 23, 31, 57)
WEAR = "wear"
PROMISE = ("mart.told_cases", "mart.event_evidence", "mart.promise_days")
TABLES = ("mart.cases", "mart.case_events", "mart.case_changes", "mart.alarm_log", *PROMISE)
EVENTS = """
SELECT
    told.case_id,
    told.event_id,
    evidence.blame,
    coalesce(avg(truth.is_aged::INT), 0) AS share_worn,
    (
        SELECT list({{'fault_id': fault_id, 'sensors': sensors}} ORDER BY "start")
        FROM '{faults}' AS fault
        WHERE fault.machine = told.machine_id
          AND fault."start"::TIMESTAMP <= told.ended_at AND fault."end"::TIMESTAMP >= told.started_at
    ) AS faults
FROM mart.case_events AS told
JOIN core.case_evidence AS evidence USING (event_id)
LEFT JOIN '{truth}' AS truth
  ON truth.machine = told.machine_id AND truth."timestamp"::TIMESTAMP BETWEEN told.started_at AND told.ended_at
GROUP BY ALL
ORDER BY told.event_id
"""


@dataclass(frozen=True)
class Result:
    """What the cases of one plant come to."""

    n_weeks: float
    n_events: int
    n_cases: int
    n_opened: int
    per_fault: dict[str, int]
    n_joined: int
    n_without_fault: int
    n_told: int
    n_told_without: int
    n_faults_told: int


def make_plant(folder: Path, seed: int, days: int, **sections: object) -> Plant:
    """Simulate, learn and score a plant, unless that is there."""
    write_exports(folder, days, seed)
    plant = Plant.open(bundled_config(folder, **sections))
    is_made = folder / "made"
    if not is_made.exists():
        read_all(plant)
        learn_and_score(plant)
        explain_anomalies(plant)
        derive_events(plant)
        derive_health(plant)
        follow_drift(plant, run_id="benchmark")
        is_made.touch()
    return plant


def derive_again(plant: Plant) -> None:
    """Forget all cases and derive them."""
    with plant.warehouse.transaction() as connection:
        for table in (*TABLES, "core.case_profiles", "core.case_evidence"):
            connection.execute(f"DELETE FROM {table}")
        connection.execute("DELETE FROM core.progress WHERE step = 'cases'")
    derive_events(plant)
    derive_cases(plant, by=Decider("benchmark"))


def measure(plant: Plant, days: int) -> Result:
    """Compare the cases of a plant with its truth."""
    truth = plant.config.folder / "truth"
    with plant.warehouse.snapshot() as connection:
        query = EVENTS.format(faults=truth / "faults.parquet", truth=truth / "truth.parquet")
        rows = connection.execute(query).fetchall()
        [(n_cases, n_opened)] = connection.execute(
            "SELECT count(*) FILTER (state <> 'merged'), count(*) FROM mart.cases"
        ).fetchall()
        told = {
            row[0]
            for row in connection.execute("SELECT case_id FROM mart.cases WHERE told_as_of IS NOT NULL").fetchall()
        }
    sensors = dict(duckdb.sql(f"SELECT fault_id, sensors FROM '{truth / 'faults.parquet'}'").fetchall())
    sensors[WEAR] = list(AGEING_END_SHIFT)
    of_fault: dict[str, set[str]] = defaultdict(set)
    of_case: dict[str, Counter[str | None]] = defaultdict(Counter)
    for case_id, _, blame, share_worn, faults in rows:
        fault = find_fault(blame or {}, share_worn, faults or [])
        of_case[case_id][fault] += 1
        if fault is not None:
            of_fault[fault].add(case_id)
    n_joined = sum(
        any(not set(sensors[one]) & set(sensors[other]) for one, other in combinations(filter(None, found), 2))
        for found in of_case.values()
    )
    return Result(
        days / 7,
        len(rows),
        n_cases,
        n_opened,
        {fault: len(cases) for fault, cases in of_fault.items()},
        n_joined,
        sum(not any(found) for found in of_case.values()),
        len(told & of_case.keys()),
        sum(not any(of_case[case_id]) for case_id in told & of_case.keys()),
        sum(bool(cases & told) for fault, cases in of_fault.items() if fault != WEAR),
    )


def find_fault(blame: dict[str, float], share_worn: float, faults: list[dict[str, object]]) -> str | None:
    """Return the fault that an event belongs to; None if to none."""
    ranked = sorted(blame, key=lambda sensor: (-blame[sensor], sensor))[:3]
    ranked = [sensor for sensor in ranked if blame[sensor] >= 0.1 * sum(blame.values())] or ranked[:1]
    causes = [(str(fault["fault_id"]), set(fault["sensors"])) for fault in faults]  # type: ignore[call-overload]
    if share_worn >= 0.5:
        causes.append((WEAR, set(AGEING_END_SHIFT)))
    causes = [(name, sensors) for name, sensors in causes if set(ranked) & sensors]
    for name, sensors in causes:
        if name != WEAR and ranked[0] in sensors:
            return name
    shares = [sum(blame.get(sensor, 0.0) for sensor in sensors) for _, sensors in causes]
    return causes[shares.index(max(shares))][0] if causes else None


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--keep", type=Path, help="folder in which the trained plants stay")
    parser.add_argument("--false-cases", type=float, help="the promise that cases are told by")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    arguments = parser.parse_args()
    days = 4 if arguments.smoke else 60
    seeds = arguments.seeds[:1] if arguments.smoke else arguments.seeds
    sections = {**TINY, "training": {}} if arguments.smoke else {}
    if arguments.false_cases is not None:
        sections |= {"scoring": {"false_cases": arguments.false_cases}}
    root = arguments.keep or Path(tempfile.mkdtemp())
    print(
        "seed  events/week  cases/week  told/week  faults  cases/fault  most  wear  joined  without a fault"
        + ("  told  told without a fault  faults told" if arguments.false_cases is not None else "")
    )
    try:
        for seed in seeds:
            plant = make_plant(root / f"seed{seed}", seed, days, **sections)
            derive_again(plant)
            found = measure(plant, days)
            counts = list(found.per_fault.values()) or [0]
            others = [n for fault, n in found.per_fault.items() if fault != WEAR] or [0]
            print(
                f"{seed:4}  {found.n_events / found.n_weeks:11.1f}  {found.n_cases / found.n_weeks:10.1f}"
                f"  {found.n_opened / found.n_weeks:9.1f}  {len(found.per_fault):6}"
                f"  {sum(counts) / len(counts):11.2f}  {max(others):4}  {found.per_fault.get(WEAR, 0):4}"
                f"  {found.n_joined:6}  {found.n_without_fault:15}"
                + (
                    f"  {found.n_told:4}  {found.n_told_without:20}  {found.n_faults_told:11}"
                    if arguments.false_cases is not None
                    else ""
                ),
                flush=True,
            )
    finally:
        if arguments.keep is None:
            shutil.rmtree(root)


if __name__ == "__main__":
    main()
