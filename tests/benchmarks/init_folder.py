"""What `pwflow init` costs on a large folder: CPU and memory, by the size of the folder.

python tests/benchmarks/init_folder.py --gigabytes 10 --folder /large/disk
"""

from __future__ import annotations

import json
import tempfile
from datetime import date, timedelta
from pathlib import Path

import duckdb
from measuring import command_line, measured, run_alone

from pwflow_core.onboarding import initialise

SENSORS = 50
BYTES_PER_ROW = 418


def write_days(folder: Path, gigabytes: float, n_files: int) -> None:
    """Write a file per day; all have the values of the first."""
    folder.mkdir()
    n_rows = int(gigabytes * 1e9 / n_files / BYTES_PER_ROW)
    step = 86_400_000 // n_rows
    values = ", ".join(f"round(50 + 10 * sin((i + {k}) / 1e3) + hash(i + {k}) % 1000 / 1e3, 4)" for k in range(SENSORS))
    with duckdb.connect(":memory:", config={"threads": "1", "memory_limit": "4GB"}) as connection:
        names = ", ".join(f"s{k}" for k in range(SENSORS))
        connection.execute(
            f"""
            COPY (
                SELECT * FROM (
                    SELECT TIMESTAMP '2026-01-01' + to_milliseconds(i * {step}), {values}
                    FROM range({n_rows}) AS rows(i)
                ) AS days (time, {names})
            ) TO '{folder}/000.csv' (FORMAT csv, HEADER)
            """
        )
    first = (folder / "000.csv").read_bytes()
    for number in range(1, n_files):
        day = f"{date(2026, 1, 1) + timedelta(days=number)} ".encode()
        (folder / f"{number:03d}.csv").write_bytes(first.replace(b"2026-01-01 ", day))


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--gigabytes", type=float, default=10)
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--folder", type=Path, help="where the data go meanwhile")
    parser.add_argument("--look", type=Path)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    if arguments.look:
        with measured() as cost:
            made = initialise(arguments.look / "exports", arguments.look, timezone="UTC")
        n_sensors = len(made.inspection.sensors)
        print(
            json.dumps(
                {"cpu": cost.cpu_seconds, "before": cost.before_mib, "peak": cost.peak_mib, "sensors": n_sensors}
            )
        )
        return
    if arguments.write:
        write_days(arguments.write / "exports", arguments.gigabytes, arguments.files)
        print("{}")
        return
    if arguments.smoke:
        arguments.gigabytes, arguments.files = 0.002, 2
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        size_of = ("--gigabytes", arguments.gigabytes, "--files", arguments.files)
        run_alone(__file__, "--write", name, *size_of)
        size = sum(path.stat().st_size for path in (Path(name) / "exports").iterdir())
        cost = run_alone(__file__, "--look", name)
    print(
        f"{size / 1e9:.2f} GB in {arguments.files} files: {cost['cpu']:.1f} CPU s, peak {cost['peak']:,.0f} MiB "
        f"({cost['before']:,.0f} MiB of imports)"
    )
    if cost["sensors"] != SENSORS:
        raise AssertionError(f"expected {SENSORS} sensors, got {cost['sensors']}")


if __name__ == "__main__":
    main()
