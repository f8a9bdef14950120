"""Faults of simulated plants that become events at a budget of false events, and how many false ones there are.

    python tests/benchmarks/alarm_budget.py
    python tests/benchmarks/alarm_budget.py --alpha 0.001 --seeds 7

The whole pipeline on sixty days of each plant, of which the models learn from the first three weeks; faults in that
time are not removed. A false event touches no fault within ten minutes; counted are the 19 days before a tool begins to
wear, since what wear raises is no labelled fault. Prints Markdown; about a minute a plant. Not part of the test suite.
"""

from __future__ import annotations

import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from measuring import command_line
from plants import TINY, bundled_config, learn_and_score, read_all

from pwflow_core.pipeline.evaluation.describing import tabulate_evaluation
from pwflow_core.pipeline.evaluation.evaluation import evaluate_plant
from pwflow_core.pipeline.evaluation.labels import Labels, labels_from_file
from pwflow_core.pipeline.scoring.contributions import explain_anomalies
from pwflow_core.pipeline.scoring.events import derive_events
from pwflow_core.plant import Plant
from pwflow_core.simulation import write_exports

DAYS = 60
LEARNED_UNTIL, WEAR_FROM = datetime(2026, 1, 26), datetime(2026, 2, 14)  # noqa: DTZ001 - UTC, as the warehouse has it
NEAR = timedelta(minutes=10)


def count_false_events(plant: Plant, labels: Labels) -> int:
    """Count the events between learning and wear that touch no fault."""
    faults = [
        (
            fault.machine_id,
            fault.started_at.astype("datetime64[us]").item(),
            fault.ended_at.astype("datetime64[us]").item(),
        )
        for fault in labels.faults
    ]
    with plant.warehouse.snapshot() as connection:
        events = connection.execute(
            "SELECT machine_id, started_at, ended_at FROM mart.anomaly_events WHERE started_at >= ? AND started_at < ?",
            [LEARNED_UNTIL, WEAR_FROM],
        ).fetchall()
    return sum(
        not any(of == machine and start - NEAR <= last and end + NEAR >= first for of, start, end in faults)
        for machine, first, last in events
    )


def main() -> None:
    """Run the plants and print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 11, 23])
    parser.add_argument("--alarms-per-week", type=float, default=1.0)
    parser.add_argument("--alpha", type=float, help="A false-alarm rate per reading instead of the budget.")
    arguments = parser.parse_args()
    scoring = {"alarms_per_week": arguments.alarms_per_week} if arguments.alpha is None else {"alpha": arguments.alpha}
    days, sections = DAYS, {}
    if arguments.smoke:
        arguments.seeds, days, sections = [7], 6, TINY | {"training": {"until": "2026-01-07T00:00:00Z"}}
    print("| seed | alpha | kind of fault | found | delay (min) | false events a week |\n|---|---|---|---|---|---|")
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory(prefix="pwflow-budget-") as name:
            folder = Path(name)
            exported = write_exports(folder, days, seed)
            plant = Plant.open(bundled_config(folder, scoring=scoring, **sections))
            read_all(plant)
            alpha = learn_and_score(plant).rate.alpha
            explain_anomalies(plant)
            derive_events(plant)
            labels = labels_from_file(plant, exported.faults, None)
            table = tabulate_evaluation(evaluate_plant(plant, labels))
            weeks = (WEAR_FROM - LEARNED_UNTIL).days / 7
            rate = count_false_events(plant, labels) / weeks
            for row in table.to_dict("records"):
                delay = row["delay (min)"]
                print(
                    f"| {seed} | {alpha:.2g} | {row['fault']} | {row['found']} of {row['faults']} | "
                    f"{'' if np.isnan(delay) else f'{delay:.0f}'} | {rate:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
