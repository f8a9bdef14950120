"""Ingest: every file once, a changed one again, a broken one refused; nothing is lost on the way."""

import gzip
import os
from pathlib import Path

import pandas as pd
import pytest

from pwflow_core.errors import SourceError
from pwflow_core.pipeline.readings.deriving import derive_readings
from pwflow_core.pipeline.source.ingest import ingest_files
from tests.conftest import frame, kill_at, open_plant, put_file, query, read_all

INGEST = """
from pwflow_core.pipeline.source.ingest import ingest_files
ingest_files(plant)
"""
READ = """
from pwflow_core.pipeline.readings.deriving import derive_readings
derive_readings(plant)
"""


def csv(*rows: str, header: str = "ts,machine,temperature,pressure") -> str:
    return "\n".join([header, *rows]) + "\n"


def minutes(n: int, start: int = 0, machine: str = "m1", value: float = 1.0) -> str:
    return csv(
        *(f"2024-01-01T{i // 60:02d}:{i % 60:02d}:00Z,{machine},{value + i},2.5" for i in range(start, start + n))
    )


def raw_rows(plant) -> list[tuple]:
    return query(
        plant,
        "SELECT path, row_number, ts, machine_id, temperature, pressure FROM ingest.raw_readings "
        "JOIN ingest.files USING (file_id) ORDER BY path, row_number",
    )


def test_every_file_is_read_once(make_plant):
    plant = make_plant({"a.csv": minutes(3), "b.csv": minutes(2, start=3)})
    first = ingest_files(plant)
    assert (first.n_new, first.n_unchanged, first.n_rows, first.n_raw) == (2, 0, 5, 5)
    second = ingest_files(plant)
    assert (second.n_new, second.n_changed, second.n_unchanged, second.n_rows, second.n_raw) == (0, 0, 2, 0, 5)


def test_a_new_file_is_read_beside_those_that_were_read_before(make_plant):
    plant = make_plant({"a.csv": minutes(3)})
    ingest_files(plant)
    put_file(plant.config.folder / "data" / "b.csv", minutes(2, start=3))
    summary = ingest_files(plant)
    assert (summary.n_new, summary.n_unchanged, summary.n_rows, summary.n_raw) == (1, 1, 2, 5)


@pytest.mark.parametrize("change", [minutes(3, value=4.0), minutes(4, value=4.0)], ids=["same size", "longer"])
def test_a_changed_file_replaces_its_rows(make_plant, change):
    plant = make_plant({"a.csv": minutes(3), "b.csv": minutes(2, start=10)})
    ingest_files(plant)
    before = plant.config.folder / "data" / "a.csv"
    earlier = before.stat()
    put_file(before, change)
    os.utime(before, ns=(earlier.st_atime_ns, earlier.st_mtime_ns + 1_000_000))
    summary = ingest_files(plant)
    assert (summary.n_new, summary.n_changed, summary.n_unchanged) == (0, 1, 1)
    values = [row[4] for row in raw_rows(plant) if row[0].endswith("a.csv")]
    assert values == [4.0 + i for i in range(change.count("\n") - 1)]


def test_a_touched_file_with_the_same_content_is_not_read_again(make_plant):
    plant = make_plant({"a.csv": minutes(3)})
    ingest_files(plant)
    os.utime(plant.config.folder / "data" / "a.csv", (1, 1))
    summary = ingest_files(plant)
    assert (summary.n_changed, summary.n_unchanged, summary.n_rows) == (0, 1, 0)
    assert query(plant, "SELECT file_id, modified_at::VARCHAR FROM ingest.files") == [(1, "1970-01-01 00:00:01")]


BROKEN = {
    "zero bytes": ("bad.csv", b"", "bad.csv"),
    "header only": ("bad.csv", csv().encode(), "Expected rows in"),
    "wrong columns": ("bad.csv", b"when,value\n2024-01-01,1\n", "has no column 'ts', 'temperature'"),
    "not Parquet": ("bad.parquet", b"PAR1 this is no Parquet", "cannot be read"),
    "cut Parquet": ("bad.parquet", None, "cannot be read"),
    "not gzip": ("bad.csv.gz", b"ts,machine,temperature,pressure\n", "cannot be read"),
    "binary": ("bad.csv", bytes(range(256)) * 40, "bad.csv"),
}


