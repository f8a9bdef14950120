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
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb

from pwflow_core.demo import demo_config

_RUN = """
import json, resource, sys, time
from pathlib import Path
from pwflow_core.config import parse_config
from pwflow_core.plant import Plant
from pwflow_core.reporting import build_report
values, folder, target, language, days = json.loads(sys.argv[1])
plant = Plant.open(parse_config(values, name="the benchmark", folder=Path(folder)))
cpu, started = time.process_time(), time.perf_counter()
summary = build_report(plant, Path(target), language=language, days=days)
Path(target).with_suffix(".json").write_text(json.dumps({
    "seconds": time.perf_counter() - started,
    "cpu_seconds": time.process_time() - cpu,
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "mb": summary.size_bytes / 1e6,
    "charts": summary.n_charts,
    "events": summary.n_events_shown,
}))
"""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--languages", default="en,ja")
    options = parser.parse_args()
    config = demo_config()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
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
        print(f"{n_readings:,} readings, {options.days} days shown, median of {options.runs} runs")
        for language in options.languages.split(","):
            asked = json.dumps([values, str(folder), str(folder / "report.html"), language, options.days])
            runs = []
            for _ in range(options.runs):
                subprocess.run([sys.executable, "-c", _RUN, asked], check=True)
                runs.append(json.loads((folder / "report.json").read_text()))
            found = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            print(
                f"{language}: {found['seconds']:.1f} s ({found['cpu_seconds']:.1f} s CPU), {found['mb']:.1f} MB, "
                f"peak {found['peak_mb']:.0f} MB, {found['charts']:.0f} pictures, {found['events']:.0f} events in full"
            )


if __name__ == "__main__":
    main()
