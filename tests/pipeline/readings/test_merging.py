"""Rows of one machine and time that hold different sensors make one reading, however they are split and ordered."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pwflow_core.plant import Plant
from tests.conftest import examples, open_plant, put_file, query, read_all

HEADER = "ts,machine,temperature,pressure"
READINGS = "SELECT ts, temperature, pressure, quality FROM core.readings ORDER BY ts"


def csv(*rows: str) -> str:
    return "\n".join([HEADER, *rows]) + "\n"


def refusals(plant: Plant, *columns: str) -> list[tuple]:
    return query(plant, f"SELECT {', '.join(columns)} FROM mart.rejected_readings ORDER BY file, row_number, sensor")


def balance(plant: Plant) -> None:
    """Every raw row is a reading, a part of one, or refused."""
    [(raw, readings, parts, owners, refused)] = query(
        plant,
        """
        SELECT (SELECT count(*) FROM ingest.raw_readings), (SELECT count(*) FROM core.readings),
               (SELECT count(*) FROM core.merged_rows), (SELECT count(DISTINCT reading_id) FROM core.merged_rows),
               (SELECT count(*) FROM mart.rejected_readings WHERE sensor IS NULL)
        """,
    )
    assert raw == readings + parts - owners + refused


def test_partial_rows_of_one_time_make_one_reading(make_plant):
    rows = [
        "2024-01-01T00:00Z,m1,1,",
        "2024-01-01T00:00Z,m1,,2",
        "2024-01-01T01:00+01:00,m1,1,2",
        "2024-01-01T00:01Z,m1,3,4",
    ]
    plant = make_plant({"a.csv": csv(*rows)})
    read_all(plant)
    assert [row[1:] for row in query(plant, READINGS)] == [(1.0, 2.0, "ok"), (3.0, 4.0, "ok")]
    assert refusals(plant, "reason", "row_number", "sensor") == [("duplicate", 3, None)]
    balance(plant)


def test_a_part_that_comes_in_a_later_run_completes_the_reading_and_its_correction_replaces_it(make_plant):
    plant = make_plant({"a.csv": csv("2024-01-01T00:00Z,m1,1,", "2024-01-01T00:01Z,m1,5,6")})
    read_all(plant)
    put_file(plant.config.folder / "data" / "b.csv", csv("2024-01-01T00:00Z,m1,,2"))
    read_all(plant)
    assert [row[1:] for row in query(plant, READINGS)] == [(1.0, 2.0, "ok"), (5.0, 6.0, "ok")]
    put_file(plant.config.folder / "data" / "b.csv", csv("2024-01-01T00:00Z,m1,,7"))
    read_all(plant)
    assert [row[1:] for row in query(plant, READINGS)] == [(1.0, 7.0, "ok"), (5.0, 6.0, "ok")]
    put_file(plant.config.folder / "data" / "a.csv", csv("2024-01-01T00:01Z,m1,5,6"))
    read_all(plant)
    assert [row[1:] for row in query(plant, READINGS)] == [(None, 7.0, "missing"), (5.0, 6.0, "ok")]
    assert query(plant, "SELECT count(*) FROM core.merged_rows") == [(0,)]
    balance(plant)


def test_of_two_values_of_one_sensor_and_time_the_first_is_kept_and_the_other_refused_with_its_value(make_plant):
    plant = make_plant({"a.csv": csv("2024-01-01T00:00Z,m1,1,", "2024-01-01T00:00Z,m1,9,2")})
    read_all(plant)
    assert [row[1:3] for row in query(plant, READINGS)] == [(1.0, 2.0)]
    assert refusals(plant, "reason", "row_number", "sensor", "value") == [("duplicate", 2, "temperature", "9.0")]
    balance(plant)


def test_a_number_counts_before_a_text_in_its_place_and_a_text_before_nothing(make_plant):
    rows = [
        "2024-01-01T00:00Z,m1,Bad,",
        "2024-01-01T00:00Z,m1,3,2",
        "2024-01-01T00:01Z,m1,,1",
        "2024-01-01T00:01Z,m1,Off,",
    ]
    plant = make_plant({"a.csv": csv(*rows)})
    read_all(plant)
    assert [row[1:] for row in query(plant, READINGS)] == [(3.0, 2.0, "ok"), (None, 1.0, "invalid")]
    assert refusals(plant, "reason", "sensor", "value") == [("not_a_number", "temperature", "Off")]
    balance(plant)


cell = st.sampled_from(["", "", "1", "2", "3", "Bad"])
row = st.tuples(st.integers(0, 3), cell, cell).map(lambda r: f"2024-01-01T00:0{r[0]}:00Z,m1,{r[1]},{r[2]}")
files = st.lists(st.lists(row, min_size=1, max_size=6), min_size=1, max_size=4)


@settings(
    max_examples=examples(2, 200),
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
@given(parts=files, drafts=st.lists(st.booleans(), min_size=4, max_size=4))
def test_files_in_runs_of_their_own_with_drafts_end_as_in_one_load(parts, drafts):
    with TemporaryDirectory() as one, TemporaryDirectory() as many:
        at_once, by_night = open_plant(Path(one)), open_plant(Path(many))
        for number, lines in enumerate(parts):
            path = Path(many) / "data" / f"{number}.csv"
            if drafts[number]:
                put_file(path, csv("2024-01-01T00:01:00Z,m1,8,", *lines[1:]))
                read_all(by_night)
            put_file(path, csv(*lines))
            put_file(Path(one) / "data" / f"{number}.csv", csv(*lines))
            read_all(by_night)
        read_all(at_once)
        found = query(by_night, READINGS), refusals(by_night, "file[-5:]", "row_number", "sensor", "value", "reason")
        assert found == (
            query(at_once, READINGS),
            refusals(at_once, "file[-5:]", "row_number", "sensor", "value", "reason"),
        )
        balance(by_night)
