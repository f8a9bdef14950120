"""Events: what belongs together, what is enough to be one, and the sentence that says what happened."""

from datetime import datetime, timedelta

import duckdb
import pytest

from pwflow_core.pipeline.scoring.events import derive_events, find_events
from pwflow_core.pipeline.source.source import SOURCE_FACT, Sensor, Source
from pwflow_core.warehouse import read_sql
from pwflow_core.warehouse.progress import write_fact
from tests.conftest import frame, query

START = datetime.fromisoformat("2024-03-01T00:00:00")
EVENTS = "SELECT * FROM mart.anomaly_events ORDER BY machine_id, started_at"
BLAMED = {"bearing_temperature": (81.4, 64.2, 69.3, "°C")}


def settle(plant, segments=("recipe",)):
    source = Source("ts", None, None, "machine", segments, (Sensor("bearing_temperature", "t", "°C"),), None, ".")
    with plant.warehouse.transaction() as connection:
        write_fact(connection, SOURCE_FACT, source.to_json())
        connection.execute("INSERT INTO core.model_sets (model_set_id, alpha) VALUES ('set', 0.001)")


@pytest.fixture
def plant(make_plant):
    made = make_plant()
    settle(made)
    return made


def add_minutes(
    plant, minutes, anomalies, *, machine="M2", segment="B", score=4.0, blamed=None, cluster_key="c0003", seconds=60
):
    """Add scored readings at some minutes, some of them anomalies with the given blame."""
    offset = query(plant, "SELECT count(*) FROM mart.anomaly_scores")[0][0]
    with plant.warehouse.transaction() as connection:
        for number, minute in enumerate(minutes, start=offset):
            is_anomaly, ts = minute in anomalies, START + timedelta(seconds=seconds * minute)
            value = anomalies[minute] if isinstance(anomalies, dict) and is_anomaly else score
            connection.execute(
                "INSERT INTO mart.anomaly_scores BY NAME SELECT ? AS reading_id, ? AS machine_id, ? AS ts, "
                "? AS segment, ? AS cluster_key, pow(10, -?) AS p_value, ? AS anomaly_score, ? AS is_anomaly, "
                "'scored' AS status, 'set' AS model_set_id, TIMESTAMP '2024-04-01' AS scored_at",
                [number, machine, ts, segment, cluster_key, *2 * [value if is_anomaly else 0.3], is_anomaly],
            )
            if not is_anomaly:
                continue
            sensors = BLAMED if blamed is None else blamed
            for place, (sensor, (observed, low, high, unit)) in enumerate(sensors.items()):
                connection.execute(
                    "INSERT INTO mart.sensor_contributions BY NAME SELECT ? AS reading_id, ? AS machine_id, ? AS ts, "
                    "? AS sensor, ? AS contribution, ? AS expected, ? AS observed, ? AS expected_low, "
                    "? AS expected_high, ? AS unit, TIMESTAMP '2024-04-01' AS scored_at",
                    [number, machine, ts, sensor, value / 2**place, (low + high) / 2, observed, low, high, unit],
                )


def summaries(plant):
    derive_events(plant)
    return [row[0] for row in query(plant, "SELECT summary FROM mart.anomaly_events ORDER BY machine_id, started_at")]


def test_the_sentence_says_machine_condition_sensor_values_and_duration(plant):
    add_minutes(plant, range(200), range(100, 142))
    assert summaries(plant) == [
        "M2, recipe B: bearing temperature 81.4 °C where 64 to 69 °C was expected, for 42 minutes"
    ]


def test_an_event_has_start_end_peak_regime_and_sensors(plant):
    add_minutes(plant, range(50), {10: 3.5, 11: 5.5})
    add_minutes(plant, range(50, 60), {}, cluster_key="c0009")
    derive_events(plant)
    [event] = frame(plant, EVENTS).itertuples()
    assert event.event_id == "E-00000a"
    assert (event.machine_id, event.segment, event.cluster_key) == ("M2", "B", "c0003")
    assert (event.started_at, event.ended_at) == (START + timedelta(minutes=10), START + timedelta(minutes=11))
    assert (event.peak_score, event.n_readings) == (5.5, 2)
    assert list(event.top_sensors) == ["bearing_temperature"]


