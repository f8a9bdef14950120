"""Many small files are read together, and end as they would one by one."""

import signal

import pytest

from pwflow_core.pipeline.source import ingest
from pwflow_core.pipeline.source.ingest import ingest_files
from tests.conftest import put_file, query, start_process

HEADER = "ts,machine,temperature,pressure"
SOURCE = {"delimiter": ",", "path": "data/**/*.csv"}
INGEST = """
import os, signal
from pwflow_core.pipeline.source import batches, ingest
batches._MOST_FILES, ingest._FILES_PER_TRANSACTION = 3, 3
insert, calls = ingest.insert_files, []
def insert_twice(*arguments):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    insert(*arguments)
ingest.insert_files = insert_twice
ingest.ingest_files(plant)
"""


def small(number: int, *more: str) -> str:
    rows = [f"2024-01-01T{number:02d}:0{i}:00Z,m,{number}.{i},1" for i in range(4)]
    return "\n".join([HEADER, *rows, *more]) + "\n"


FILES = {f"{number:02d}.csv": small(number) for number in range(8)}
ODD = {
    "none": {},
    "a broken line": {"03.csv": small(3, "junk", "1,2,3,4,5,6")},
    "another header": {"03.csv": small(3).replace(HEADER, "ts,machine,pressure,temperature")},
    "lines above": {"03.csv": "Report\n\n" + small(3)},
    "no rows": {"03.csv": HEADER + "\n"},
    "a missing column": {"03.csv": small(3).replace("pressure", "other")},
    "quotes and CRLF": {"03.csv": small(3, '2024-01-01T03:09:00Z,"a, b",1,2').replace("\n", "\r\n")},
    "UTF-16": {"03.csv": small(3).encode("utf-16")},
}


AT_NIGHT = pytest.mark.long(reason="2 CPU s each: files that are odd in their header, lines or encoding stay")


def found(plant) -> list:
    return [
        query(plant, "SELECT path, status, n_rows FROM ingest.files ORDER BY path"),
        query(
            plant,
            "SELECT path, row_number, ts, machine_id, segment, temperature, pressure, refused_values "
            "FROM ingest.raw_readings JOIN ingest.files USING (file_id) ORDER BY path, row_number",
        ),
        query(plant, "SELECT path, row_number, line FROM ingest.malformed_lines JOIN ingest.files USING (file_id)"),
    ]


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=AT_NIGHT) if kind in ("no rows", "a missing column", "quotes and CRLF") else kind
        for kind in ODD
    ],
)
def test_files_that_are_read_together_end_as_one_by_one(make_plant, tmp_path, monkeypatch, kind):
    plant = make_plant(FILES | ODD[kind], source=SOURCE)
    ingest_files(plant)
    together = found(plant)
    for file in tmp_path.glob("warehouse*"):
        file.unlink()
    monkeypatch.setattr(ingest, "_look_together", lambda *_: None)
    ingest_files(plant)
    assert found(plant) == together


def test_machine_and_segment_of_each_path_stay_with_its_rows(make_plant):
    files = {f"pump={pump}/{name}": content for pump in "AB" for name, content in FILES.items()}
    source = SOURCE | {"path_columns": "pump=(?P<pump>[^/]+)/", "machine": "pump", "segments": ["filename"]}
    plant = make_plant(files, source=source)
    ingest_files(plant)
    assert query(plant, "SELECT machine_id, count(*) FROM ingest.raw_readings GROUP BY ALL ORDER BY ALL") == [
        ("A", 32),
        ("B", 32),
    ]
    own = "SELECT count(*) FROM ingest.raw_readings WHERE segment LIKE 'pump=' || machine_id || '/%'"
    assert query(plant, own) == [(64,)]
    assert query(plant, "SELECT count(DISTINCT segment) FROM ingest.raw_readings") == [(16,)]


def test_only_what_changed_of_many_files_is_read_again(make_plant, tmp_path):
    plant = make_plant(FILES, source=SOURCE)
    ingest_files(plant)
    put_file(tmp_path / "data" / "05.csv", small(5, "2024-01-01T05:09:00Z,m,1,1"))
    put_file(tmp_path / "data" / "06.csv", small(6))
    summary = ingest_files(plant)
    assert (summary.n_new, summary.n_changed, summary.n_unchanged, summary.n_raw) == (0, 1, 7, 33)


def test_a_kill_in_the_middle_loses_at_most_one_batch(make_plant):
    plant = make_plant(FILES, source=SOURCE)
    process = start_process(plant, INGEST)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, errors
    assert query(plant, "SELECT count(*) FROM ingest.files") == [(6,)]
    summary = ingest_files(plant)
    assert (summary.n_new, summary.n_unchanged, summary.n_raw) == (2, 6, 32)
