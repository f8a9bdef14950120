"""Scripts, values, frames and nights: what every step does with a connection."""

from datetime import UTC, date, datetime, timedelta, timezone

import duckdb
import pandas as pd
import pytest

from pwflow_core.warehouse import FileWarehouse, fetch_value, in_utc, insert_frame, registered, run_script, utc_now

TIME = datetime.fromisoformat


@pytest.fixture
def connection(tmp_path):
    with FileWarehouse(tmp_path / "w.duckdb", wait_seconds=1, memory_limit="1GB").scratch() as opened:
        yield opened


def test_each_statement_of_a_script_gets_the_values_that_it_names(connection):
    run_script(connection, "CREATE TABLE t AS SELECT $a AS a; INSERT INTO t SELECT $b; SELECT 1", {"a": 1, "b": 2})
    assert connection.execute("FROM t ORDER BY a").fetchall() == [(1,), (2,)]
    with pytest.raises(KeyError, match="c"):
        run_script(connection, "SELECT $c", {"a": 1})


def test_the_first_value_is_none_where_there_is_no_row(connection):
    assert fetch_value(connection, "SELECT ? + 1, 'more'", [1]) == 2
    assert fetch_value(connection, "SELECT $x WHERE $x > 5", {"x": 1}) is None


def test_frames_are_inserted_by_name_and_forgotten_also_after_an_error(connection):
    connection.execute("CREATE TABLE t (machine VARCHAR, night DATE, x DOUBLE)")
    frame = pd.DataFrame({"x": [0.5], "night": [pd.Timestamp("2026-03-01")]})
    insert_frame(connection, "t", frame, machine="M1")
    insert_frame(connection, "t", frame.iloc[:0], machine="M2")
    assert connection.execute("FROM t").fetchall() == [("M1", date(2026, 3, 1), 0.5)]
    with registered(connection, shown=frame):
        assert fetch_value(connection, "SELECT x FROM shown") == 0.5
    with pytest.raises(duckdb.BinderException), registered(connection, shown=frame):
        connection.execute("SELECT absent FROM shown")
    with pytest.raises(duckdb.CatalogException):
        connection.execute("FROM shown")


def test_a_night_is_the_calendar_day_of_its_time_zone_also_when_clocks_change(connection):
    query = "SELECT night_of($ts, $timezone)::VARCHAR"
    for ts, zone, night in [
        (TIME("2026-03-28T23:30"), "Europe/Berlin", "2026-03-29"),
        (TIME("2026-03-29T21:59"), "Europe/Berlin", "2026-03-29"),
        (TIME("2026-03-29T22:00"), "Europe/Berlin", "2026-03-30"),
        (TIME("2026-01-01T14:59"), "Asia/Tokyo", "2026-01-01"),
        (TIME("2026-01-01T15:00"), "Asia/Tokyo", "2026-01-02"),
    ]:
        assert fetch_value(connection, query, {"ts": ts, "timezone": zone}) == night


def test_times_are_kept_in_utc_without_a_zone():
    assert in_utc(datetime(2026, 1, 1, 9, tzinfo=timezone(timedelta(hours=9)))) == TIME("2026-01-01T00:00")
    assert in_utc(TIME("2026-01-01T00:00")) == TIME("2026-01-01T00:00")
    assert abs(utc_now() - datetime.now(UTC).replace(tzinfo=None)) < timedelta(seconds=5)
