"""Time and peak memory of deriving scores from slices that are there already, on millions of readings.

    python tests/benchmarks/deriving_scores.py --rows 10000000

Ten machines, sixteen regimes in two segments, two sensors; one reading in four has two candidate regimes. The
warehouse is written by SQL, so that only the step in question is measured, in a process of its own: calibration of
sixteen flows, p-values, scores. Not part of the test suite: figures on a shared machine are no pass or fail.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from measuring import command_line, measured, run_alone
from plants import open_plant, read_all

from pwflow_core.plant import Plant

N_CLUSTERS = 16

_READINGS = """
INSERT INTO core.readings BY NAME
SELECT
    (md5_number_lower(i::VARCHAR) >> 1)::BIGINT AS reading_id,
    'M' || (i % 10) AS machine_id,
    TIMESTAMP '2026-01-01' + to_seconds((i // 10) * 10) AS ts,
    CASE WHEN (i // 5000) % 2 = 0 THEN 'A' ELSE 'B' END AS segment,
    'ok' AS quality,
    ((i // 320) % 10)::TINYINT AS fold,
    2 AS batch_id, 1 AS file_id, i AS row_number, random() AS s0, random() AS s1
FROM range($rows) AS numbers (i)
ORDER BY machine_id, ts
"""
_CLUSTERS = f"""
INSERT INTO mart.clusters BY NAME
SELECT format('c{{:04d}}', k + 1) AS cluster_key, CASE WHEN k < 8 THEN 'A' ELSE 'B' END AS segment, 0.125 AS weight,
       'active' AS status, 'model' AS cluster_model_id
FROM range({N_CLUSTERS}) AS numbers (k);
INSERT INTO mart.flow_versions BY NAME
SELECT cluster_key, md5(cluster_key) || md5(segment) AS flow_version, 'model' AS cluster_model_id, true AS in_force,
       TIMESTAMP '2026-04-01' AS trained_until
FROM mart.clusters;
INSERT INTO core.progress BY NAME
SELECT step, cluster_key, flow_version AS model, 2 AS batch_id
FROM mart.flow_versions, (VALUES ('score'), ('assign')) AS steps (step);
INSERT INTO core.cluster_assignments BY NAME
SELECT format('c{{:04d}}', 1 + (row_number // 640 + other) % 8 + CASE WHEN segment = 'A' THEN 0 ELSE 8 END)
           AS cluster_key,
       reading_id, 0.5 AS responsibility
FROM core.readings, (VALUES (0), (1)) AS candidates (other)
WHERE other = 0 OR reading_id % 4 = 0;
INSERT INTO core.component_log_density BY NAME
SELECT cluster_key, reading_id, 3 + ln(random()) + ln(random()) AS log_density,
       3 + ln(random()) + ln(random()) AS conformity, flow_version,
       TIMESTAMP '2026-04-01' AS scored_at
FROM core.cluster_assignments
JOIN mart.flow_versions USING (cluster_key);
"""


def plant_in(folder: Path, memory_limit: str) -> Plant:
    source = {"path": "data/*.csv", "timezone": "UTC"}
    return open_plant(folder, ("s0", "s1"), source, compute={"memory_limit": memory_limit})


def write_warehouse(folder: Path, rows: int) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "first.csv").write_text("ts,machine,s0,s1\n2025-12-31,M0,0,0\n2025-12-31T00:00:10,M0,0,1\n")
    plant = plant_in(folder, "4GiB")
    read_all(plant)
    with plant.warehouse.transaction() as connection:
        connection.execute(_READINGS, {"rows": rows})
        connection.execute(_CLUSTERS)


def derive(folder: Path, memory_limit: str) -> None:
    from pwflow_core.pipeline.scoring.scores import derive_scores

    plant = plant_in(folder, memory_limit)
    with measured() as cost:
        n_derived = derive_scores(plant).n_derived
    print(json.dumps(asdict(cost) | {"n_derived": n_derived}))


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--memory-limit", default="1GiB", help="of DuckDB, as compute.memory_limit")
    parser.add_argument("--step", choices=("write", "derive"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.rows = 60_000
    if arguments.step == "write":
        write_warehouse(arguments.folder, arguments.rows)
        print("{}")
        return
    if arguments.step == "derive":
        derive(arguments.folder, arguments.memory_limit)
        return
    with tempfile.TemporaryDirectory() as name:
        # A process starts with the peak memory of the one that started it: so this one does nothing itself.
        given = ["--rows", arguments.rows, "--memory-limit", arguments.memory_limit, "--folder", name]
        run_alone(__file__, *given, "--step", "write")
        found = run_alone(__file__, *given, "--step", "derive")
        print("| readings derived | seconds | CPU seconds | peak memory (MiB) | of it imports (MiB) |")
        print("|---|---|---|---|---|")
        print(
            f"| {found['n_derived']:,} | {found['seconds']:.1f} | {found['cpu_seconds']:.1f} | "
            f"{found['peak_mib']:.0f} | {found['before_mib']:.0f} |"
        )


if __name__ == "__main__":
    main()
