"""Time and peak memory of deriving events from many readings.

    python tests/benchmarks/events.py --rows 10000000

Twenty machines, eight sensors, one anomaly in two hundred readings, half of them in runs. Prints seconds, peak resident
memory, and how much of it is beyond the imports. Not part of the test suite: figures on a shared machine are no pass or
fail.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from measuring import command_line, measured
from plants import open_plant

from pwflow_core.pipeline.scoring.events import derive_events
from pwflow_core.pipeline.source.source import SOURCE_FACT, Sensor, Source
from pwflow_core.plant import Plant
from pwflow_core.warehouse.progress import write_fact

SENSORS = [f"s{i}" for i in range(8)]


def write_scores(plant: Plant, rows: int) -> None:
    """Fill the tables that events are derived from, as the steps before would."""
    sensors = tuple(Sensor(name, name, "°C") for name in SENSORS)
    source = Source("ts", None, None, "machine", ("recipe",), sensors, None, ".")
    with plant.warehouse.transaction() as connection:
        write_fact(connection, SOURCE_FACT, source.to_json())
        connection.execute("SELECT setseed(0.5)")
        connection.execute("INSERT INTO core.model_sets (model_set_id, alpha) VALUES ('set', 0.01)")
        connection.execute(
            """
            INSERT INTO mart.anomaly_scores BY NAME
            WITH drawn AS (
                SELECT i, i % 20 AS machine, random() AS u, (i // 20) % 8000 < 20 AS in_run FROM range(?) AS t (i)
            )
            SELECT i AS reading_id, 'M' || machine AS machine_id,
                   TIMESTAMP '2026-01-01' + to_seconds(60 * (i // 20)) AS ts, 'A' AS segment, 'c0001' AS cluster_key,
                   1 - u AS p_value, -log10(1 - u) AS anomaly_score, u > 0.9975 OR in_run AS is_anomaly,
                   'scored' AS status, 'set' AS model_set_id, TIMESTAMP '2026-02-01' AS scored_at
            FROM drawn
            ORDER BY machine, i
            """,
            [rows],
        )
        connection.execute(
            """
            INSERT INTO mart.sensor_contributions BY NAME
            SELECT reading_id, machine_id, ts, sensor, anomaly_score * (1 + hash(reading_id, sensor) % 10) / 50
                   AS contribution, 60.0 AS expected, 80.0 AS observed, 55.0 AS expected_low, 65.0 AS expected_high,
                   '°C' AS unit, cluster_key, scored_at
            FROM mart.anomaly_scores CROSS JOIN unnest(?) AS t (sensor)
            WHERE is_anomaly
            """,
            [SENSORS],
        )


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    arguments = parser.parse_args()
    rows = 40_000 if arguments.smoke else arguments.rows
    with tempfile.TemporaryDirectory() as folder:
        with measured() as filling:
            plant = open_plant(Path(folder), SENSORS, {"path": "data/*"})
            write_scores(plant, rows)
        with measured() as cost:
            summary = derive_events(plant)
    print(f"{rows:,} readings, {summary.n_anomalies:,} anomalies in {summary.n_events:,} events: {cost.seconds:.1f} s")
    print(
        f"peak memory {cost.peak_mib:.0f} MiB, of it imports {filling.before_mib:.0f} MiB; before the step "
        f"{cost.before_mib:.0f} MiB"
    )


if __name__ == "__main__":
    main()
