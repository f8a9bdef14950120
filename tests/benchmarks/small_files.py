"""What the ingest of many small files costs: CPU per file, when they are new and when they are known.

python tests/benchmarks/small_files.py --files 100000
"""

import argparse
import tempfile
import time
from pathlib import Path

from pwflow_core.config import parse_config
from pwflow_core.pipeline.source.ingest import ingest_files
from pwflow_core.plant import Plant

ROWS = 10
VALUES = {
    "source": {"path": "data/*.csv", "timestamp": "ts", "timezone": "UTC", "delimiter": ","},
    "sensors": {"a": {}, "b": {}},
    "warehouse": {"url": "duckdb:///warehouse.duckdb", "published": "published.duckdb"},
}


def write_files(folder: Path, n_files: int) -> None:
    folder.mkdir()
    for number in range(n_files):
        day, second = divmod(number * ROWS, 86_400)
        clocks = (f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}" for s in range(second, second + ROWS))
        times = (f"2026-01-{day + 1:02d}T{clock}Z" for clock in clocks)
        lines = (f"{time},{number}.5,{i}.25" for i, time in enumerate(times))
        (folder / f"{number:06d}.csv").write_text("\n".join(["ts,a,b", *lines]) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    n_files = 20 if arguments.smoke else arguments.files
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder) / "data", n_files)
        plant = Plant.open(parse_config(VALUES, name="benchmark", folder=Path(folder)))
        for which in ("new", "known"):
            start = time.process_time()
            summary = ingest_files(plant)
            seconds = time.process_time() - start
            print(f"{n_files:,} {which} files: {1000 * seconds / n_files:.2f} ms CPU each, {seconds:.1f} s in all")
            if summary.n_raw != ROWS * n_files:
                raise AssertionError(f"expected {ROWS * n_files} rows, got {summary.n_raw}")


if __name__ == "__main__":
    main()
