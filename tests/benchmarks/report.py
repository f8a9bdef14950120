"""Time, size and peak memory of the plant report, on a finished demo plant and on many copies of its readings.

    pwflow demo --days 60
    python tests/benchmarks/report.py --runs 3
    python tests/benchmarks/report.py --runs 3 --copies 40      # about ten million readings

Copies go into a second warehouse, made by SQL: the same readings, scores and contributions, each copy sixty days
earlier than the one before. Every run is a process of its own. Not part of the test suite: figures on a shared
machine are no pass or fail.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
from dataclasses import asdict
from pathlib import Path

import duckdb
from measuring import command_line, measured, run_alone

from pwflow_core.config import PlantConfig, parse_config
from pwflow_core.demo import demo_config
from pwflow_core.plant import Plant

_COPY = """
CREATE TEMP TABLE copies AS SELECT unnest(range(1, $copies)) AS copy;
INSERT INTO core.readings BY NAME
SELECT reading.* REPLACE (
    (hash(reading_id, copy) >> 1)::BIGINT AS reading_id, ts - to_days((60 * copy)::INT) AS ts
)
FROM core.readings AS reading, copies;
INSERT INTO mart.anomaly_scores BY NAME
SELECT score.* REPLACE ((hash(reading_id, copy) >> 1)::BIGINT AS reading_id, ts - to_days((60 * copy)::INT) AS ts)
FROM mart.anomaly_scores AS score, copies;
INSERT INTO mart.sensor_contributions BY NAME
SELECT part.* REPLACE ((hash(reading_id, copy) >> 1)::BIGINT AS reading_id, ts - to_days((60 * copy)::INT) AS ts)
FROM mart.sensor_contributions AS part, copies;
"""


def small_config(folder: Path) -> PlantConfig:
    """Run a simulated plant of three days up to its events; return its configuration."""
    from plants import TINY, bundled_config, learn_and_score, read_all

    from pwflow_core.pipeline.scoring.contributions import explain_anomalies
    from pwflow_core.pipeline.scoring.events import derive_events
    from pwflow_core.simulation import write_exports

    write_exports(folder, 3)
    plant = Plant.open(bundled_config(folder, **TINY))
    read_all(plant)
    learn_and_score(plant)
    explain_anomalies(plant)
    derive_events(plant)
    return plant.config


def build(folder: Path, language: str, days: int) -> None:
    """Make a report of the plant in a folder, and print what it took."""
    from pwflow_core.reporting import build_report

    values = json.loads((folder / "config.json").read_text())
    plant = Plant.open(parse_config(values, name="the benchmark", folder=folder))
    with measured() as cost:
        summary = build_report(plant, folder / "report.html", language=language, days=days)
    made = {"mb": summary.size_bytes / 1e6, "charts": summary.n_charts, "events": summary.n_events_shown}
    print(json.dumps(asdict(cost) | made))


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--languages", default="en,ja")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        build(options.folder, options.languages, options.days)
        return
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as small:
        folder = Path(name)
        if options.smoke:
            options.runs, options.copies = 1, 2
        config = small_config(Path(small)) if options.smoke else demo_config()
        shutil.copy(config.warehouse_path, folder / "warehouse.duckdb")
        with duckdb.connect(str(folder / "warehouse.duckdb")) as connection:
            if options.copies > 1:
                for statement in duckdb.extract_statements(_COPY):
                    values = {"copies": options.copies} if "copies" in statement.named_parameters else {}
                    connection.execute(statement, values)
            [(n_readings,)] = connection.execute("SELECT count(*) FROM core.readings").fetchall()
        values = config.model_dump(mode="json", exclude_none=True) | {
            "warehouse": {"url": "duckdb:///warehouse.duckdb", "published": "published.duckdb"},
            "models": {"url": config.models_url},
        }
        (folder / "config.json").write_text(json.dumps(values))
        print(f"{n_readings:,} readings, {options.days} days shown, median of {options.runs} runs")
        for language in options.languages.split(","):
            given = ["--folder", name, "--languages", language, "--days", options.days]
            runs = [run_alone(__file__, *given) for _ in range(options.runs)]
            found = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            print(
                f"{language}: {found['seconds']:.1f} s ({found['cpu_seconds']:.1f} s CPU), {found['mb']:.1f} MB, "
                f"peak {found['peak_mib']:.0f} MiB, {found['charts']:.0f} pictures, "
                f"{found['events']:.0f} events in full"
            )


if __name__ == "__main__":
    main()
