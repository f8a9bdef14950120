"""What the ingest of many small files costs: CPU per file, when they are new and when they are known.

With `--kill`, another process reads them and is killed in the middle: what is lost is counted.

python tests/benchmarks/small_files.py --files 100000
python tests/benchmarks/small_files.py --files 100000 --kill
"""

import argparse
import logging
import re
import subprocess
import sys
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


def open_plant(folder: Path) -> Plant:
    return Plant.open(parse_config(VALUES, name="benchmark", folder=folder))


def read_until_killed(folder: Path, n_files: int) -> None:
    """Read in another process, kill it when it has said that half is done, and count what the warehouse has."""
    command = [sys.executable, "-W", "ignore", __file__, "--read", str(folder)]
    n_said = 0
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as reader:
        for line in reader.stderr or ():
            if said := re.search(r"(\d+) of \d+ files", line):
                n_said = int(said[1])
            if 2 * n_said >= n_files:
                time.sleep(1.0)  # in the middle of the next batch
                reader.kill()
    plant = open_plant(folder)
    with plant.warehouse.snapshot() as connection:
        n_kept, n_rows = connection.execute(
            "SELECT (SELECT count(*) FROM ingest.files), (SELECT count(*) FROM ingest.raw_readings)"
        ).fetchall()[0]
    print(f"killed after {n_said:,} files were said to be read: {n_kept:,} are kept")
    summary = ingest_files(plant)
    print(f"the next run read the other {summary.n_new:,}")
    if n_kept < n_said or n_rows != ROWS * n_kept or summary.n_new != n_files - n_kept:
        raise AssertionError(f"expected {n_said} files with all of their rows, got {n_kept} and {n_rows} rows")
    if summary.n_raw != ROWS * n_files:
        raise AssertionError(f"expected {ROWS * n_files} rows, got {summary.n_raw}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--read", type=Path)
    parser.add_argument("--folder", type=Path, help="where the data go meanwhile")
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    if arguments.read:
        logging.basicConfig(level=logging.INFO)
        ingest_files(open_plant(arguments.read))
        return
    n_files = 20 if arguments.smoke else arguments.files
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        write_files(Path(folder) / "data", n_files)
        if arguments.kill:
            read_until_killed(Path(folder), n_files)
            return
        plant = open_plant(Path(folder))
        for which in ("new", "known"):
            start = time.process_time()
            summary = ingest_files(plant)
            seconds = time.process_time() - start
            print(f"{n_files:,} {which} files: {1000 * seconds / n_files:.2f} ms CPU each, {seconds:.1f} s in all")
            if summary.n_raw != ROWS * n_files:
                raise AssertionError(f"expected {ROWS * n_files} rows, got {summary.n_raw}")


if __name__ == "__main__":
    main()
