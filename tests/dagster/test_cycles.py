"""Short cycles: asked for when something has arrived and nothing else runs, and of no effect on what a night finds."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import dagster as dg
import duckdb
import pandas as pd
import pytest

from pwflow_core.config import ScheduleConfig
from pwflow_core.demo import demo_config
from pwflow_core.simulation import write_exports
from pwflow_dagster import cycles
from pwflow_dagster.definitions import build
from pwflow_dagster.names import CYCLES, DELIVER_NOTICES, NIGHTLY_SCORING, PLANT_TAG, SHORT_CYCLE
from pwflow_dagster.partitions import partition_range_tags
from tests.dagster.conftest import KEYS, copy_plant, materialize

SUCCESS, STARTED = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.STARTED
RECORDS = {"runs", "alarm_log", "case_changes"}
"""Tables that say what was told when, and are never rewritten."""
ROUNDED = "sensor_contributions"
"""Products of matrices are rounded by how many readings are explained at once: the last digits differ."""
MADE_BY_RUNS = ("scored_at", "model_set_id", "rejected_at", "ingested_at", "opened_at", "updated_at", "told_at")
"""Columns that say when or by which run something was made."""


def with_cycles(config, minutes=15):
    return config.model_copy(update={"schedule": ScheduleConfig(every_minutes=minutes, timezone="Asia/Tokyo")})


def tick(plant, instance):
    schedule = build(with_cycles(plant.config)).resolve_schedule_def(CYCLES)
    return schedule.evaluate_tick(
        dg.build_schedule_context(instance=instance, scheduled_execution_time=datetime.now(UTC))
    )


def add_run(instance, job, status, tags=None) -> str:
    run = dg.DagsterRun(job, tags={PLANT_TAG: "small"} | (tags or {}), status=status)
    instance.add_run(run)
    return run.run_id


@pytest.mark.parametrize(("minutes", "cron"), [(5, "*/5 * * * *"), (60, "0 * * * *")])
def test_there_is_a_schedule_of_cycles_where_the_configuration_asks_for_one(minutes, cron):
    made = build(with_cycles(demo_config(), minutes)).resolve_schedule_def(CYCLES)
    assert (made.cron_schedule, made.execution_timezone) == (cron, "Asia/Tokyo")
    assert made.default_status is dg.DefaultScheduleStatus.RUNNING
    assert CYCLES not in {schedule.name for schedule in build(demo_config()).schedules}


def test_a_cycle_neither_learns_nor_follows_drift_nor_writes_a_report():
    assets = {key.path[-1] for key in build(demo_config()).resolve_job_def(SHORT_CYCLE).asset_layer.selected_asset_keys}
    night = build(demo_config()).resolve_job_def(NIGHTLY_SCORING).asset_layer.selected_asset_keys
    assert {key.path[-1] for key in night} - assets == {"cluster_health", "plant_report"}
    assert not assets & {"cluster_model", "cluster_flow"}


def test_a_cycle_is_asked_for_when_a_file_changed_and_no_run_is_under_way(plant):
    with plant.instance() as instance:
        [request] = tick(plant, instance).run_requests
        add_run(instance, SHORT_CYCLE, dg.DagsterRunStatus.FAILURE, request.tags)
        assert tick(plant, instance).run_requests[0].tags == request.tags
        add_run(instance, SHORT_CYCLE, SUCCESS, request.tags)
        assert tick(plant, instance).skip_message == "No file of the source has changed since the last cycle."
        write_exports(plant.folder, days=4)
        [other] = tick(plant, instance).run_requests
        assert other.tags != request.tags
        add_run(instance, DELIVER_NOTICES, STARTED)
        assert len(tick(plant, instance).run_requests) == 1
        night = add_run(instance, NIGHTLY_SCORING, STARTED)
        assert tick(plant, instance).skip_message == f"Run {night[:8]} of nightly_scoring is under way."


def test_a_cycle_that_was_killed_holds_up_the_next_ones_for_an_hour_at_most(plant, monkeypatch):
    with plant.instance() as instance:
        add_run(instance, SHORT_CYCLE, STARTED)
        assert "is under way" in tick(plant, instance).skip_message
        monkeypatch.setattr(cycles, "_LONGEST_CYCLE", timedelta(0))
        assert len(tick(plant, instance).run_requests) == 1


def test_before_anything_was_learned_and_without_files_the_tick_says_so(plant, tmp_path):
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        assert "No regimes have been learned yet" in tick(plant, instance).skip_message
    for file in (plant.folder / "exports").iterdir():
        file.unlink()
    with plant.instance() as instance:
        assert "nothing matches" in tick(plant, instance).skip_message


def results(plant) -> dict[str, pd.DataFrame]:
    """Return all that the night has published, but for when it was made."""
    found = {}
    with duckdb.connect(str(plant.config.published_path), read_only=True) as published:
        names = [name for (name,) in published.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        for name in sorted(set(names) - RECORDS):
            frame = published.execute(f"FROM published.mart.{name}").df()
            kept = [column for column in frame if column not in MADE_BY_RUNS]
            found[name] = frame[kept].sort_values(kept, key=lambda column: column.astype(str), ignore_index=True)
    return found


@pytest.fixture
def arrive(tmp_path):
    """Return what lets a part of the fourth day arrive at a plant; a fault lasts from before noon until after it."""
    write_exports(tmp_path / "source", days=4)
    day = tmp_path / "source" / "exports" / "2026-01-08.parquet"
    fault = "machine = 'M2' AND timestamp BETWEEN TIMESTAMP '2026-01-08 11:30' AND TIMESTAMP '2026-01-08 12:30'"

    def put(plant, name, part):
        with duckdb.connect() as connection:
            rows = (
                f"SELECT * REPLACE (bearing_temperature + CASE WHEN {fault} THEN 30 ELSE 0 END AS bearing_temperature) "
                f"FROM read_parquet('{day}') WHERE timestamp {part} TIMESTAMP '2026-01-08 12:00'"
            )
            connection.execute(f"COPY ({rows}) TO '{plant.folder / 'exports' / name}'")

    return put


def test_a_cycle_scores_and_publishes_what_arrived_and_opens_a_case(plant, arrive):
    health = plant.query("SELECT count(*) FROM mart.cluster_health")
    arrive(plant, "a.parquet", "<")
    assert materialize(plant, SHORT_CYCLE, tags=partition_range_tags(KEYS)).success
    with duckdb.connect(str(plant.config.published_path), read_only=True) as published:
        [(last, n)] = published.execute("SELECT max(ts), count(*) FROM mart.anomaly_scores").fetchall()
        assert published.execute("SELECT count(*) FROM mart.cases WHERE state = 'open'").fetchone() == (1,)
    assert (str(last), n) == ("2026-01-08 11:59:00", 3 * 3 * 1440 + 3 * 720)
    assert plant.query("SELECT count(*) FROM mart.cluster_health") == health


def test_a_run_that_scores_waits_for_a_cycle_and_a_cycle_does_not(tmp_path, monkeypatch):
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        under_way = add_run(instance, SHORT_CYCLE, STARTED)
        waited = []

        def end(seconds):
            waited.append(seconds)
            instance.report_run_failed(instance.get_run_by_id(under_way))

        monkeypatch.setattr(cycles.time, "sleep", end)
        for job, n_waits in ((SHORT_CYCLE, 0), (NIGHTLY_SCORING, 1), (NIGHTLY_SCORING, 1)):
            context = SimpleNamespace(run=dg.DagsterRun(job), instance=instance, log=logging.getLogger("test"))
            cycles.wait_for_cycle(context, "small")
            assert len(waited) == n_waits


@pytest.mark.long(
    reason="22 CPU s: that results do not depend on when readings arrive is kept by tests/faults/test_any_order.py"
)
def test_a_night_after_cycles_finds_what_a_night_without_them_finds(finished, arrive, tmp_path):
    night, cycled = (copy_plant(finished, tmp_path / name) for name in ("night", "cycled"))
    over_all = partition_range_tags(KEYS)
    arrive(cycled, "a.parquet", "<")
    assert materialize(cycled, SHORT_CYCLE, tags=over_all).success
    arrive(cycled, "b.parquet", ">=")
    assert materialize(cycled, SHORT_CYCLE, tags=over_all).success
    assert materialize(cycled, NIGHTLY_SCORING, tags=over_all).success
    arrive(night, "a.parquet", "<")
    arrive(night, "b.parquet", ">=")
    assert materialize(night, NIGHTLY_SCORING, tags=over_all).success
    expected, got = results(night), results(cycled)
    assert len(expected["anomaly_events"]) > 0
    assert expected.keys() == got.keys()
    assert [name for name in expected if name != ROUNDED and not got[name].equals(expected[name])] == []
    pd.testing.assert_frame_equal(got[ROUNDED], expected[ROUNDED], rtol=1e-12, atol=1e-12)
