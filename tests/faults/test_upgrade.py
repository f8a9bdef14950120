"""Warehouses of other releases: an older one is brought up to date with all that is in it, a newer one refused."""

import duckdb
import pytest

from pwflow_core.errors import WarehouseVersionError
from pwflow_core.pipeline.decisions.verdicts import Decider, settle_answered
from pwflow_core.pipeline.scoring.checks import check_scores
from pwflow_core.warehouse import FileWarehouse
from pwflow_core.warehouse.migration import MIGRATIONS, SCHEMA_VERSION, pending
from tests.conftest import query
from tests.faults.conftest import (
    LAYOUT_3,
    NIGHT,
    OLD_LAYOUTS,
    RELEASE_0_1,
    OldLayout,
    add_night,
    as_of,
    open_copy,
    published,
)

COLUMNS = (
    "SELECT schema_name, table_name, column_name, data_type, comment FROM duckdb_columns() "
    "WHERE database_name = current_database() AND schema_name IN ('ingest', 'core', 'mart') "
    "AND table_name NOT IN ('features', 'model_readings') ORDER BY ALL"
)

MADE_AGAIN = ("core.component_log_density", "core.calibration", "core.calibration_steps")
"""What is derived, and ranks something else than in older layouts: it is dropped, and the next run makes it again."""


def all_rows(plant, layout: OldLayout) -> dict[str, list[tuple]]:
    """Count and hash the rows of every table that a layout had, by the columns that it had."""
    with duckdb.connect() as connection:
        connection.execute(layout.tables.read_text())
        known = connection.execute(
            "SELECT schema_name || '.' || table_name, list(column_name ORDER BY column_index) FROM duckdb_columns() "
            "WHERE schema_name IN ('core', 'mart') AND table_name NOT IN ('progress', 'plant_facts', "
            "'warehouse_state', 'suspects', 'source_files') GROUP BY ALL"
        ).fetchall()
    return {
        table: query(
            plant,
            f"SELECT count(*), sum(hash({', '.join(layout.expression(table, name) for name in columns)})) FROM {table}",
        )
        for table, columns in known
    }


@pytest.mark.parametrize(
    "layout",
    [RELEASE_0_1, pytest.param(LAYOUT_3, marks=pytest.mark.long(reason="7 CPU s: the older one stays at each push"))],
    ids=["release 0.1", "layout 3"],
)
def test_an_older_warehouse_keeps_all_its_rows_and_the_next_night_runs_on_it(layout, trained_plant, stem):
    before = all_rows(trained_plant, layout)
    as_of(trained_plant, layout)
    plant = open_copy(trained_plant.config.folder)
    assert all_rows(plant, layout) == before | {table: [(0, None)] for table in MADE_AGAIN}
    assert query(plant, "SELECT schema_version FROM core.warehouse_state") == [(SCHEMA_VERSION,)]
    add_night(plant)
    ended = stem.run(plant, NIGHT)
    assert ended.code == 0, ended.output
    assert published(plant)[0][0] == before["mart.anomaly_scores"][0][0] + 120
    after = all_rows(plant, layout)
    assert after["core.calibration_steps"] == before["core.calibration_steps"]
    assert after["core.component_log_density"][0][0] > before["core.component_log_density"][0][0]
    assert all(result.passed for result in check_scores(plant) if result.is_blocking)


@pytest.mark.parametrize("layout", OLD_LAYOUTS.values(), ids=OLD_LAYOUTS)
def test_a_warehouse_that_was_brought_up_to_date_has_the_columns_of_a_new_one(layout, trained_plant, tmp_path_factory):
    """A change of `schema.sql` that an older warehouse does not get needs a step in `migration.py`."""
    fresh = FileWarehouse(tmp_path_factory.mktemp("fresh") / "w.duckdb", wait_seconds=1, memory_limit="1GB")
    with fresh.transaction() as connection:
        expected = connection.execute(COLUMNS).fetchall()
    with duckdb.connect(str(trained_plant.warehouse.path)) as connection:
        for (schema,) in connection.execute("SELECT DISTINCT schema_name FROM duckdb_tables()").fetchall():
            connection.execute(f"DROP SCHEMA {schema} CASCADE")
        connection.execute(layout.tables.read_text())
    plant = open_copy(trained_plant.config.folder)
    plant.warehouse.ledger_path.unlink()
    with plant.warehouse.snapshot() as connection:
        assert connection.execute(COLUMNS).fetchall() == expected


def test_every_migration_has_a_name_and_those_that_a_warehouse_lacks_are_listed():
    layouts = [migration.layout for migration in MIGRATIONS]
    assert layouts == list(range(2, SCHEMA_VERSION + 1)), "each leads to the next layout"
    assert len({migration.name for migration in MIGRATIONS}) == len(MIGRATIONS)
    assert pending(1) == MIGRATIONS
    assert [migration.layout for migration in pending(3)] == list(range(4, SCHEMA_VERSION + 1))
    assert pending(SCHEMA_VERSION) == pending(0) == (), "a new one lacks none"