def test_anomalies_up_to_ten_intervals_apart_are_one_event(plant):
    add_minutes(plant, range(100), [10, 11, 21, 32, 33])
    derive_events(plant)
    assert [event.n_readings for event in frame(plant, EVENTS).itertuples()] == [3, 2]


@pytest.mark.parametrize(("seconds", "n_events"), [(1, 1), (60, 2), (3600, 2)])
def test_a_configured_gap_is_in_minutes_whatever_the_interval(make_plant, seconds, n_events):
    plant = make_plant(events={"max_gap_minutes": 5.0})
    settle(plant)
    add_minutes(plant, range(100), {10: 9.0, 16: 9.0}, seconds=seconds)
    derive_events(plant)
    assert len(frame(plant, EVENTS)) == n_events


def test_an_event_does_not_reach_over_a_gap_in_the_data(plant):
    add_minutes(plant, [*range(20), *range(60, 100)], [18, 19, 60, 61])
    derive_events(plant)
    assert [event.n_readings for event in frame(plant, EVENTS).itertuples()] == [2, 2]


def test_an_event_does_not_reach_over_a_long_stretch_that_was_not_judged(plant):
    add_minutes(plant, range(100), [18, 19, 60, 61])
    with plant.warehouse.transaction() as connection:
        connection.execute(
            "UPDATE mart.anomaly_scores SET is_anomaly = NULL, p_value = NULL, anomaly_score = NULL, "
            "status = 'missing' WHERE reading_id BETWEEN 20 AND 59"
        )
    derive_events(plant)
    assert [event.n_readings for event in frame(plant, EVENTS).itertuples()] == [2, 2]


def test_machines_do_not_share_events(plant):
    add_minutes(plant, range(30), [10, 12], machine="M1")
    add_minutes(plant, range(30), [11, 13], machine="M2")
    derive_events(plant)
    assert [(e.machine_id, e.n_readings) for e in frame(plant, EVENTS).itertuples()] == [("M1", 2), ("M2", 2)]


def test_a_lone_anomaly_is_an_event_only_if_it_is_a_hundred_times_rarer_than_alpha(plant):
    add_minutes(plant, range(100), {10: 4.9, 50: 5.1})
    assert summaries(plant) == [
        "M2, recipe B: bearing temperature 81.4 °C where 64 to 69 °C was expected, in one reading"
    ]
    assert frame(plant, EVENTS).event_id.tolist() == ["E-000032"]


def test_the_fewest_readings_of_an_event_are_configured(make_plant):
    plant = make_plant(events={"min_readings": 3})
    settle(plant)
    add_minutes(plant, range(100), [10, 11, 50, 51, 52])
    derive_events(plant)
    assert frame(plant, EVENTS).n_readings.tolist() == [3]


def test_an_event_that_goes_on_keeps_its_identifier(plant):
    add_minutes(plant, range(20), [17, 18])
    derive_events(plant)
    before = frame(plant, EVENTS)
    add_minutes(plant, range(20, 40), [20, 25])
    derive_events(plant)
    after = frame(plant, EVENTS)
    assert after.event_id.tolist() == before.event_id.tolist()
    assert after.started_at.tolist() == before.started_at.tolist()
    assert after.n_readings.tolist() == [4]


