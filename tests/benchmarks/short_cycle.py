"""What a short cycle costs: CPU time of a tick that finds nothing new, and of cycles with and without new readings.

    python tests/benchmarks/short_cycle.py

The simulated plant learns from some days (small flows: what a cycle costs hardly depends on them). Then, each in a
process of its own as Dagster's daemon starts it: the tick of the schedule where no file changed; the job `short_cycle`
where nothing is new, and where the last 15 minutes of three machines came in a new file; and the nightly job after it.
Prints a Markdown table. Not part of the test suite: some minutes.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import duckdb
from measuring import command_line, run_alone
from plants import TINY, bundled_config

from pwflow_core.config import PlantConfig
from pwflow_core.simulation import write_exports

ROWS = {
    "tick": "a tick that finds nothing new",
    "idle": "a cycle where nothing is new",
    "cycle": "a cycle with 15 minutes of readings",
    "night": "the nightly job after it",
}


def config_of(folder: Path) -> PlantConfig:
    sections = TINY | {"schedule": {"every_minutes": 15}, "report": {"languages": ["en"]}}
    return bundled_config(folder, **sections)


def run_here(folder: Path, what: str) -> None:
    """Do one thing in this process and print its CPU time, imports and all."""
    import dagster as dg

    from pwflow_core.pipeline.source.source import digest_files
    from pwflow_dagster.definitions import build
    from pwflow_dagster.names import CYCLES, NIGHTLY_SCORING, PLANT_TAG, SEEN_TAG, SHORT_CYCLE
    from pwflow_dagster.runs import Runner, run_plant

    config = config_of(folder)
    definitions = build(config)
    with dg.DagsterInstance.from_config(str(folder / "dagster")) as instance:
        runner = Runner(config, instance, definitions.resolve_job_def)
        begin = time.process_time()
        if what == "learn":
            assert all(outcome.error is None for outcome in run_plant(runner))
        elif what == "tick":
            tags = {PLANT_TAG: config.plant.name, SEEN_TAG: str(digest_files(config))}
            instance.add_run(dg.DagsterRun(SHORT_CYCLE, tags=tags, status=dg.DagsterRunStatus.SUCCESS))
            begin = time.process_time()
            context = dg.build_schedule_context(instance=instance)
            assert definitions.resolve_schedule_def(CYCLES).evaluate_tick(context).skip_message
        else:
            from pwflow_dagster.partitions import partition_range_tags

            job = NIGHTLY_SCORING if what == "night" else SHORT_CYCLE
            assert runner.run(job, tags=partition_range_tags(runner.known_partitions())).error is None
        end = time.process_time()
    print(json.dumps({"cpu": end - (begin if what == "tick" else 0.0), "imports": begin}))


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--days", type=int, default=30, help="days of readings that are there")
    parser.add_argument("--folder", type=Path, help="with --do: the plant")
    parser.add_argument("--do", help="do one thing in this process")
    arguments = parser.parse_args()
    if arguments.do:
        run_here(arguments.folder, arguments.do)
        return
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    days = 2 if arguments.smoke else arguments.days
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "plant"
        exports = write_exports(Path(name) / "source", days=days + 1).exports
        (folder / "exports").mkdir(parents=True)
        (folder / "dagster").mkdir()
        (folder / "dagster" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
        for path in exports[:-1]:
            shutil.copy(path, folder / "exports")
        run_alone(__file__, "--folder", folder, "--do", "learn")
        print(f"{days} days of three machines\n\n| | CPU seconds | of them imports |\n|---|---|---|", flush=True)
        for what, said in ROWS.items():
            if what == "cycle":
                with duckdb.connect() as connection:
                    connection.execute(
                        f"COPY (FROM read_parquet('{exports[-1]}') ORDER BY timestamp LIMIT 45) "
                        f"TO '{folder}/exports/new.parquet'"
                    )
            found = run_alone(__file__, "--folder", folder, "--do", what)
            imports = "–" if what == "tick" else f"{found['imports']:.1f}"
            print(f"| {said} | {found['cpu']:.2f} | {imports} |", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main()