def test_what_was_decided_about_verdicts_before_their_changes_were_kept_is_told_with_its_run(trained_plant):
    as_of(trained_plant, LAYOUT_3)
    with duckdb.connect(str(trained_plant.warehouse.path)) as connection:
        connection.execute(
            """
            INSERT INTO mart.drift_verdicts
                (verdict_id, verdict, answer, status, decided_by, made_at, decided_at, cluster_keys)
            VALUES ('open', 'outage', 'none', 'open', NULL, '2024-04-01 03:00', NULL, []),
                   ('asked', 'regime_moved', 'retrain', 'requested', 'dagster run 7d1e-4', '2024-04-01', '2024-04-02',
                    ['c0001']),
                   ('gone', 'machine_moved', 'ask', 'dismissed', 'Ada: dagster run 5 was a trial', '2024-04-01',
                    '2024-04-03', ['c0001']);
            INSERT INTO mart.flow_decisions (cluster_key, decided_by) VALUES ('c0001', 'dagster run 7d1e-4')
            """
        )
    plant = open_copy(trained_plant.config.folder)
    runs = "SELECT verdict_id, run_id FROM mart.drift_verdicts WHERE run_id IS NOT NULL"
    assert query(plant, runs) == [("asked", "7d1e-4")]
    assert query(plant, "SELECT cluster_key FROM mart.flow_decisions WHERE run_id = '7d1e-4'") == [("c0001",)]
    told = "SELECT from_status, to_status, changed_at::DATE::VARCHAR, changed_by, run_id FROM mart.verdict_changes "
    assert query(plant, f"{told} WHERE verdict_id = 'open'") == [(None, "open", "2024-04-01", "drift", None)]
    assert query(plant, f"{told} WHERE verdict_id = 'asked' ORDER BY changed_at") == [
        (None, "open", "2024-04-01", "drift", None),
        ("open", "requested", "2024-04-02", "dagster run 7d1e-4", "7d1e-4"),
    ]
    settle_answered(plant, by=Decider("dagster run 7d1e-4", "7d1e-4"))
    dismissed = query(plant, "SELECT verdict_id, status FROM mart.drift_verdicts ORDER BY ALL")
    assert dismissed == [("asked", "done"), ("gone", "dismissed"), ("open", "open")]


def test_what_was_decided_about_stretches_before_their_changes_were_kept_is_told(trained_plant):
    with duckdb.connect(str(trained_plant.warehouse.path)) as connection:
        connection.execute(
            """
            DROP TABLE mart.stretch_changes;
            UPDATE core.warehouse_state SET schema_version = 22;
            INSERT INTO mart.unusual_stretches (stretch_id, status, decided_at, decided_by)
            VALUES ('U-000001', 'open', NULL, NULL), ('U-000002', 'fault', '2024-04-02', 'kim: a leak')
            """
        )
    plant = open_copy(trained_plant.config.folder)
    assert query(plant, "SELECT * EXCLUDE (changed_at), changed_at::DATE::VARCHAR FROM mart.stretch_changes") == [
        ("U-000002", "open", "fault", "kim: a leak", None, None, "2024-04-02")
    ]


def test_a_warehouse_of_this_layout_is_left_as_it_is(trained_plant):
    """Every run would wait for it."""
    with duckdb.connect(str(trained_plant.warehouse.path)) as connection:
        connection.execute("COMMENT ON TABLE mart.clusters IS 'mine'")
    plant = open_copy(trained_plant.config.folder)
    with plant.warehouse.transaction() as connection:
        connection.execute("INSERT INTO core.plant_facts VALUES ('a', '')")
    assert query(plant, "SELECT comment FROM duckdb_tables() WHERE table_name = 'clusters'") == [("mine",)]


@pytest.mark.parametrize("how", ["transaction", "snapshot"])
def test_a_newer_warehouse_is_refused_and_left_alone(trained_plant, how):
    with duckdb.connect(str(trained_plant.warehouse.path)) as connection:
        connection.execute("UPDATE core.warehouse_state SET schema_version = ?", [SCHEMA_VERSION + 1])
    before = trained_plant.warehouse.path.read_bytes()
    plant = open_copy(trained_plant.config.folder)
    with (
        pytest.raises(WarehouseVersionError, match=rf"layout {SCHEMA_VERSION + 1}, .* up to {SCHEMA_VERSION}: install"),
        getattr(plant.warehouse, how)(),
    ):
        pass
    assert plant.warehouse.path.read_bytes() == before
