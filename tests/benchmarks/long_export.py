"""What it costs to read a long export, beside DuckDB's own PIVOT of the same file, each in a process of its own.

python tests/benchmarks/long_export.py --rows 50000000 --tags 200 --folder /large/disk
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import duckdb
from measuring import command_line, measured, run_alone

from pwflow_core.config import load_config
from pwflow_core.onboarding import initialise
from pwflow_core.pipeline.source.ingest import ingest_files
from pwflow_core.plant import Plant

MEMORY = "6GB"


def write_export(path: Path, n_rows: int, n_tags: int) -> None:
    """Write a row per tag and second; values have three digits behind the point."""
    with duckdb.connect(":memory:", config={"threads": "1", "memory_limit": MEMORY}) as connection:
        connection.execute(
            f"""
            COPY (
                SELECT
                    strftime(TIMESTAMP '2026-01-01' + to_seconds(i // {n_tags:d}), '%Y-%m-%d %H:%M:%S') AS time,
                    'area.unit' || (i % {n_tags:d}) || '.pv' AS tag,
                    round(100 * (i % {n_tags:d}) + 10 * sin(i / 1e5) + hash(i) % 1000 / 1000, 3) AS value
                FROM range({n_rows:d}) AS rows(i)
            ) TO '{path}' (FORMAT csv, HEADER)
            """
        )


def read_with_pwflow(folder: Path) -> dict[str, float]:
    plant = Plant.open(load_config(folder / "pwflow.toml"))
    with measured() as cost:
        summary = ingest_files(plant)
    return {"rows": summary.n_raw, "cpu": cost.cpu_seconds, "seconds": cost.seconds, "peak": cost.peak_mib}


def look(folder: Path) -> dict[str, float]:
    with measured() as cost:
        initialise(folder / "exports", folder, timezone="UTC")
    return {"cpu": cost.cpu_seconds, "seconds": cost.seconds, "peak": cost.peak_mib}


def pivot(folder: Path, *, typed: bool) -> dict[str, float]:
    """Let DuckDB pivot; without types it is left to find them, else times stay text, as pwflow keeps them."""
    config = {"memory_limit": MEMORY, "temp_directory": str(folder / "spilled"), "threads": "2"}
    types = ", all_varchar = true" if typed else ""
    value = "TRY_CAST(value AS DOUBLE)" if typed else "value"
    with duckdb.connect(":memory:", config=config) as connection, measured() as cost:
        connection.execute(
            f"""
            COPY (
                PIVOT (SELECT time, tag, {value} AS value FROM read_csv('{folder}/exports/long.csv'{types}))
                ON tag USING first(value) GROUP BY time
            ) TO '{folder}/pivot.parquet' (FORMAT parquet)
            """
        )
        n_rows = connection.execute(f"SELECT count(*) FROM '{folder}/pivot.parquet'").fetchall()[0][0]
    return {"rows": n_rows, "cpu": cost.cpu_seconds, "seconds": cost.seconds, "peak": cost.peak_mib}


STEPS = {
    "init": look,
    "pwflow": read_with_pwflow,
    "pivot": lambda folder: pivot(folder, typed=False),
    "pivot of text": lambda folder: pivot(folder, typed=True),
}


def compare(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        (folder / "exports").mkdir()
        path = folder / "exports" / "long.csv"
        size_of = ("--rows", arguments.rows, "--tags", arguments.tags)
        run_alone(__file__, "--write", path, *size_of)
        print(f"{arguments.rows:,} rows, {arguments.tags} tags, {path.stat().st_size / 1e9:.2f} GB")
        found = {step: run_alone(__file__, "--step", step, "--folder", folder) for step in arguments.only}
        for step, cost in found.items():
            speed = arguments.rows / cost["cpu"] / 1e6
            print(f"{step}: {cost['cpu']:.1f} CPU s ({speed:.2f} million rows/s), peak {cost['peak']:,.0f} MiB")
        if "pivot" not in found or "pwflow" not in found:
            return
        print(f"pwflow has {found['pivot']['cpu'] / found['pwflow']['cpu']:.2f} times the speed of the pivot")
        if found["pwflow"]["rows"] != found["pivot"]["rows"]:
            raise AssertionError(f"expected {found['pivot']['rows']:,} readings, got {found['pwflow']['rows']:,}")


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--tags", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="where the data go meanwhile")
    parser.add_argument("--step", choices=STEPS)
    parser.add_argument("--only", choices=STEPS, nargs="+", default=list(STEPS))
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    if arguments.write:
        write_export(arguments.write, arguments.rows, arguments.tags)
        print("{}")
        return
    if arguments.step:
        print(json.dumps(STEPS[arguments.step](arguments.folder)))
        return
    if arguments.smoke:
        arguments.rows, arguments.tags = 20_000, 20
    compare(arguments)


if __name__ == "__main__":
    main()