def test_no_two_events_have_one_id_and_none_gets_that_of_another(plant):
    """Six digits are short, not rare: of two events with the same, the one that was there first has them."""

    def give_same_digits(reading):
        with plant.warehouse.transaction() as connection:
            for table in ("mart.anomaly_scores", "mart.sensor_contributions"):
                connection.execute(
                    f"UPDATE {table} SET reading_id = ?::BIGINT * 16777216 + 4660 WHERE reading_id = ?", 2 * [reading]
                )

    add_minutes(plant, range(300), [100, 101, 200, 201])
    give_same_digits(100)
    give_same_digits(200)
    derive_events(plant)
    assert frame(plant, EVENTS).event_id.tolist() == ["E-001234", "E-00000000c8001234"]
    add_minutes(plant, range(-20, 0), [-10, -9])
    give_same_digits(310)
    derive_events(plant)
    assert frame(plant, EVENTS).event_id.tolist() == ["E-0000000136001234", "E-001234", "E-00000000c8001234"]


def test_deriving_twice_changes_nothing(plant):
    add_minutes(plant, range(100), [10, 11, 50, 51])
    derive_events(plant)
    before = query(plant, EVENTS)
    derive_events(plant)
    assert query(plant, EVENTS) == before


def test_two_sensors_with_much_of_the_blame_are_both_in_the_sentence_and_a_third_only_in_the_list(plant):
    blamed = {
        "coolant_flow": (11.61, 18.93, 20.4, "l/min"),
        "coolant_pressure": (15.234, 7.1, 7.38, "bar"),
        "feed_rate": (2959.0, 2881.0, 2936.0, "mm/min"),
        "spindle_speed": (1.0, 0.0, 2.0, ""),
    }
    add_minutes(plant, range(100), [10, 11], blamed=blamed)
    assert summaries(plant) == [
        "M2, recipe B: coolant flow 11.61 l/min where 18.9 to 20.4 l/min was expected and "
        "coolant pressure 15.23 bar where 7.1 to 7.4 bar was expected, for 2 minutes"
    ]
    assert frame(plant, EVENTS).top_sensors[0].tolist() == ["coolant_flow", "coolant_pressure", "feed_rate"]


@pytest.mark.parametrize(
    ("blame", "words"),
    [
        ((2959.0, 2881.0, 2936.0, "rpm"), "x 2,959 rpm where 2,881 to 2,936 rpm was expected"),
        ((0.00123, 0.0004, 0.0006, ""), "x 0.00123 where 0.0004 to 0.0006 was expected"),
        ((-3.2, 0.0, 0.5, "mm"), "x -3.20 mm where 0.0 to 0.5 mm was expected"),
        ((5.0, 3.0, 3.0, "bar"), "x 5 bar where 3 bar was expected"),
        ((3e12, 1e12, 2e12, "Pa"), "x 3e+12 Pa where 1e+12 to 2e+12 Pa was expected"),
        ((7.2, 5.1, 9.3, "A"), "x 7.2 A, which does not fit the others"),
    ],
)
def test_numbers_have_digits_that_make_sense(plant, blame, words):
    add_minutes(plant, range(20), [10, 11], blamed={"x": blame})
    assert summaries(plant) == [f"M2, recipe B: {words}, for 2 minutes"]


@pytest.mark.parametrize(
    ("seconds", "n_readings", "words"),
    [
        (0.1, 2, "in 2 readings"),
        (1, 30, "for 30 seconds"),
        (60, 119, "for 119 minutes"),
        (3600, 5, "for 5 hours"),
        (86400, 9, "for 9 days"),
    ],
)
def test_durations_are_in_the_unit_that_people_would_use(plant, seconds, n_readings, words):
    add_minutes(plant, range(n_readings + 5), range(n_readings), seconds=seconds)
    [summary] = summaries(plant)
    assert summary.endswith(f", {words}")


@pytest.mark.parametrize(
    ("segments", "segment", "prefix"),
    [
        ((), "all", "M2: "),
        (("product_type", "shift"), "X / night", "M2, product type X, shift night: "),
        (("recipe",), "a / b", "M2, a / b: "),
        (("filename",), "run 7.csv", "M2, run 7.csv: "),
        (("filename",), "M2", "M2: "),
    ],
)
def test_the_condition_is_named_as_the_configuration_names_it(make_plant, segments, segment, prefix):
    plant = make_plant()
    settle(plant, segments)
    add_minutes(plant, range(20), [10, 11], segment=segment)
    [summary] = summaries(plant)
    assert summary.startswith(prefix + "bearing temperature")


