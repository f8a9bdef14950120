"""Laws of the exported files: complete, replay-safe, growing, and free of truth."""

from __future__ import annotations

import json
from datetime import date

import duckdb
import numpy as np
import pytest

from pwflow_core.errors import ConfigurationError
from pwflow_core.simulation import SENSOR_NAMES, SimulatedPlant, write_exports

pytestmark = pytest.mark.quick


def snapshot(folder):
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def contents(folder):
    return {name: content for name, (_, content) in snapshot(folder).items()}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plant")
    write_exports(folder, days=8)
    return folder


def test_exports_hold_the_historians_columns_and_no_truth(exported):
    columns = duckdb.sql(f"DESCRIBE FROM '{exported}/exports/*.parquet'").fetchall()
    assert [name for name, *_ in columns] == ["timestamp", "machine", "recipe", *SENSOR_NAMES]
    types = [kind for _, kind, *_ in columns]
    assert types == ["TIMESTAMP WITH TIME ZONE", "VARCHAR", "VARCHAR", *["DOUBLE"] * 8]
    assert sorted(path.name for path in (exported / "exports").iterdir()) == [
        f"2026-01-{day:02d}.parquet" for day in range(5, 13)
    ]


def test_exports_hold_what_the_plant_measured(exported):
    expected = SimulatedPlant().day(6)
    ordered = duckdb.sql(
        f"SELECT DISTINCT * FROM '{exported}/exports/2026-01-11.parquet' ORDER BY machine, timestamp"
    ).fetchnumpy()
    for column, name in enumerate(SENSOR_NAMES):
        values = np.ma.filled(ordered[name], np.nan)
        assert np.array_equal(values, expected.values[:, column], equal_nan=True)


def test_each_file_holds_exactly_one_utc_day(exported):
    rows = duckdb.sql(
        f"""
        SELECT parse_filename(filename, true), min(epoch(timestamp)), max(epoch(timestamp))
        FROM read_parquet('{exported}/exports/*.parquet', filename = true) GROUP BY 1 ORDER BY 1
        """
    ).fetchall()
    for name, first, last in rows:
        midnight = (date.fromisoformat(name) - date(1970, 1, 1)).days * 86400
        assert (first, last) == (midnight, midnight + 1439 * 60)


def test_the_truth_has_one_row_per_reading_and_explains_every_blemish(exported):
    truth = f"'{exported}/truth/truth.parquet'"
    exports = f"'{exported}/exports/*.parquet'"
    rows, keys = duckdb.sql(f"SELECT count(*), count(DISTINCT (machine, timestamp)) FROM {truth}").fetchall()[0]
    assert rows == keys == 8 * 3 * 1440
    repeated, labelled = duckdb.sql(
        f"""
        SELECT (SELECT count(*) FROM {exports}) - (SELECT count(*) FROM {truth}),
               (SELECT count(*) FROM {truth} WHERE blemish = 'duplicate')
        """
    ).fetchall()[0]
    assert repeated == labelled > 0
    missing = " OR ".join(f"{name} IS NULL" for name in SENSOR_NAMES)
    unexplained = duckdb.sql(
        f"""
        SELECT count(*) FROM {exports} JOIN {truth} USING (machine, timestamp)
        WHERE ({missing}) <> (blemish IS NOT DISTINCT FROM 'missing')
        """
    ).fetchall()[0]
    assert unexplained == (0,)
    assert duckdb.sql(f"SELECT count(*) FROM {truth} WHERE blemish IS NOT NULL").fetchall()[0][0] < 0.005 * rows


def test_the_fault_table_agrees_with_the_truth_per_reading(exported):
    disagreeing = duckdb.sql(
        f"""
        WITH per_reading AS (
            SELECT fault_id, fault_kind AS kind, machine, min(timestamp) AS start, max(timestamp) AS end
            FROM '{exported}/truth/truth.parquet' WHERE fault_id IS NOT NULL GROUP BY ALL
        ), per_fault AS (
            SELECT fault_id, kind, machine, start, "end" FROM '{exported}/truth/faults.parquet'
        )
        (FROM per_reading EXCEPT FROM per_fault) UNION ALL (FROM per_fault EXCEPT FROM per_reading)
        """
    ).fetchall()
    assert disagreeing == []
    assert duckdb.sql(f"SELECT count(*) FROM '{exported}/truth/faults.parquet'").fetchall()[0][0] > 0


