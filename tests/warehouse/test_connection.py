"""The warehouse: one writer at a time, who is waited for, and whose half-done work is never seen."""

import re
import time

import duckdb
import pytest

from pwflow_core.errors import ConfigurationError, NotFittedError, WarehouseLockedError
from pwflow_core.warehouse import PUBLIC_TABLES, describe_table, quote_identifier, quote_literal
from tests.conftest import kill_at, query, start_process

HOLD = """
with plant.warehouse.{how}() as connection:
    connection.execute("SELECT 1")
    print("held", flush=True)
    sys.stdin.readline()
"""
FACT = "INSERT INTO core.plant_facts VALUES ('answer', '42')"


def hold(plant, how: str):
    with plant.warehouse.transaction():
        pass
    process = start_process(plant, HOLD.format(how=how))
    assert process.stdout.readline() == "held\n", process.communicate()
    return process


@pytest.mark.parametrize("how", ["transaction", "snapshot"])
def test_a_held_warehouse_is_waited_for_and_then_its_holder_named(make_plant, how):
    plant = make_plant(warehouse={"wait_seconds": 0.5})
    process = hold(plant, how)
    try:
        started = time.monotonic()
        with (
            pytest.raises(WarehouseLockedError, match=rf"process {process.pid}\).*within 0\.5 s"),
            plant.warehouse.transaction(),
        ):
            pass
        assert 0.5 <= time.monotonic() - started < 5
    finally:
        process.communicate("go\n", timeout=20)
    with plant.warehouse.transaction() as connection:
        connection.execute(FACT)


def test_a_warehouse_that_is_freed_in_time_is_opened(make_plant):
    plant = make_plant(warehouse={"wait_seconds": 20.0})
    process = hold(plant, "transaction")
    process.stdin.write("go\n")
    process.stdin.flush()
    with plant.warehouse.transaction() as connection:
        connection.execute(FACT)
    assert process.wait(timeout=20) == 0


def test_readers_share_the_warehouse(make_plant):
    plant = make_plant(warehouse={"wait_seconds": 0.5})
    process = hold(plant, "snapshot")
    try:
        assert query(plant, "SELECT count(*) FROM core.plant_facts") == [(0,)]
    finally:
        process.communicate("go\n", timeout=20)


def test_an_error_rolls_everything_back_and_frees_the_file(make_plant):
    plant = make_plant()
    with pytest.raises(duckdb.ConversionException), plant.warehouse.transaction() as connection:
        connection.execute(FACT + "; SELECT 'x'::INTEGER")
    assert query(plant, "SELECT * FROM core.plant_facts") == []
    with plant.warehouse.transaction() as connection:
        connection.execute(FACT)
    assert query(plant, "SELECT * FROM core.plant_facts") == [("answer", "42")]


def test_a_snapshot_cannot_write(make_plant):
    plant = make_plant()
    with plant.warehouse.transaction():
        pass
    with pytest.raises(duckdb.InvalidInputException), plant.warehouse.snapshot() as connection:
        connection.execute(FACT)


def test_a_snapshot_before_any_write_says_what_to_run(make_plant):
    plant = make_plant()
    with pytest.raises(NotFittedError, match="pwflow run"), plant.warehouse.snapshot():
        pass
    assert not plant.warehouse.path.exists(), "asking makes no file"


def test_a_warehouse_whose_first_run_was_killed_counts_as_none(make_plant, stem):
    plant = make_plant()
    kill_at(stem, plant, "pwflow_core.warehouse.migration", "read_sql", "with plant.warehouse.transaction(): pass")
    assert plant.warehouse.path.exists()
    with pytest.raises(NotFittedError, match="pwflow run"), plant.warehouse.snapshot():
        pass
    with plant.warehouse.transaction() as connection:
        connection.execute(FACT)


@pytest.mark.parametrize("content", [b"these are not the tables you are looking for" * 500, b""], ids=["text", "empty"])
@pytest.mark.parametrize("how", ["transaction", "snapshot"])
def test_a_file_of_another_kind_is_named_and_left_alone(make_plant, content, how):
    plant = make_plant()
    plant.warehouse.path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=re.escape(str(plant.warehouse.path))), getattr(plant.warehouse, how)():
        pass
    assert plant.warehouse.path.read_bytes() == content


@pytest.mark.parametrize("hostile", ['a"b', "it's", "x; DROP TABLE y", "--", "", "ünï\n"])
def test_quoting_takes_every_name_and_text_as_it_is(hostile):
    with duckdb.connect() as connection:
        assert connection.execute(f"SELECT {quote_literal(hostile)}").fetchall() == [(hostile,)]
        if hostile:
            relation = connection.execute(f"SELECT 1 AS {quote_identifier(hostile)}")
            assert relation.description[0][0] == hostile


def test_every_public_column_is_described(make_plant):
    plant = make_plant()
    with plant.warehouse.transaction() as connection:
        for table in PUBLIC_TABLES:
            columns = describe_table(connection, "mart", table)
            assert columns
            assert [column.name for column in columns if not column.description] == []


def test_a_large_insert_behind_an_empty_one_loses_nothing(make_plant):
    warehouse = make_plant().warehouse
    with warehouse.transaction() as connection:
        connection.execute("SET threads = 2")
        connection.execute("CREATE TABLE numbers AS SELECT range AS n FROM range(200000)")
        connection.execute("CREATE TABLE copied (n BIGINT)")
    with warehouse.transaction() as connection:
        connection.execute("SET threads = 2")
        connection.execute("INSERT INTO copied SELECT n FROM numbers WHERE n < 0")
        connection.execute("INSERT INTO copied SELECT n FROM numbers")
        assert connection.execute("SELECT count(*), min(n), max(n) FROM copied").fetchone() == (200_000, 0, 199_999)
    with warehouse.snapshot() as connection:
        assert connection.execute("SELECT count(*), min(n), max(n) FROM copied").fetchone() == (200_000, 0, 199_999)
