"""Peak memory and time of every step on millions of readings, each step in a process of its own.

    python tests/benchmarks/scoring_memory.py --rows 5000000
    python tests/benchmarks/scoring_memory.py --rows 5000000 --window 20 --until readings    # with features over time
    python tests/benchmarks/scoring_memory.py --rows 5000 --sensors 500 --regimes auto --window auto    # as by default

Eight bent regimes in one segment. Prints a Markdown table: seconds, peak resident memory, and how much of it is beyond
the imports. Not part of the test suite: figures on a shared machine are no pass or fail.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import duckdb
from measuring import command_line, measured, run_alone

from pwflow_core.plant import Plant

STEPS = (
    "imports",
    "ingest",
    "readings",
    "fit",
    "assign",
    "flows",
    "slices",
    "scores",
    "contributions",
    "events",
    "health",
    "drift",
    "checks",
    "publish",
    "report",
)


def plant_in(folder: Path, sensors: int, regimes: str, window: str, **sections: object) -> Plant:
    from plants import open_plant

    clustering = {"n_clusters": regimes if regimes == "auto" else int(regimes)}
    features = {"windows": window if window == "auto" else [int(window)] if int(window) else []}
    names = [f"s{i}" for i in range(sensors)]
    given = {"clustering": clustering, "features": features} | sections
    return open_plant(folder, names, {"path": "data/*.parquet"}, **given)


def write_readings(folder: Path, rows: int, sensors: int) -> None:
    """Write readings of ten machines, one file each: sensors in pairs, the second bent along the first."""
    (folder / "data").mkdir()
    normal = "sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())"
    columns = ", ".join(
        f"4 * sin(regime * {1.3 + i}) + a{i} AS s{2 * i}, 3 * cos(regime * {2.1 + i}) + b{i} + 0.5 * a{i} * a{i} "
        f"AS s{2 * i + 1}"
        for i in range(sensors // 2)
    )
    noise = ", ".join(f"{normal} AS a{i}, 0.3 * {normal} AS b{i}" for i in range(sensors // 2))
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'; SELECT setseed(0.5)")
        for machine in range(10):
            connection.execute(
                f"COPY (SELECT (TIMESTAMP '2026-01-01' + to_seconds(i * 10))::TIMESTAMPTZ AS ts, "
                f"'M{machine}' AS machine, {columns} "
                f"FROM (SELECT i, (i // 500) % 8 AS regime, {noise} FROM range({rows // 10}) AS t (i))) "
                f"TO '{folder}/data/M{machine}.parquet'"
            )


def run_step(step: str, plant: Plant) -> None:
    import pandas as pd  # noqa: F401 - part of the imports that are subtracted
    import torch  # noqa: F401

    from pwflow_core import reporting
    from pwflow_core.pipeline.drift import evidence, health
    from pwflow_core.pipeline.flows import training
    from pwflow_core.pipeline.publishing import publishing
    from pwflow_core.pipeline.readings import deriving
    from pwflow_core.pipeline.regimes import assigning, finding
    from pwflow_core.pipeline.scoring import checks, contributions, densities, events, scores
    from pwflow_core.pipeline.source import ingest

    steps = {
        "imports": lambda: None,
        "ingest": lambda: ingest.ingest_files(plant),
        "readings": lambda: deriving.derive_readings(plant),
        "fit": lambda: finding.fit_cluster_model(plant),
        "assign": lambda: assigning.assign_readings(plant),
        "flows": lambda: training.train_cluster_flows(plant, reason="benchmark", promoted_by="benchmark"),
        "slices": lambda: list(densities.score_slices(plant)),
        "scores": lambda: scores.derive_scores(plant),
        "contributions": lambda: contributions.explain_anomalies(plant),
        "events": lambda: events.derive_events(plant),
        "health": lambda: health.derive_health(plant),
        "drift": lambda: evidence.follow_drift(plant),
        "checks": lambda: checks.check_scores(plant),
        "publish": lambda: publishing.publish_warehouse(plant),
        "report": lambda: reporting.build_report(plant, plant.config.folder / "report.html"),
    }
    with measured() as cost:
        steps[step]()
    print(json.dumps(asdict(cost)))


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--sensors", type=int, default=8, help="an even number")
    parser.add_argument("--regimes", default="8", help="how many, or auto")
    parser.add_argument(
        "--window", default="0", help="mean and spread of so many readings per sensor; 0 for none; auto"
    )
    parser.add_argument("--until", choices=STEPS[1:], default=STEPS[-1], help="last step to run")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        from plants import TINY

        shape = arguments.sensors, arguments.regimes, arguments.window
        run_step(arguments.step, plant_in(arguments.folder, *shape, **(TINY if arguments.smoke else {})))
        return
    if arguments.smoke:
        arguments.rows, arguments.regimes = 8000, "2"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_readings(folder, arguments.rows, arguments.sensors)
        shape = ["--sensors", arguments.sensors, "--regimes", arguments.regimes, "--window", arguments.window]
        shape += ["--smoke"] if arguments.smoke else []
        print("| step | seconds | peak memory (MiB) | beyond imports (MiB) |\n|---|---|---|---|")
        imports = 0.0
        for step in STEPS[: STEPS.index(arguments.until) + 1]:
            cost = run_alone(__file__, "--step", step, "--folder", name, *shape)
            peak = cost["peak_mib"]
            imports = imports or peak
            print(f"| {step} | {cost['seconds']:.1f} | {peak:.0f} | {peak - imports:.0f} |", flush=True)


if __name__ == "__main__":
    main()
