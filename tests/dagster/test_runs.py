from __future__ import annotations

import shutil
from datetime import UTC, datetime

import dagster as dg
import duckdb
import pytest

from pwflow_dagster.definitions import build
from pwflow_dagster.partitions import partition_range_tags
from tests.dagster.conftest import KEYS, SLICE_HASHES, UNCHALLENGED, materialize

NIGHT = datetime(2026, 1, 8, 2, tzinfo=UTC)


def test_the_whole_path_ends_in_a_score_or_a_status_for_every_reading(finished):
    [(readings, scored)] = finished.query(
        "SELECT count(*), count(s.reading_id) FROM core.readings LEFT JOIN mart.anomaly_scores s USING (reading_id)"
    )
    assert readings == scored == 3 * 3 * 1440
    statuses = dict(finished.query("SELECT status, count(*) FROM mart.anomaly_scores GROUP BY status"))
    assert statuses["scored"] > 0.9 * readings
    [(wrong,)] = finished.query(
        "SELECT count(*) FROM mart.anomaly_scores WHERE (status = 'scored') <> (p_value IS NOT NULL) "
        "OR (status = 'scored') <> (is_anomaly IS NOT NULL)"
    )
    assert wrong == 0


def test_every_cluster_is_a_materialized_partition_with_its_own_metadata(finished):
    with finished.instance() as instance:
        for asset in ("cluster_assignments", "cluster_flow", "component_log_density"):
            key = dg.AssetKey(["small", asset])
            assert instance.get_materialized_partitions(key) == set(KEYS)
        events = instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey(["small", "cluster_flow"])), limit=10
        ).records
        versions = {
            record.partition_key: record.asset_materialization.metadata["flow version"].value for record in events
        }
    expected = finished.query("SELECT cluster_key, flow_version FROM mart.flow_versions WHERE in_force")
    assert versions == dict(expected)


def test_assets_carry_row_counts_column_schemas_and_lineage(finished):
    with finished.instance() as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(["small", "anomaly_scores"]))
        metadata = event.asset_materialization.metadata
    [(rows,)] = finished.query("SELECT count(*) FROM mart.anomaly_scores")
    assert metadata["dagster/row_count"].value == rows
    columns = metadata["dagster/column_schema"].schema.columns
    assert [column.name for column in columns][:3] == ["reading_id", "machine_id", "ts"]
    assert all(column.description for column in columns)
    lineage = metadata["dagster/column_lineage"].value.deps_by_column
    assert lineage["p_value"][0].asset_key == dg.AssetKey(["small", "component_log_density"])


def test_blame_and_events_are_published_and_shown(finished):
    with duckdb.connect(str(finished.config.published_path), read_only=True) as published:
        [(anomalies, explained)] = published.execute(
            "SELECT (SELECT count(*) FROM mart.anomaly_scores WHERE is_anomaly), "
            "(SELECT count(DISTINCT reading_id) FROM mart.sensor_contributions)"
        ).fetchall()
        [(events, strangers)] = published.execute(
            "SELECT count(*), count(*) FILTER (NOT EXISTS (FROM mart.anomaly_scores AS score WHERE is_anomaly "
            "AND score.machine_id = event.machine_id AND score.ts = event.started_at "
            "AND ends_with(score.reading_id, event_id[3:]))) FROM mart.anomaly_events AS event"
        ).fetchall()
    assert anomalies == explained > 0
    assert strangers == 0
    with finished.instance() as instance:
        for asset, rows in (("anomaly_events", events), ("sensor_contributions", 8 * anomalies)):
            event = instance.get_latest_materialization_event(dg.AssetKey(["small", asset]))
            metadata = event.asset_materialization.metadata
            assert metadata["dagster/row_count"].value == rows
            assert all(column.description for column in metadata["dagster/column_schema"].schema.columns)


def test_a_second_run_is_the_nightly_job_and_scores_nothing_again(plant):
    before = plant.query(SLICE_HASHES)
    scores = plant.query("SELECT md5(string_agg(s::VARCHAR, ',' ORDER BY reading_id)) FROM mart.anomaly_scores s")
    [outcome] = plant.run()
    assert (outcome.job, outcome.error) == ("nightly_scoring", None)
    assert plant.query(SLICE_HASHES) == before
    assert (
        plant.query("SELECT md5(string_agg(s::VARCHAR, ',' ORDER BY reading_id)) FROM mart.anomaly_scores s") == scores
    )


