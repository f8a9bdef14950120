"""Faults of simulated plants that become events at a budget of false events, and how many false ones there are.

    python tests/benchmarks/alarm_budget.py
    python tests/benchmarks/alarm_budget.py --alpha 0.001 --seeds 7

The whole pipeline on sixty days of each plant, of which the models learn from the first three weeks; faults in that
time are not removed. A false event touches no fault within ten minutes; counted are the 19 days before a tool begins to
wear, since what wear raises is no labelled fault. Prints Markdown; about a minute a plant. Not part of the test suite.
"""

from __future__ import annotations

import argparse
import tempfile
import tomllib
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from pwflow_core.config import PlantConfig, parse_config
from pwflow_core.pipeline.evaluation.evaluation import evaluate_plant, tabulate_evaluation
from pwflow_core.pipeline.evaluation.labels import Labels, labels_from_file
from pwflow_core.pipeline.flows.training import train_cluster_flows
from pwflow_core.pipeline.readings.deriving import derive_readings
from pwflow_core.pipeline.regimes.assigning import assign_readings
from pwflow_core.pipeline.regimes.finding import fit_cluster_model
from pwflow_core.pipeline.scoring.contributions import explain_anomalies
from pwflow_core.pipeline.scoring.densities import score_slices
from pwflow_core.pipeline.scoring.events import derive_events
from pwflow_core.pipeline.scoring.scores import derive_scores
from pwflow_core.pipeline.source.ingest import ingest_files
from pwflow_core.plant import Plant
from pwflow_core.simulation import write_exports

BUNDLED = Path(__file__).parents[2] / "pwflow_core" / "demo.toml"
DAYS = 60
LEARNED_UNTIL, WEAR_FROM = datetime(2026, 1, 26), datetime(2026, 2, 14)  # noqa: DTZ001 - UTC, as the warehouse has it
NEAR = timedelta(minutes=10)


def configure(folder: Path, alarms_per_week: float, alpha: float | None) -> PlantConfig:
    """Return the configuration of the bundled plant, on files and at a budget, or at a false-alarm rate."""
    values = tomllib.loads(BUNDLED.read_text(encoding="utf-8"))
    values["source"] = {k: v for k, v in values["source"].items() if k != "simulated_days"} | {
        "path": "exports/*.parquet",
        "timezone": "UTC",
    }
    values["scoring"] = {"alarms_per_week": alarms_per_week} if alpha is None else {"alpha": alpha}
    return parse_config(values, name=BUNDLED.name, folder=folder)


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 11, 23])
    parser.add_argument("--alarms-per-week", type=float, default=1.0)
    parser.add_argument("--alpha", type=float, help="A false-alarm rate per reading instead of the budget.")
    arguments = parser.parse_args()
    print("| seed | alpha | kind of fault | found | delay (min) | false events a week |\n|---|---|---|---|---|---|")
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory(prefix="pwflow-budget-") as name:
            folder = Path(name)
            exported = write_exports(folder, DAYS, seed)
            plant = Plant.open(configure(folder, arguments.alarms_per_week, arguments.alpha))
            for step in (ingest_files, derive_readings, fit_cluster_model, assign_readings):
                step(plant)
            train_cluster_flows(plant, reason="benchmark", promoted_by="benchmark")
            for _ in score_slices(plant):
                pass
            alpha = derive_scores(plant).rate.alpha
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
