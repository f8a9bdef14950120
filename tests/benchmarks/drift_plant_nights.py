"""The simulated plant, night by night, in Dagster: which regime is found to move, learned again, and what that costs.

    python tests/benchmarks/drift_plant_nights.py --days 75

Every night a file arrives and the nightly run scores it. The drift sensor of a real Dagster daemon, started beside it,
then asks for what the night's verdicts call for; the next night waits until that is done. Prints the verdicts, the
flows, whether the slices of all other regimes stayed byte-equal, the alarms of the ageing regime before and after, and
the cost of learning one regime again beside that of all of them. Takes about fifteen minutes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from measuring import command_line, measured
from plants import BUNDLED, TINY

from pwflow_core.config import PlantConfig, load_config
from pwflow_core.pipeline.decisions.verdicts import pending_verdicts
from pwflow_core.pipeline.drift.evidence import follow_drift
from pwflow_core.pipeline.drift.health import derive_health
from pwflow_core.pipeline.flows.training import train_cluster_flows
from pwflow_core.pipeline.publishing.publishing import publish_warehouse
from pwflow_core.pipeline.scoring.contributions import explain_anomalies
from pwflow_core.pipeline.scoring.densities import score_slices
from pwflow_core.pipeline.scoring.events import derive_events
from pwflow_core.pipeline.scoring.scores import derive_scores
from pwflow_core.plant import Plant
from pwflow_core.simulation import write_exports
from pwflow_core.simulation.export import DEFAULT_START
from pwflow_dagster.cli.progress import shown_runs
from pwflow_dagster.runs import run_plant

SLICES = """
    SELECT cluster_key, md5(string_agg(concat_ws('|', reading_id, log_density, conformity, flow_version, scored_at), ','
                                       ORDER BY reading_id))
    FROM core.component_log_density GROUP BY cluster_key
"""
VERDICTS = """
    SELECT night, verdict, array_to_string(cluster_keys, ' ') AS regimes, answer, status, summary
    FROM mart.drift_verdicts ORDER BY night, verdict
"""
DECISIONS = """
    SELECT cluster_key, flow_version[:8] AS flow, decision, n_recent, round(gain_recent, 3) AS gain,
           round(gain_recent_error, 3) AS error, round(gain_reference, 3) AS gain_reference,
           trained_from::DATE AS since, trained_until::DATE AS until
    FROM mart.flow_decisions JOIN mart.flow_versions USING (cluster_key, flow_version)
    WHERE previous_version IS NOT NULL ORDER BY decided_at
"""
ALARMS = """
    SELECT time_bucket(INTERVAL 7 DAY, night, DATE '2026-01-05') AS week,
           round(sum(n_alarms) / sum(n_scored), 5) AS share
    FROM (SELECT ts::DATE AS night, count(*) FILTER (is_anomaly) AS n_alarms, count(*) AS n_scored
          FROM mart.anomaly_scores WHERE cluster_key = $key AND status = 'scored' GROUP BY night)
    GROUP BY week ORDER BY week