def test_a_new_day_is_scored_and_the_old_scores_stay_as_they_are(plant):
    from pwflow_core.simulation import write_exports

    old = (
        "SELECT md5(string_agg(s::VARCHAR, ',' ORDER BY reading_id)) FROM mart.anomaly_scores s WHERE ts < '2026-01-08'"
    )
    before = plant.query(old)
    write_exports(plant.folder, days=4)
    [outcome] = plant.run()
    assert (outcome.job, outcome.error) == ("nightly_scoring", None)
    assert plant.query(old) == before
    assert plant.query("SELECT count(*) FROM mart.anomaly_scores") == [(4 * 3 * 1440,)]
    with duckdb.connect(str(plant.config.published_path), read_only=True) as published:
        assert published.execute("SELECT count(*) FROM mart.anomaly_scores").fetchone() == (4 * 3 * 1440,)


@pytest.mark.long(reason="9 CPU s: a rollback by a click says so of its slice, and the core says it of a training")
def test_retraining_one_partition_leaves_other_slices_byte_equal(plant):
    changed = plant.config.flow.model_copy(update={"random_state": 1})
    plant.config = plant.config.model_copy(update={"flow": changed})
    before = dict(plant.query(SLICE_HASHES))
    result = materialize(plant, "retrain_cluster", partition_key="c0002", run_config=UNCHALLENGED)
    assert result.success
    after = dict(plant.query(SLICE_HASHES))
    assert {key for key in KEYS if before[key] != after[key]} == {"c0002"}
    [(versions,)] = plant.query("SELECT count(*) FROM mart.flow_versions WHERE cluster_key = 'c0002'")
    assert versions == 2


@pytest.mark.long(reason="7 CPU s: a retired key is refused in the core at each push")
def test_a_run_over_a_range_passes_over_retired_clusters(plant):
    with plant.plant.warehouse.transaction() as connection:
        connection.execute("UPDATE mart.clusters SET status = 'retired' WHERE cluster_key = 'c0004'")
    result = materialize(plant, "nightly_scoring", tags=partition_range_tags(KEYS))
    assert result.success


def test_an_unknown_partition_is_refused_with_the_valid_ones(plant):
    with plant.instance() as instance:
        instance.add_dynamic_partitions("small_clusters", ["nonsense"])
    result = materialize(plant, "retrain_cluster", partition_key="nonsense")
    assert not result.success
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert "c0001, c0002, c0003, c0004" in failure.step_failure_data.user_failure_data.description


def test_the_schedule_asks_for_one_run_over_all_clusters(plant):
    with plant.instance() as instance:  # Dagster looks at the last instance when definitions load
        nightly = build(plant.config).resolve_schedule_def("nightly")
        [request] = nightly.evaluate_tick(dg.build_schedule_context(instance, NIGHT)).run_requests
    assert request.tags["dagster/asset_partition_range_start"] == "c0001"
    assert request.tags["dagster/asset_partition_range_end"] == "c0004"


@pytest.mark.long(reason="15 CPU s: the two jobs that it joins are run for every test here")
def test_the_whole_path_job_needs_no_partition(plant):
    plant.config.warehouse_path.unlink()
    result = materialize(plant, "whole_path")
    assert result.success
    assert plant.query("SELECT count(*) FROM mart.anomaly_scores WHERE status = 'scored'")[0][0] > 0


def test_a_source_without_files_fails_with_a_sentence(plant):
    source = plant.config.source.model_copy(update={"path": "nowhere/*.csv"})
    plant.config = plant.config.model_copy(update={"source": source})
    [outcome] = plant.run()
    assert "nothing matches" in (outcome.error or "")
    assert "Traceback" not in (outcome.error or "")


def test_a_new_dagster_instance_learns_the_partitions_from_the_warehouse(plant):
    shutil.rmtree(plant.folder / "dagster")
    (plant.folder / "dagster").mkdir()
    [outcome] = plant.run()
    assert (outcome.job, outcome.error) == ("nightly_scoring", None)
    with plant.instance() as instance:
        assert instance.get_dynamic_partitions("small_clusters") == KEYS
