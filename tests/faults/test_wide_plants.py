"""Five hundred sensors: every step keeps its memory within a bound, or says what it would need before it begins."""

import numpy as np
import pandas as pd
import pytest

from pwflow_core.errors import MemoryLimitError
from pwflow_core.pipeline.ingest import ingest_files
from pwflow_core.pipeline.readings import derive_readings
from tests.conftest import query

N_SENSORS = 500
LEARN_AND_REPORT = """
from pwflow_core.pipeline.drift.evidence import follow_drift
from pwflow_core.reporting import build_report
peak = lambda: int(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1]) // 1024
before = peak()
for step in (
    ingest_files, derive_readings, fit_cluster_model, assign_readings,
    lambda plant: train_cluster_flows(plant, reason='first', promoted_by='test'),
    lambda plant: list(score_slices(plant)),
    derive_scores, explain_anomalies, derive_events, follow_drift, derive_health, publish_warehouse,
    lambda plant: build_report(plant, plant.config.folder / 'report.html'),
):
    step(plant)
    print('grew', peak() - before, getattr(step, '__name__', ''), flush=True)
"""


def wide_readings(n_times: int = 1500) -> pd.DataFrame:
    """Readings of sensors that follow twenty common causes; some are off by far."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(n_times, 20)) @ rng.normal(size=(20, N_SENSORS)) + rng.normal(size=(n_times, N_SENSORS))
    values[-20:, 7] += 60.0
    table = pd.DataFrame(values, columns=[f"s{number}" for number in range(N_SENSORS)])
    times = pd.date_range("2024-03-01", periods=n_times, freq="60s", tz="UTC")
    return pd.concat([pd.DataFrame({"ts": times, "machine": "mill"}), table], axis=1)


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


def test_500_sensors_are_learned_scored_explained_and_reported_within_a_bound_of_memory(wide_plant, stem):
    """With 400 MB for DuckDB each step takes 600 MB more at most, the report 1.5 GB; the faulty sensor is named."""
    plant = wide_plant("400MB")
    ended = stem.run(plant, LEARN_AND_REPORT)
    assert ended.code == 0, ended.output
    grew = [int(line.split()[1]) for line in ended.output.splitlines() if line.startswith("grew")]
    assert len(grew) == 13
    assert max(grew[:-1]) < 600, ended.output
    assert grew[-1] < 1500, ended.output
    blamed = query(
        plant,
        "SELECT sensor, count(*) AS n FROM (SELECT arg_max(sensor, contribution) AS sensor FROM "
        "mart.sensor_contributions WHERE ts >= '2024-03-02 00:40' GROUP BY reading_id) GROUP BY sensor ORDER BY n DESC",
    )
    assert blamed[0][0] == "s7"
    assert blamed[0][1] >= 15


def test_a_step_that_does_not_fit_the_memory_limit_says_so_and_writes_nothing(wide_plant):
    plant = wide_plant("400MB")
    ingest_files(plant)
    plant = wide_plant("50MB")
    with pytest.raises(MemoryLimitError, match=r"more than the 50MB of compute\.memory_limit.* raise the limit"):
        derive_readings(plant)
    assert query(plant, "SELECT count(*) FROM core.readings") == [(0,)]
    assert derive_readings(wide_plant("400MB")).n_readings == 1500
