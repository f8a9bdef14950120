"""Warehouses of other releases: an older one is brought up to date with all that is in it, a newer one refused."""

import duckdb
import pytest

from pwflow_core.errors import WarehouseVersionError
from pwflow_core.pipeline.scoring.checks import check_scores
from pwflow_core.warehouse import Warehouse
from pwflow_core.warehouse.migration import SCHEMA_VERSION
from pwflow_core.warehouse.sql import quote_columns
from tests.conftest import query
from tests.faults.conftest import NIGHT, RELEASE_0_1, RENAMED, add_night, as_release_0_1, open_copy, published

COLUMNS = (
    "SELECT schema_name, table_name, column_name, data_type, comment FROM duckdb_columns() "
    "WHERE database_name = current_database() AND schema_name IN ('ingest', 'core', 'mart') "
    "AND table_name NOT IN ('features', 'model_readings') ORDER BY ALL"
)


def all_rows(plant) -> dict[str, list[tuple]]:
    """Count and hash the rows of every table that release 0.1 had, by the columns that it had."""
    with duckdb.connect() as connection:
        connection.execute(RELEASE_0_1.read_text())
        known = connection.execute(
            "SELECT schema_name || '.' || table_name, list(column_name ORDER BY column_index) FROM duckdb_columns() "
            "WHERE schema_name IN ('core', 'mart') AND table_name NOT IN ('progress', 'plant_facts') GROUP BY ALL"
        ).fetchall()
    return {
        table: query(
            plant,
            f"SELECT count(*), sum(hash({quote_columns(RENAMED.get((table, name), name) for name in columns)})) "
            f"FROM {table}",
        )
        for table, columns in known
    }


def test_a_warehouse_of_release_0_1_keeps_all_its_rows_and_the_next_night_runs_on_it(trained_plant, stem):
    before = all_rows(trained_plant)
    as_release_0_1(trained_plant)
    plant = open_copy(trained_plant.config.folder)
    assert all_rows(plant) == before
    assert query(plant, "SELECT schema_version FROM core.warehouse_state") == [(SCHEMA_VERSION,)]
    add_night(plant)
    ended = stem.run(plant, NIGHT)
    assert ended.code == 0, ended.output
    assert published(plant)[0][0] == before["mart.anomaly_scores"][0][0] + 120
    assert all(result.passed for result in check_scores(plant) if result.is_blocking)


def test_a_warehouse_that_was_brought_up_to_date_has_the_columns_of_a_new_one(trained_plant, tmp_path_factory):
    """A change of `schema.sql` that an older warehouse does not get needs a step in `migration.py`."""
    fresh = Warehouse(tmp_path_factory.mktemp("fresh") / "w.duckdb", wait_seconds=1, memory_limit="1GB")
    with fresh.transaction() as connection:
        expected = connection.execute(COLUMNS).fetchall()
    with duckdb.connect(str(trained_plant.warehouse.path)) as connection:
        for (schema,) in connection.execute("SELECT DISTINCT schema_name FROM duckdb_tables()").fetchall():
            connection.execute(f"DROP SCHEMA {schema} CASCADE")
        connection.execute(RELEASE_0_1.read_text())
    plant = open_copy(trained_plant.config.folder)
    plant.warehouse.ledger_path.unlink()
    with plant.warehouse.snapshot() as connection:
        assert connection.execute(COLUMNS).fetchall() == expected


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
