"""What a night costs beside the history of a plant: CPU seconds and memory of each step, and the size of the files.

    python tests/benchmarks/nights.py                          # 10 days of history, and ten times as many
    python tests/benchmarks/nights.py --histories 1 10 100     # a hundred times as many takes an hour
    python tests/benchmarks/nights.py --url ducklake:///lake   # on a lake, with `PYTHONPATH=build/lake`

The plant learns from the days of the simulated plant; copies of them follow, which the plant's own steps read and
score. Each day is a file. Then come nights, one after the other: one as long as the days before (4,320 readings), one
in which a file of last month is corrected, one without anything new, and one with `--many` readings in one file. Each
step is a process of its own, forked from one that has imported everything, so that its CPU seconds and its peak memory
are its own; `imports` are in each peak.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path

import duckdb
from measuring import command_line
from plants import TINY, bundled_config

from pwflow_core.pipeline.cases.deriving import derive_cases
from pwflow_core.pipeline.decisions.verdicts import Decider, settle_answered
from pwflow_core.pipeline.drift.evidence import follow_drift
from pwflow_core.pipeline.drift.health import derive_health
from pwflow_core.pipeline.flows.training import train_cluster_flows
from pwflow_core.pipeline.looking.status import read_status
from pwflow_core.pipeline.publishing.publishing import publish_warehouse
from pwflow_core.pipeline.readings.deriving import derive_readings
from pwflow_core.pipeline.regimes.assigning import assign_readings
from pwflow_core.pipeline.regimes.finding import fit_cluster_model
from pwflow_core.pipeline.scoring.checks import check_scores
from pwflow_core.pipeline.scoring.contributions import explain_anomalies
from pwflow_core.pipeline.scoring.densities import score_slices
from pwflow_core.pipeline.scoring.detectability import measure_detectability
from pwflow_core.pipeline.scoring.events import derive_events
from pwflow_core.pipeline.scoring.scores import derive_scores
from pwflow_core.pipeline.source.ingest import ingest_files
from pwflow_core.plant import Plant
from pwflow_core.reporting import build_reports, find_outdated, report_path
from pwflow_core.simulation import write_exports
from pwflow_core.simulation.plant import DEFAULT_START


@dataclass(frozen=True)
class Night:
    """What a night took: CPU seconds and peak memory in MiB by step, and the bytes of the files afterwards."""

    steps: dict[str, tuple[float, float]]
    sizes: dict[str, int]


Nights = dict[str, Night]
BY = Decider("benchmark")
SECTIONS = {"clustering": {"n_clusters": 4}, "flow": {"max_steps": 200}, "report": {"languages": ["en"]}}
STEPS: dict[str, Callable[[Plant], object]] = {
    "ingest": ingest_files,
    "readings": derive_readings,
    "assignments": assign_readings,
    "slices": lambda plant: list(score_slices(plant)),
    "scores": derive_scores,
    "sight": measure_detectability,
    "checks": check_scores,
    "contributions": explain_anomalies,
    "events": derive_events,
    "health": derive_health,
    "drift": lambda plant: follow_drift(plant, run_id="benchmark"),
    "cases": lambda plant: derive_cases(plant, by=BY),
    "publish": lambda plant: (settle_answered(plant, by=BY), publish_warehouse(plant)),
    "report": lambda plant: _report(plant),
    "status": read_status,
}


def _report(plant: Plant) -> None:
    if outdated := find_outdated(plant, {"en": report_path(plant.config, "en")}):
        build_reports(plant, outdated)


def learn(plant: Plant) -> None:
    """Find regimes and train flows from what there is."""
    ingest_files(plant)
    derive_readings(plant)
    fit_cluster_model(plant)
    assign_readings(plant)
    train_cluster_flows(plant, reason="benchmark", promoted_by="benchmark")


def alone(step: Callable[[Plant], object], folder: Path, sections: dict[str, object]) -> tuple[float, float]:
    """Run a step in a process of its own; return its CPU seconds and its peak memory in MiB."""
    sys.stdout.flush()
    if not (pid := os.fork()):
        code = 1
        try:
            step(Plant.open(bundled_config(folder, **sections)))
            code = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status, used = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"a step ended with {status}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def whole_night(folder: Path, sections: dict[str, object]) -> dict[str, tuple[float, float]]:
    """Run every step of a night; return what each took."""
    return {name: alone(step, folder, sections) for name, step in STEPS.items()}


def write_days(folder: Path, days: int, copies: int) -> None:
    """Give the plant copies of its days that lie behind them, one file per day."""
    for place in range(days, days * copies):
        copy_day(folder, DEFAULT_START + timedelta(days=place % days), DEFAULT_START + timedelta(days=place))


def copy_day(folder: Path, source: date, target: date) -> None:
    """Write the readings of one day as those of another."""
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            f'COPY (SELECT * REPLACE ("timestamp" + to_days({(target - source).days}) AS "timestamp") '
            f"FROM '{folder}/exports/{source}.parquet') TO '{folder}/exports/{target}.parquet' (FORMAT parquet)"
        )


def write_many(folder: Path, day: date, night: date, n_readings: int) -> None:
    """Write a night with so many readings: those of a day, and the same between them."""
    source = f"{folder}/exports/{day}.parquet"
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        [(n_rows,)] = connection.execute(f"SELECT count(*) FROM '{source}'").fetchall()
        copies = max(1, round(n_readings / n_rows))
        shift = f"to_days({(night - day).days}) + to_milliseconds(60000 * copy // {copies})"
        connection.execute(
            f'COPY (SELECT * REPLACE ("timestamp" + {shift} AS "timestamp") '
            f"FROM '{source}', range({copies}) AS t (copy) "
            f"ORDER BY \"timestamp\", machine) TO '{folder}/exports/{night}.parquet' (FORMAT parquet)"
        )


def correct(folder: Path, day: date) -> None:
    """Correct the file of a day: one sensor was read two units too high."""
    file = folder / "exports" / f"{day}.parquet"
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute(
            f"COPY (SELECT * REPLACE (spindle_current - 2 AS spindle_current) FROM '{file}') "
            f"TO '{file}.new' (FORMAT parquet)"
        )
    Path(f"{file}.new").replace(file)


def make_plant(folder: Path, days: int, sections: dict[str, object]) -> None:
    """Make a plant that learned from its days, and scored and published them."""
    alone(lambda plant: write_exports(plant.config.folder, days, ageing_from_day=None), folder, sections)
    alone(learn, folder, sections)
    whole_night(folder, sections)


def add_history(folder: Path, days: int, copies: int, sections: dict[str, object]) -> None:
    """Let copies of the days come to a plant, and have them scored and published."""
    alone(lambda plant: write_days(plant.config.folder, days, copies), folder, sections)
    whole_night(folder, sections)


def measure(folder: Path, days: int, copies: int, many: int, sections: dict[str, object]) -> Nights:
    """Let nights come to a plant; return what each took, by its name."""
    found: Nights = {}

    def night(name: str) -> None:
        steps = whole_night(folder, sections)
        sizes = {
            "warehouse": _size([*folder.glob("warehouse.duckdb"), *folder.glob("lake/**/*")]),
            "published": _size(folder.glob("published*")),
        }
        found[name] = Night(steps, sizes)

    last = DEFAULT_START + timedelta(days=days * copies - 1)
    alone(lambda plant: copy_day(folder, DEFAULT_START, last + timedelta(days=1)), folder, sections)
    night("one day")
    alone(lambda plant: correct(folder, last - timedelta(days=min(days, 30) - 1)), folder, sections)
    night("one corrected day")
    night("nothing new")
    if many:
        alone(lambda plant: write_many(folder, DEFAULT_START, last + timedelta(days=2), many), folder, sections)
        night("many readings")
    return found


def _size(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files if file.is_file())


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--days", type=int, default=10, help="days of history that are simulated")
    parser.add_argument("--histories", type=int, nargs="+", default=[1, 10], help="how many times those days")
    parser.add_argument("--many", type=int, default=1_000_000, help="readings of a large night; 0 for none")
    parser.add_argument("--url", default="duckdb:///warehouse.duckdb", help="such as ducklake:///lake")
    parser.add_argument("--keep", type=Path, help="keep plants with their history here, to measure them again")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    options = parser.parse_args()
    sections: dict[str, object] = SECTIONS | {"warehouse": {"url": options.url, "published": "published.duckdb"}}
    if options.smoke:
        options.days, options.histories, options.many = 2, [1, 2], 10_000
        sections |= TINY
    results: dict[int, Nights] = {}
    with tempfile.TemporaryDirectory() as scratch:
        kept = options.keep or Path(scratch) / "kept"
        fresh, folder = kept / "fresh", Path(scratch) / "plant"
        for history in [1, *options.histories]:
            plant = kept / f"{options.days}x{history}"
            if plant.exists():
                continue
            if history == 1:
                fresh.mkdir(parents=True)
                make_plant(fresh, options.days, sections)
            else:
                shutil.copytree(kept / f"{options.days}x1", fresh, symlinks=True)
                add_history(fresh, options.days, history, sections)
            fresh.rename(plant)
        for history in options.histories:
            shutil.copytree(kept / f"{options.days}x{history}", folder, symlinks=True)
            whole_night(folder, sections)  # brings a kept plant up to date, and leaves nothing for the next night
            results[history] = measure(folder, options.days, history, options.many, sections)
            shutil.rmtree(folder)
    if options.json:
        options.json.write_text(json.dumps(results, default=asdict))
    show(results, options.days)


def show(results: dict[int, Nights], days: int) -> None:
    """Print one table per kind of night: CPU seconds and peak memory by step and history."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    histories = list(results)
    for name in results[histories[0]]:
        print(f"\n{name}: CPU seconds, and peak memory in MiB (of it imports: {own:.0f})\n")
        print("| step | " + " | ".join(f"{history * days} days" for history in histories) + " |")
        print("|---|" + "---|" * len(histories))
        nights = [results[history][name] for history in histories]
        for step in STEPS:
            print(f"| {step} | " + " | ".join(_cost([night.steps[step]]) for night in nights) + " |")
        print("| all | " + " | ".join(_cost(night.steps.values()) for night in nights) + " |")
        for file in ("warehouse", "published"):
            print(f"| {file} (MB) | " + " | ".join(f"{night.sizes[file] / 1e6:.1f}" for night in nights) + " |")


def _cost(steps: Collection[tuple[float, float]]) -> str:
    return f"{sum(cpu for cpu, _ in steps):.2f}, {max(mib for _, mib in steps):.0f}"


if __name__ == "__main__":
    main()