def test_a_second_call_touches_nothing(exported):
    before = snapshot(exported)
    again = write_exports(exported, days=8)
    assert (again.n_written, again.n_kept) == (0, 10)
    assert snapshot(exported) == before


def test_a_missing_and_a_damaged_day_are_restored_to_the_byte_and_the_others_left_alone(tmp_path):
    write_exports(tmp_path, days=4)
    before = snapshot(tmp_path)
    lost, damaged = "exports/2026-01-06.parquet", "exports/2026-01-08.parquet"
    (tmp_path / lost).unlink()
    (tmp_path / damaged).write_bytes(before[damaged][1][:-40])
    assert write_exports(tmp_path, days=4).n_written == 2
    after = snapshot(tmp_path)
    assert {name for name in before if after[name] != before[name]} == {lost, damaged}
    assert contents(tmp_path) == {name: content for name, (_, content) in before.items()}


@pytest.mark.parametrize("manifest", [None, "{ not JSON"])
def test_a_lost_manifest_is_restored_without_touching_the_files(tmp_path, manifest):
    write_exports(tmp_path, days=2)
    before = snapshot(tmp_path)
    path = tmp_path / "truth" / "manifest.json"
    path.unlink() if manifest is None else path.write_text(manifest)
    assert write_exports(tmp_path, days=2).n_written == 0
    after = snapshot(tmp_path)
    assert contents(tmp_path) == {name: content for name, (_, content) in before.items()}
    del before["truth/manifest.json"], after["truth/manifest.json"]
    assert after == before


def test_growing_by_days_ends_in_the_same_files_as_writing_them_at_once(tmp_path, exported):
    write_exports(tmp_path, days=3)
    early = snapshot(tmp_path)
    grown = write_exports(tmp_path, days=8)
    assert grown.n_written == 5 + 2
    assert contents(tmp_path) == contents(exported)
    days = [name for name in early if name.startswith("exports/")]
    assert all(snapshot(tmp_path)[name] == early[name] for name in days)


def test_asking_for_fewer_days_than_are_there_keeps_them_all(tmp_path):
    write_exports(tmp_path, days=3)
    before = snapshot(tmp_path)
    (tmp_path / "exports" / "2026-01-05.parquet").unlink()
    assert len(write_exports(tmp_path, days=1).exports) == 1
    assert contents(tmp_path) == {name: content for name, (_, content) in before.items()}


def test_a_plant_without_faults_writes_the_same_tables_empty(tmp_path):
    write_exports(tmp_path, days=1, with_faults=False, with_blemishes=False)
    for name in ("truth", "faults"):
        kinds = dict(row[:2] for row in duckdb.sql(f"DESCRIBE FROM '{tmp_path}/truth/{name}.parquet'").fetchall())
        assert kinds["fault_id"] == "VARCHAR"
    assert duckdb.sql(f"SELECT count(*) FROM '{tmp_path}/truth/faults.parquet'").fetchall()[0] == (0,)


def test_a_folder_with_another_plant_is_refused_and_left_as_it_is(tmp_path):
    write_exports(tmp_path, days=1, seed=7)
    before = snapshot(tmp_path)
    with pytest.raises(ConfigurationError, match=r"seed is 7 there and 8 here.*Give another folder"):
        write_exports(tmp_path, days=1, seed=8)
    assert snapshot(tmp_path) == before


def test_less_than_one_day_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="at least 1 day, got 0"):
        write_exports(tmp_path, days=0)
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_tells_which_regime_ages_from_when(exported):
    manifest = json.loads((exported / "truth" / "manifest.json").read_text())
    assert manifest["ageing"]["regime"] == "b_roughing"
    assert manifest["ageing"]["from_date"] == "2026-02-14"
    assert manifest["plant"]["seed"] == 7