def test_names_are_only_text(plant):
    hostile = "'); DROP TABLE mart.anomaly_scores; -- {} % \" \n"
    add_minutes(plant, range(20), [10, 11], machine=hostile, segment="{0}", blamed={hostile: (9.0, 1.0, 5.0, "{x}")})
    assert summaries(plant) == [
        f"{hostile}, recipe {{0}}: {hostile.replace('_', ' ')} 9.0 {{x}} where 1 to 5 {{x}} was expected, for 2 minutes"
    ]
    assert len(frame(plant, "FROM mart.anomaly_scores")) == 20


def test_an_event_that_nothing_explains_yet_says_so(plant):
    add_minutes(plant, range(20), [10, 11], blamed={})
    assert summaries(plant) == ["M2, recipe B: unusual readings, for 2 minutes"]
    assert frame(plant, EVENTS).top_sensors[0].tolist() == []


def test_without_anomalies_there_are_no_events(plant):
    add_minutes(plant, range(20), [])
    summary = derive_events(plant)
    assert (summary.n_events, summary.worst) == (0, [])


@pytest.mark.parametrize(("min_readings", "max_gap_minutes"), [(1, 3), (2, 10), (2, None), (3, 25)])
def test_readings_in_arrays_make_the_same_events_as_in_tables(make_plant, min_readings, max_gap_minutes):
    rule = {"min_readings": min_readings} | ({"max_gap_minutes": max_gap_minutes} if max_gap_minutes else {})
    plant = make_plant(events=rule)
    settle(plant)
    with plant.warehouse.transaction() as connection:
        connection.execute(
            "INSERT INTO mart.anomaly_scores BY NAME SELECT i AS reading_id, 'M' || i % 3 AS machine_id, "
            "TIMESTAMP '2024-03-01' + to_minutes(i // 3) AS ts, 'A' AS segment, 'c0001' AS cluster_key, "
            "pow(10, -6 * (hash(i) % 100000) / 100000) AS p_value, -log10(p_value) AS anomaly_score, p_value <= 0.001 "
            "AND hash(i // 60) % 3 = 0 AS is_anomaly, 'scored' AS status, 'set' AS model_set_id, "
            "TIMESTAMP '2024-04-01' AS scored_at FROM range(6000) AS t (i)"
        )
    derive_events(plant)
    rows = frame(plant, "SELECT *, epoch(ts) AS seconds FROM mart.anomaly_scores ORDER BY machine_id, ts")
    found = find_events(
        rows.p_value.where(rows.is_anomaly, 1.0),
        rows.machine_id,
        rows.seconds,
        alpha=0.001,
        gap_seconds=60 * (max_gap_minutes or 10),
        min_readings=min_readings,
    )
    in_arrays = [(rows.machine_id[of[0]], rows.ts[of[0]], rows.ts[of[-1]], len(of)) for of in found]
    in_tables = frame(plant, EVENTS)[["machine_id", "started_at", "ended_at", "n_readings"]]
    assert in_arrays == list(in_tables.itertuples(index=False, name=None))
    assert len(found) > 20


@pytest.mark.parametrize(
    ("value", "width", "written"),
    [
        (1.7234e-8, 2e-9, "1.7e-08"),
        (1.7234e-8, 2e-10, "1.72e-08"),
        (0.0, 1e-9, "0"),
        (5.1234567, 1e-9, "5.1234567"),
        (12.345, 2.0, "12"),
        (0.00025, 1e-6, "0.0002500"),
    ],
)
def test_small_readings_are_written_with_their_digits(value, width, written):
    macros = read_sql("pwflow_core.pipeline.scoring", "events.sql").partition("-- The usual time")[0]
    with duckdb.connect() as connection:
        connection.execute(macros)
        assert connection.execute("SELECT figure(?, decimals_for(?))", [value, width]).fetchone() == (written,)