"""


def configure(folder: Path, policy: str, learned_until: str, sections: dict[str, dict[str, int]]) -> PlantConfig:
    """Write the configuration of the bundled plant, with files as its source, so that they arrive one by one."""
    text = BUNDLED.read_text(encoding="utf-8").replace("2026-01-26", learned_until)
    text = text.replace("simulated_days = 60", 'path = "exports/*.parquet"').replace('"demo"', '"nights"')
    text += f'\n[drift]\npolicy = "{policy}"\n[report]\nlanguages = []\n'
    for name, values in sections.items():
        text += "\n".join([f"[{name}]", *(f"{key} = {value}" for key, value in values.items()), ""])
    (folder / "pwflow.toml").write_text(text, encoding="utf-8")
    return load_config(folder / "pwflow.toml")


def query(plant: Plant, sql: str, values: dict[str, object] | None = None) -> list[tuple]:
    """Return the rows of a query on the warehouse."""
    with plant.warehouse.snapshot() as connection:
        return connection.execute(sql, values or {}).fetchall()


def print_table(plant: Plant, sql: str, values: dict[str, object] | None = None) -> None:
    """Print the result of a query as Markdown."""
    with plant.warehouse.snapshot() as connection:
        frame = connection.execute(sql, values or {}).df()
    print("| " + " | ".join(frame.columns) + " |")
    print("|" + "---|" * len(frame.columns))
    for row in frame.itertuples(index=False):
        print("| " + " | ".join(str(value) for value in row) + " |")
    print(flush=True)


def run_night(config: PlantConfig) -> None:
    """Run what the plant needs, and stop at the first failure."""
    with shown_runs(config) as runner:
        for outcome in run_plant(runner):
            if outcome.error is not None:
                sys.exit(f"{outcome.job}: {outcome.error}")


def wait_for_answers(plant: Plant, wait_seconds: float) -> list[str]:
    """Wait until the daemon has answered every verdict that a run can answer; return the regimes that it was about."""
    about: set[str] = set()
    deadline = time.monotonic() + wait_seconds
    while pending := pending_verdicts(plant):
        about |= {key for finding in pending for key in finding.cluster_keys}
        if time.monotonic() > deadline:
            sys.exit(f"Not answered within {wait_seconds:g} s: {pending}")
        time.sleep(2)
    return sorted(about)


def measure_refit(plant: Plant, keys: Sequence[str] | None) -> float:
    """Return the CPU seconds of training some flows afresh and deriving all that follows from them."""
    chosen = None if keys is None else list(keys)
    with measured() as cost:
        train_cluster_flows(plant, chosen, reason="measured", promoted_by="benchmark", challenge=False)
        for _ in score_slices(plant, chosen):
            pass
        for step in (derive_scores, explain_anomalies, derive_events, derive_health, follow_drift, publish_warehouse):
            step(plant)
    return cost.cpu_seconds


def main() -> None:
    """Run the nights and print what came of them."""
    parser = command_line(__doc__)
    parser.add_argument("--days", type=int, default=75)
    parser.add_argument("--learned-days", type=int, default=21)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--policy", default="retrain", choices=["retrain", "propose", "observe"])
    parser.add_argument("--wait-seconds", type=float, default=300.0)
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.days, arguments.learned_days = 4, 3
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="pwflow-nights-"))
    folder.mkdir(parents=True, exist_ok=True)
    learned_until = str(DEFAULT_START + timedelta(days=arguments.learned_days))
    config = configure(folder, arguments.policy, learned_until, TINY if arguments.smoke else {})
    os.environ["PWFLOW_CONFIG"] = str(folder / "pwflow.toml")
    plant = Plant.open(config)

    write_exports(folder, arguments.learned_days, arguments.seed)
    run_night(config)
    daemon = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "dagster._daemon", "run", "-m", "pwflow_dagster.definitions"],
        stdout=(folder / "daemon.log").open("w"),
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    try:
        for day in range(arguments.learned_days + 1, arguments.days + 1):
            write_exports(folder, day, arguments.seed)
            run_night(config)
            before = dict(query(plant, SLICES))
            if arguments.policy != "retrain" or not (moved := wait_for_answers(plant, arguments.wait_seconds)):
                continue
            after = dict(query(plant, SLICES))
            changed = sorted(key for key in before if before[key] != after[key])
            print(
                f"Night {day}: {', '.join(moved)} answered; slices that changed: {', '.join(changed) or 'none'}",
                flush=True,
            )
    finally:
        daemon.send_signal(signal.SIGINT)
        daemon.wait(timeout=60)

    print("\n## Verdicts\n")
    print_table(plant, VERDICTS)
    print("## Flows that were learned again\n")
    print_table(plant, DECISIONS)
    for (key,) in query(
        plant, "SELECT DISTINCT unnest(cluster_keys) FROM mart.drift_verdicts WHERE answer = 'retrain'"
    ):
        print(f"## Share of alarms of {key} by week, alpha = {config.scoring.alpha:g}\n")
        print_table(plant, ALARMS, {"key": key})

    print("## Cost of learning again (CPU seconds, all steps up to publication)\n")
    shares = query(
        plant, "SELECT cluster_key, count(*) / sum(count(*)) OVER () FROM core.cluster_assignments GROUP BY cluster_key"
    )
    copied = folder / "copy"
    print("| what | share of the candidates | CPU s | of all |\n|---|---|---|---|")
    costs = {}
    for keys in (None, *([key] for key, _ in sorted(shares)[: 1 if arguments.smoke else None])):
        shutil.rmtree(copied, ignore_errors=True)
        copied.mkdir()
        for name in ("warehouse.duckdb", "models", "pwflow.toml"):
            source = folder / name
            shutil.copytree(source, copied / name) if source.is_dir() else shutil.copy(source, copied / name)
        costs[tuple(keys or ["all"])] = measure_refit(Plant.open(load_config(copied / "pwflow.toml")), keys)
        [name], seconds = tuple(keys or ["all"]), costs[tuple(keys or ["all"])]
        share = dict(shares).get(name, 1.0)
        print(f"| {name} | {share:.1%} | {seconds:.1f} | {seconds / costs[('all',)]:.1%} |", flush=True)


if __name__ == "__main__":
    main()
