"""Ids as programs of others read them: JavaScript and Excel read numbers as doubles, and lose digits beyond 2^53."""

import json
import re
import shutil
import subprocess

from pwflow_core.reference import describe_tables
from tests.conftest import query

COUNTED = {
    "file_id": "files are counted from 1",
    "kept_file_id": "that of another file",
    "row_number": "rows of a file",
    "day_number": "days are counted from 1",
    "place": "cases that were told are counted from 1",
    "change_number": "changes are counted from 1",
    "entry_number": "entries are counted from 1",
    "position": "sensors are counted from 1",
    "min_readings": "a setting",
    "random_state": "a setting, and no id",
}
"""Whole numbers that cannot come near 2^53, beside those that say by their name how many of something there are."""


def columns_of(connection):
    return connection.execute(
        "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE schema_name = 'mart' ORDER BY ALL"
    ).fetchall()


def test_every_whole_number_of_the_published_tables_is_a_count_and_every_other_id_is_text(published):
    for table, column, kind in columns_of(published):
        if "INT" in kind:
            assert column in COUNTED or column.startswith("n_"), f"{table}.{column}: can it go beyond 2^53?"
        elif column.endswith(("_id", "_ids")):
            assert kind.startswith("VARCHAR"), f"{table}.{column}"


def test_a_client_that_reads_numbers_as_doubles_keeps_every_id(published):
    for table, column, _ in columns_of(published):
        if not column.endswith(("_id", "_ids")):
            continue
        found = [row[0] for row in published.execute(f"SELECT DISTINCT {column} FROM mart.{table}").fetchall()]
        assert found or table not in ("anomaly_events", "anomaly_scores", "readings", "sensor_contributions")
        assert json.loads(as_javascript(json.dumps(found))) == found, f"{table}.{column}"


def as_javascript(text):
    """Return JSON as a program in JavaScript has read and written it; without one, as its standard says."""
    if (node := shutil.which("node")) is None:
        return json.dumps(json.loads(text, parse_int=float))
    script = "process.stdout.write(JSON.stringify(JSON.parse(require('fs').readFileSync(0, 'utf8'))))"
    return subprocess.run([node, "-e", script], input=text, capture_output=True, text=True, check=True).stdout


def test_published_ids_are_those_of_the_warehouse_and_join_as_before(published, trained_plant):
    joined = "FROM mart.anomaly_scores JOIN mart.readings USING (reading_id, machine_id, ts)"
    assert (
        published.execute(f"SELECT count(*) {joined}").fetchone()
        == published.execute("SELECT count(*) FROM mart.readings").fetchone()
    )
    [(number, machine, ts)] = query(
        trained_plant, "SELECT reading_id, machine_id, ts FROM core.readings ORDER BY reading_id DESC LIMIT 1"
    )
    found = published.execute("SELECT reading_id FROM mart.readings WHERE (machine_id, ts) = (?, ?)", [machine, ts])
    assert found.fetchone() == (f"R-{number:016x}",)
    assert number > 2**53


def test_the_reference_has_the_types_of_the_published_tables(published):
    parts = re.split(r"^## `mart\.(\w+)`$", describe_tables(), flags=re.MULTILINE)
    said = {
        (table, *found)
        for table, part in zip(parts[1::2], parts[2::2], strict=True)
        for found in re.findall(r"^\| `(\w+)` \| ([^|]+) \|", part, re.MULTILINE)
    }
    sensors = {("readings", sensor, "DOUBLE") for sensor in ("temperature", "pressure")}
    assert set(columns_of(published)) == said | sensors
