"""Many sensors, many readings: every step keeps its memory within a bound, or refuses and leaves what was there."""

import numpy as np
import pandas as pd
import pytest

from pwflow_core.errors import MemoryLimitError
from pwflow_core.pipeline.readings.deriving import derive_readings
from pwflow_core.pipeline.source.ingest import ingest_files
from tests.conftest import TRAINED, plant_readings, put_file, query
from tests.faults.conftest import changed

N_SENSORS = 500
MEASURED = """
from pwflow_core.pipeline.drift.evidence import follow_drift
from pwflow_core.reporting import build_report
peak = lambda: int(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1]) // 1024
before = peak()
for step in ({steps}):
    step(plant)
    print('grew', peak() - before, getattr(step, '__name__', ''), flush=True)
"""
READ = "ingest_files, derive_readings, "
LEARN = """
    fit_cluster_model, assign_readings,
    lambda plant: train_cluster_flows(plant, reason='first', promoted_by='test'),
"""
REPORT = """
    assign_readings, lambda plant: list(score_slices(plant)),
    derive_scores, explain_anomalies, derive_events, follow_drift, derive_health, publish_warehouse,
    lambda plant: build_report(plant, plant.config.folder / 'report.html'),
"""


def growth(stem, plant, *steps: str) -> list[int]:
    """Run steps in one other process; return how far its peak memory has grown after each, in MB."""
    ended = stem.run(plant, MEASURED.format(steps="".join(steps)))
    assert ended.code == 0, ended.output
    return [int(line.split()[1]) for line in ended.output.splitlines() if line.startswith("grew")]


def wide_readings(n_times: int = 1500) -> pd.DataFrame:
    """Readings of sensors that follow twenty common causes; some are off by far."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(n_times, 20)) @ rng.normal(size=(20, N_SENSORS)) + rng.normal(size=(n_times, N_SENSORS))
    values[-20:, 7] += 60.0
    table = pd.DataFrame(values, columns=[f"s{number}" for number in range(N_SENSORS)])
    times = pd.date_range("2024-03-01", periods=n_times, freq="60s", tz="UTC")
    return pd.concat([pd.DataFrame({"ts": times, "machine": "mill"}), table], axis=1)


def many_readings() -> pd.DataFrame:
    """A hundred times the readings of a trained plant, in one night: 300,000, of both machines."""
    table = plant_readings(150_000, seed=5)
    times = pd.date_range("2024-04-01", periods=150_000, freq="576ms", tz="UTC")
    return table.assign(ts=np.tile(times, 2))


@pytest.fixture
def wide_plant(make_plant):
    def make(memory_limit: str):
        return make_plant(
            {"wide.parquet": wide_readings()},
            sensors={},
            clustering={"n_clusters": 1},
            flow={"max_steps": 32},
            scoring={"alpha": 0.05},
            training={"until": "2024-03-02T00:30:00Z"},
            source={"timezone": None},
            compute={"memory_limit": memory_limit},
        )

    return make


@pytest.mark.long
def test_500_sensors_are_learned_scored_explained_and_reported_within_a_bound_of_memory(wide_plant, stem):
    """With 400 MB for DuckDB each step takes 600 MB more at most, the report 1.5 GB; the faulty sensor is named."""
    plant = wide_plant("400MB")
    grew = growth(stem, plant, READ, LEARN, REPORT)
    assert len(grew) == 14
    assert max(grew[:-1]) < 600, grew
    assert grew[-1] < 1500, grew
    blamed = query(
        plant,
        "SELECT sensor, count(*) AS n FROM (SELECT arg_max(sensor, contribution) AS sensor FROM "
        "mart.sensor_contributions WHERE ts >= '2024-03-02 00:40' GROUP BY reading_id) GROUP BY sensor ORDER BY n DESC",
    )
    assert blamed[0][0] == "s7"
    assert blamed[0][1] >= 15


@pytest.mark.long
def test_a_step_that_does_not_fit_the_memory_limit_says_so_and_writes_nothing(wide_plant):
    plant = wide_plant("400MB")
    ingest_files(plant)
    plant = wide_plant("50MB")
    with pytest.raises(MemoryLimitError, match=r"more than the 50MB of compute\.memory_limit.* raise the limit"):
        derive_readings(plant)
    assert query(plant, "SELECT count(*) FROM core.readings") == [(0,)]
    assert derive_readings(wide_plant("400MB")).n_readings == 1500


@pytest.mark.long
def test_a_hundred_times_the_readings_in_one_night_are_scored_within_a_bound_of_memory(trained_plant, stem):
    """With 400 MB for DuckDB the night takes 500 MB more at most, its report included; with 20 MB it is refused."""
    table = many_readings()
    put_file(trained_plant.config.folder / "data" / "night.parquet", table)
    plant = changed(trained_plant, compute={"memory_limit": "400MB"})
    grew = growth(stem, plant, "ingest_files,")
    with pytest.raises(MemoryLimitError, match=r"more than the 20MB of compute\.memory_limit"):
        derive_readings(changed(trained_plant, compute={"memory_limit": "20MB"}))
    assert query(plant, "SELECT count(*) FROM core.readings") == [(3000,)]
    grew += growth(stem, changed(trained_plant, compute={"memory_limit": "400MB"}), "derive_readings,", REPORT)
    assert len(grew) == 11
    assert max(grew) < 500, grew
    n_invalid, n_missing = int((table.temperature > 100).sum()), int(table.temperature.isna().sum())
    assert query(
        trained_plant,
        "SELECT status, count(*), count(p_value) FROM mart.anomaly_scores WHERE ts >= '2024-04-01' "
        "GROUP BY status ORDER BY status",
    ) == [
        ("invalid", n_invalid, 0),
        ("missing", n_missing, 0),
        ("scored", *[300_000 - n_invalid - n_missing] * 2),
    ]


@pytest.mark.long(reason="20 CPU s: memory is bounded at each push for a large file")
def test_of_a_hundred_times_the_readings_as_many_are_learned_from_as_max_rows_says(make_plant, stem):
    """With 400 MB for DuckDB learning takes 500 MB more at most; what is learned from is drawn evenly, not exactly."""
    plant = make_plant(
        {"long.parquet": many_readings()},
        **TRAINED | {"clustering": {"n_clusters": 2, "max_rows": 5000}},
        flow={"max_rows": 5000, "max_steps": 32},
        compute={"memory_limit": "400MB"},
    )
    grew = growth(stem, plant, READ, LEARN)
    assert max(grew) < 500, grew
    learned = query(plant, "SELECT n_rows + n_held_out FROM mart.flow_versions")
    assert len(learned) == 4
    assert all(4500 < n_rows < 5500 for (n_rows,) in learned)