@pytest.mark.parametrize(("name", "content", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_with_its_reason_and_the_others_go_on(make_plant, tmp_path, name, content, reason):
    if content is None:
        whole = put_file(tmp_path / "whole.parquet", pd.DataFrame({"ts": ["x"] * 500, "temperature": range(500)}))
        content = whole.read_bytes()[:-200]
    plant = make_plant({"a.csv": minutes(3), name: content, "z.csv": minutes(2, start=3)})
    summary = ingest_files(plant)
    assert (summary.n_new, summary.n_raw) == (2, 5)
    [(path, sentence)] = summary.refused.items()
    assert path.endswith(name)
    assert reason in sentence
    assert query(plant, "SELECT reason FROM ingest.files WHERE status = 'refused'") == [(sentence,)]
    assert ingest_files(plant).refused == {path: sentence}, "the next run still says why"


def test_a_refused_file_is_read_once_it_is_mended(make_plant):
    plant = make_plant({"a.csv": minutes(3), "b.csv": b""})
    assert len(ingest_files(plant).refused) == 1
    put_file(plant.config.folder / "data" / "b.csv", minutes(2, start=3))
    summary = ingest_files(plant)
    assert (summary.n_new, summary.refused, summary.n_raw) == (1, {}, 5)


def test_a_file_that_breaks_later_keeps_what_was_read_from_it(make_plant):
    plant = make_plant({"a.csv": minutes(3), "b.csv": minutes(2, start=3)})
    read_all(plant)
    put_file(plant.config.folder / "data" / "b.csv", b"")
    assert len(ingest_files(plant).refused) == 1
    assert derive_readings(plant).n_readings == 5
    put_file(plant.config.folder / "data" / "b.csv", minutes(1, start=3))
    assert ingest_files(plant).n_changed == 1
    assert derive_readings(plant).n_readings == 4


def test_nothing_readable_is_an_error_that_says_why_in_every_run(make_plant):
    plant = make_plant({"a.csv": b"", "b.csv": b"when\n1\n"})
    for _ in range(2):
        with pytest.raises(SourceError, match=r"None of the 2 files of the source could be read; the first: .*a\.csv"):
            ingest_files(plant)


@pytest.mark.parametrize("path", ["nowhere/*.csv", "data/missing.csv", ["data/a.csv", "data/*.parquet"]])
def test_a_path_that_matches_nothing_is_an_error_that_names_it(make_plant, path):
    plant = make_plant({"a.csv": minutes(3)}, source={"path": path})
    named = path if isinstance(path, str) else path[1]
    with pytest.raises(SourceError, match=f"source.path = '{named}', but nothing matches".replace("*", r"\*")):
        ingest_files(plant)


def test_csv_gzip_and_parquet_of_one_folder_become_the_same_rows(make_plant):
    table = pd.DataFrame(
        {
            "ts": ["2024-01-01T00:00:00Z", "2024-01-01T00:01:00Z"],
            "machine": ["m1", "m1"],
            "temperature": [1.5, None],
            "pressure": [2, 3],
        }
    )
    plant = make_plant(
        {"a.csv": table, "b.csv.gz": gzip.compress(table.to_csv(index=False).encode()), "c.parquet": table}
    )
    assert ingest_files(plant).n_raw == 6
    by_file = {}
    for path, *row in raw_rows(plant):
        by_file.setdefault(Path(path).name, []).append(row)
    assert by_file["a.csv"] == by_file["b.csv.gz"] == by_file["c.parquet"]
    assert by_file["a.csv"][1] == [2, "2024-01-01T00:01:00Z", "m1", None, 3.0]


def test_text_in_a_sensor_column_is_kept_with_its_text(make_plant):
    plant = make_plant(
        {
            "a.csv": csv(
                "2024-01-01T00:00Z,m1,Bad,2.5", '2024-01-01T00:01Z,m1," 1e1 ",Scan Timeout', "2024-01-01T00:02Z,m1,,"
            ),
            "b.parquet": pd.DataFrame(
                {"ts": ["2024-01-01T00:03Z"], "machine": ["m1"], "temperature": ["No Data"], "pressure": ["7"]}
            ),
        }
    )
    ingest_files(plant)
    assert query(plant, "SELECT temperature, pressure, refused_values FROM ingest.raw_readings ORDER BY ts") == [
        (None, 2.5, {"temperature": "Bad"}),
        (10.0, None, {"pressure": "Scan Timeout"}),
        (None, None, None),
        (None, 7.0, {"temperature": "No Data"}),
    ]


def test_a_decimal_comma_is_read_as_configured(make_plant):
    text = csv("2024-01-01T00:00Z;m1;1,5;-2,25e1", header="ts;machine;temperature;pressure")
    plant = make_plant({"a.csv": text}, source={"decimal": ",", "delimiter": ";"})
    ingest_files(plant)
    assert query(plant, "SELECT temperature, pressure, refused_values FROM ingest.raw_readings") == [(1.5, -22.5, None)]


def test_a_malformed_line_is_kept_and_costs_only_itself(make_plant):
    lines = minutes(300).splitlines()
    lines[150] = "2024-01-01T02:29:00Z,m1,1,2,3,4,5"
    lines[200] = "garbage"
    plant = make_plant({"a.csv": "\n".join(lines) + "\n"})
    assert ingest_files(plant).n_raw == 298
    kept = query(plant, "SELECT row_number, line FROM ingest.malformed_lines ORDER BY row_number")
    assert kept == [(151, lines[150]), (201, "garbage")]


def test_a_file_name_with_glob_characters_is_read_itself_and_not_what_it_matches(make_plant):
    plant = make_plant({"run[1].csv": minutes(2), "run1.csv": minutes(3, start=5)}, source={"path": "data/*.csv"})
    ingest_files(plant)
    assert query(plant, "SELECT path, n_rows FROM ingest.files ORDER BY n_rows") == [
        ("run[1].csv", 2),
        ("run1.csv", 3),
    ]


@pytest.mark.parametrize("hostile", ["it's; DROP TABLE x", "a b (1)", "plant [2024]", "ünï*", 'q"uote'])
def test_a_folder_with_a_hostile_name_is_read(make_plant, tmp_path, hostile):
    put_file(tmp_path / hostile / "data" / "a.csv", minutes(3))
    put_file(
        tmp_path / hostile / "data" / "b.parquet",
        pd.DataFrame({"ts": ["x"], "machine": ["m"], "temperature": [1], "pressure": [2]}),
    )
    plant = open_plant(tmp_path / hostile, {"source": {"machine": "filename"}})
    assert ingest_files(plant).n_raw == 4
    machines = query(plant, "SELECT DISTINCT machine_id FROM ingest.raw_readings ORDER BY machine_id")
    assert machines == [("a.csv",), ("b.parquet",)]


def test_the_file_name_as_segment_does_not_depend_on_the_other_files(make_plant):
    plant = make_plant({"2024/a.csv": minutes(2)}, source={"path": "data/**/*.csv", "segments": ["filename"]})
    ingest_files(plant)
    put_file(plant.config.folder / "data" / "2025" / "b.csv", minutes(2, start=5))
    ingest_files(plant)
    assert query(plant, "SELECT DISTINCT segment FROM ingest.raw_readings ORDER BY segment") == [
        ("2024/a.csv",),
        ("2025/b.csv",),
    ]


def test_folders_that_look_like_secrets_are_not_taken_for_one_another(make_plant):
    """Partitions as `key_id=7` arrive night by night, and the files in them are called alike."""
    plant = make_plant(source={"path": "data/**/*.csv", "segments": ["filename"]})
    for key in (1, 2, 3):
        put_file(plant.config.folder / "data" / f"key_id={key}" / "a.csv", minutes(2, start=5 * key))
        summary = ingest_files(plant)
        assert (summary.n_new, summary.n_changed, summary.n_unchanged, summary.n_raw) == (1, 0, key - 1, 2 * key)
    assert query(plant, "SELECT DISTINCT segment FROM ingest.raw_readings ORDER BY segment") == [
        (f"key_id={key}/a.csv",) for key in (1, 2, 3)
    ]
    derive_readings(plant)
    assert query(plant, "SELECT count(*) FROM mart.rejected_readings") == [(0,)]


def test_segments_are_joined_and_empty_ones_named_unknown(make_plant):
    rows = csv(
        "2024-01-01T00:00Z,m1,1,2,steel, 7 ",
        "2024-01-01T00:01Z,m1,1,2,,7",
        header="ts,machine,temperature,pressure,alloy,die",
    )
    plant = make_plant({"a.csv": rows}, source={"segments": ["alloy", "die"]})
    ingest_files(plant)
    assert query(plant, "SELECT segment FROM ingest.raw_readings ORDER BY ts") == [("steel / 7",), ("unknown / 7",)]


def test_a_query_is_read_anew_in_every_run_and_its_rows_replaced(make_plant, tmp_path):
    table = put_file(tmp_path / "historian.csv", minutes(3))
    plant = make_plant(source={"path": None, "sql": f"SELECT * FROM read_csv('{table}') -- all of it;"})
    read_all(plant)
    assert ingest_files(plant).n_unchanged == 1
    put_file(table, minutes(4, value=7.0))
    summary = ingest_files(plant)
    assert (summary.n_changed, summary.n_raw) == (1, 4)
    assert derive_readings(plant).n_readings == 4
    assert query(plant, "SELECT min(temperature) FROM core.readings") == [(7.0,)]


def test_a_query_that_fails_is_an_error_with_the_reason(make_plant):
    plant = make_plant(source={"path": None, "sql": "SELECT * FROM nowhere"})
    with pytest.raises(SourceError, match="nowhere does not exist"):
        ingest_files(plant)


@pytest.mark.parametrize(
    "change",
    [
        {"source": {"timezone": "Europe/Berlin"}},
        {"sensors": {"temperature": {"high": 2.0}, "pressure": {}}},
        {"sensors": {"temperature": {}}},
        {"sensors": {"temperature": {}, "pressure": {}, "copy": {"column": "pressure"}}},
    ],
    ids=["zone", "limit", "sensor less", "sensor more"],
)
def test_a_changed_configuration_of_the_source_reads_every_file_again(make_plant, change):
    plant = make_plant({"a.csv": minutes(3), "b.csv": minutes(2, start=3)})
    read_all(plant)
    plant = make_plant(**change)
    summary = ingest_files(plant)
    assert (summary.n_changed, summary.n_unchanged, summary.n_raw) == (2, 0, 5)
    derive_readings(plant)
    assert ingest_files(plant).n_unchanged == 2


def test_a_sensor_renamed_in_case_only_is_read_on(make_plant):
    read_all(make_plant({"a.csv": minutes(3)}))
    plant = make_plant(sensors={"Temperature": {"column": "temperature"}, "pressure": {}})
    read_all(plant)
    assert query(plant, "SELECT count(temperature) FROM core.readings") == [(3,)]


def test_a_changed_unit_is_described(make_plant):
    ingest_files(make_plant({"a.csv": minutes(3)}))
    plant = make_plant(sensors={"temperature": {"unit": "K"}, "pressure": {"unit": "it's bar"}})
    ingest_files(plant)
    described = query(
        plant,
        "SELECT column_name, comment FROM duckdb_columns() "
        "WHERE table_name = 'readings' AND comment LIKE 'Sensor%' ORDER BY column_name",
    )
    assert described == [("pressure", "Sensor, in it's bar"), ("temperature", "Sensor, in K")]


CRASHES = {
    "while staging": ("pwflow_core.pipeline.source.ingest", "stage_file", INGEST),
    "between staging and insert": ("pwflow_core.pipeline.source.ingest", "insert_files", INGEST),
    "between raw rows and readings": ("pwflow_core.pipeline.readings.deriving", "derive_readings", INGEST + READ),
    "while making readings": ("pwflow_core.pipeline.readings.deriving", "pin_interval", INGEST + READ),
    "at the end of the readings": ("pwflow_core.pipeline.readings.deriving", "write_progress", INGEST + READ),
    "before the first table": ("pwflow_core.warehouse.migration", "read_sql", INGEST),
}


@pytest.mark.parametrize(("module", "function", "code"), CRASHES.values(), ids=CRASHES)
def test_a_killed_process_loses_nothing_and_the_next_run_completes(make_plant, stem, module, function, code):
    plant = make_plant({"a.csv": minutes(3), "b.csv": minutes(2, start=3)})
    kill_at(stem, plant, module, function, code)
    read_all(plant)
    assert len(raw_rows(plant)) == 5
    assert frame(plant, "SELECT temperature FROM core.readings ORDER BY ts").temperature.tolist() == [
        1.0 + i for i in range(5)
    ]
    assert derive_readings(plant).n_new == 0


def test_a_file_that_two_runs_read_at_once_is_kept_once(make_plant):
    plant = make_plant({"a.csv": minutes(3)})
    from pwflow_core.pipeline.source import ingest

    insert = ingest.insert_files

    def insert_behind_another_run(*arguments):
        ingest.insert_files = insert
        ingest.ingest_files(plant)
        insert(*arguments)

    ingest.insert_files = insert_behind_another_run
    try:
        ingest_files(plant)
    finally:
        ingest.insert_files = insert
    assert len(raw_rows(plant)) == 3


def test_rows_inserted_after_the_readings_step_ran_are_read_by_its_next_run(make_plant, monkeypatch):
    """An ingest in two transactions, with the readings step of another run between them."""
    plant = make_plant({"a.csv": minutes(3), "b.csv": minutes(2, start=3)})
    from pwflow_core.pipeline.source import ingest

    insert = ingest.insert_files
    monkeypatch.setattr(ingest, "_ROWS_PER_TRANSACTION", 1)

    def insert_then_read(*arguments):
        insert(*arguments)
        if len(raw_rows(plant)) == 3:
            derive_readings(plant)

    monkeypatch.setattr(ingest, "insert_files", insert_then_read)
    ingest_files(plant)
    assert derive_readings(plant).n_readings == 5


def test_hidden_files_and_the_plants_own_folder_are_no_source(make_plant):
    plant = make_plant(
        {"a.csv": minutes(2)},
        source={"path": "."},
        warehouse={"url": "duckdb:///.pwflow/warehouse.duckdb", "published": ".pwflow/published.duckdb"},
    )
    put_file(plant.config.folder / "data" / ".b.csv.part", minutes(2, start=3))
    assert ingest_files(plant).n_new == 1
    again = ingest_files(plant)
    assert (again.n_new, again.n_unchanged, again.refused) == (0, 1, {})
