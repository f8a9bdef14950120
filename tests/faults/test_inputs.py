"""Files and readings as plants deliver them: each has its documented outcome, and every row is accounted for."""

import gzip
import threading
import time

import pandas as pd
import pytest

from pwflow_core.pipeline.readings.deriving import derive_readings
from pwflow_core.pipeline.scoring.checks import check_scores
from pwflow_core.pipeline.source.ingest import ingest_files
from tests.conftest import frame, plant_readings, put_file, query, read_all, reopen, score_all
from tests.faults.conftest import UNTIL_PUBLISHED, published

HEADER = "ts,machine,temperature,pressure"


def lines(n: int, start: int = 0, **changes: str) -> str:
    """Readings of one machine, a minute apart."""
    rows = [f"2024-01-01T{i // 60:02d}:{i % 60:02d}:00Z,m1,{20 + i % 7}.5,{3 + i % 5}" for i in range(start, start + n)]
    return "\n".join([HEADER, *rows]) + "\n"


def balanced(plant) -> dict[str, int]:
    """Rows of the plant; raise if one is lost or counted twice."""
    [(raw, malformed, readings, refused)] = query(
        plant,
        "SELECT (SELECT count(*) FROM ingest.raw_readings), (SELECT count(*) FROM ingest.malformed_lines), "
        "(SELECT count(*) FROM core.readings), (SELECT count(*) FROM mart.rejected_readings WHERE sensor IS NULL)",
    )
    assert raw + malformed == readings + refused
    return {"raw": raw, "malformed": malformed, "readings": readings, "refused": refused}


FILES = {
    # name: (content, what is said of the file, None if it is taken)
    "reordered.csv": ("pressure,ts,temperature,machine\n3,2024-01-02T00:00Z,20,m1\n", None),
    "added.csv": (HEADER + ",new\n2024-01-02T00:01Z,m1,20,3,99\n", None),
    "bom.csv": ("\ufeff" + HEADER + "\n2024-01-02T00:02Z,m1,20,3\n", None),
    "crlf.csv": (HEADER + "\r\n2024-01-02T00:03Z,m1,20,3\r\n", None),
    "text.csv": (HEADER + "\n2024-01-02T00:04Z,m1,high,3\n", None),
    "comma.csv": ("ts;machine;temperature;pressure\n2024-01-02T00:05Z;m1;20,5;3,1\n", None),
    "renamed.csv": ("ts,machine,temp_1,pressure\n2024-01-02T00:06Z,m1,20,3\n", "has no column 'temperature'"),
    "missing.csv": ("ts,machine,pressure\n2024-01-02T00:07Z,m1,3\n", "has no column 'temperature'"),
    "utf16.csv": ((HEADER + "\n2024-01-02T00:08Z,m1,20,3\n").encode("utf-16"), None),
    "cut.csv.gz": (gzip.compress(lines(5000).encode(), mtime=0)[:-2000], "cannot be read"),
    "zero.csv": (b"", "zero.csv"),
    "zero.csv.gz": (b"", "zero.csv.gz"),
    "nul.csv": (b"\x00" * 5000, "nul.csv"),
}


def test_each_damaged_file_is_refused_with_a_reason_and_the_others_go_on(make_plant):
    plant = make_plant({"good.csv": lines(30), **{name: content for name, (content, _) in FILES.items()}})
    refused = ingest_files(plant).refused
    assert set(refused) == {name for name, (_, said) in FILES.items() if said}
    assert all(FILES[name][1] in reason for name, reason in refused.items())
    derive_readings(plant)
    assert balanced(plant)["readings"] == 30 + sum(said is None for _, said in FILES.values())
    values = query(
        plant,
        "SELECT strftime(ts, '%M'), temperature, pressure, quality FROM core.readings "
        "WHERE ts >= '2024-01-02' ORDER BY ts",
    )
    assert values == [
        ("00", 20.0, 3.0, "ok"),
        ("01", 20.0, 3.0, "ok"),
        ("02", 20.0, 3.0, "ok"),
        ("03", 20.0, 3.0, "ok"),
        ("04", None, 3.0, "invalid"),
        ("05", None, None, "invalid"),  # a decimal comma that source.decimal does not name
        ("08", 20.0, 3.0, "ok"),
    ]
    texts = "SELECT value FROM mart.rejected_readings WHERE reason = 'not_a_number' ORDER BY value"
    assert query(plant, texts) == [("20,5",), ("3,1",), ("high",)]


def test_a_file_that_grows_while_it_is_read_is_left_for_the_next_run_which_takes_all_of_it(make_plant):
    plant = make_plant({"a.csv": lines(30), "growing.csv": HEADER + "\n"})
    growing = plant.config.folder / "data" / "growing.csv"
    is_done = threading.Event()

    def grow():
        with growing.open("a") as file:
            for i in range(100_000):
                if is_done.is_set():
                    return
                file.write(f"2024-02-01T00:00:00.{i:06d}Z,m1,20,3\n")
                file.flush()
                time.sleep(0.001)  # it goes on growing for as long as it is read

    writer = threading.Thread(target=grow)
    writer.start()
    time.sleep(0.2)
    summary = ingest_files(plant)
    is_done.set()
    writer.join()
    assert "changed while it was read" in summary.refused["growing.csv"]
    assert summary.n_raw == 30
    n_lines = len(growing.read_text().splitlines()) - 1
    assert ingest_files(plant).n_raw == 30 + n_lines
    derive_readings(plant)
    balanced(plant)


def test_odd_readings_have_their_status_or_reason_and_every_row_is_accounted_for(trained_plant):
    """NaN, ±inf, denormals, duplicates, late, out of order and dated in the future."""
    night = plant_readings(40, seed=3, start="2024-04-01")
    night = night[night.machine == "press-1"].reset_index(drop=True).assign(temperature=20.0)
    night["temperature"] += night.index % 5 / 7
    night = night.astype({"temperature": object})
    odd = ["NaN", "inf", "-inf", "5e-324", "-0.0", "1e400", "", "99.99"]
    for row, value in enumerate(odd):
        night.loc[row, "temperature"] = value
    late = night.iloc[[20]].assign(ts="2024-03-01T00:00:30Z", temperature=21.0)
    future = night.iloc[[20]].assign(ts="2199-01-01T00:00:00Z", temperature=21.0)
    duplicate = night.iloc[[30]].assign(temperature=22.0)
    table = pd.concat([night.iloc[::-1], late, future, duplicate])
    put_file(trained_plant.config.folder / "data" / "night.csv", table)
    read_all(trained_plant)
    score_all(trained_plant)
    found = frame(
        trained_plant,
        "SELECT quality, status, score.reason, p_value FROM core.readings JOIN mart.anomaly_scores AS score "
        "USING (reading_id) WHERE reading_id IN (SELECT reading_id FROM core.readings JOIN ingest.files "
        "USING (file_id) WHERE path LIKE '%night.csv') AND score.ts BETWEEN '2024-04-01' AND '2024-04-01 00:07' "
        "ORDER BY score.ts",
    )
    assert found.status.tolist() == [
        "missing", "invalid", "invalid", "scored", "scored", "invalid", "missing", "scored",
    ]  # fmt: skip
    assert found.p_value.notna().tolist() == [status == "scored" for status in found.status]
    assert found.reason.notna().tolist() == [status != "scored" for status in found.status]
    late_time = "SELECT status FROM mart.anomaly_scores WHERE ts IN ('2024-03-01 00:00:30', '2199-01-01')"
    assert query(trained_plant, late_time) == [("scored",)]
    reasons = dict(query(trained_plant, "SELECT reason, count(*) FROM mart.rejected_readings GROUP BY reason"))
    assert reasons["duplicate"] == 1
    assert reasons["infinite"] == 3
    assert reasons["future_timestamp"] == 1
    assert balanced(trained_plant)["readings"] == 3000 + 41
    assert all(result.passed for result in check_scores(trained_plant) if result.name == "rows_balance")


def test_a_sensor_in_another_unit_alarms_and_changes_no_model(trained_plant, stem):
    """Bar became millibar: every reading has its status, nothing is learned from it, nothing is refitted."""
    registry = "SELECT cluster_key, flow_version, in_force FROM mart.flow_versions ORDER BY ALL"
    before = query(trained_plant, registry)
    night = plant_readings(60, seed=5, start="2024-04-01")
    put_file(trained_plant.config.folder / "data" / "night.csv", night.assign(pressure=night.pressure * 1000))
    ended = stem.run(trained_plant, UNTIL_PUBLISHED)
    assert ended.code == 0, ended.output
    [(n, n_scored, n_anomalies)] = query(
        trained_plant,
        "SELECT count(*), count(*) FILTER (status = 'scored'), count(*) FILTER (is_anomaly) FROM mart.anomaly_scores "
        "WHERE ts >= '2024-04-01'",
    )
    assert n == 120
    assert n_anomalies == n_scored > 100
    assert query(trained_plant, registry) == before
    assert published(trained_plant)[0][0] == 3120


@pytest.mark.long(reason="12 CPU s: a night of the schedule's zone is held in tests/pipeline/drift/test_health.py")
def test_nights_of_23_and_25_hours_and_a_leap_day_have_all_their_hours_once(trained_plant, stem):
    times = pd.concat(
        [
            pd.Series(pd.date_range(start, periods=3 * 144, freq="10min"))
            for start in ("2024-02-28", "2024-03-30", "2024-10-26")
        ]
    )
    table = pd.DataFrame({"ts": times.dt.strftime("%Y-%m-%dT%H:%M:%SZ"), "machine": "press-9", "recipe": "A"})
    table["temperature"] = [20 + i % 10 / 5 for i in range(len(table))]
    table["pressure"] = [3 + i % 7 / 9 for i in range(len(table))]
    plant = reopen(trained_plant, schedule={"timezone": "Europe/Berlin"})
    put_file(plant.config.folder / "data" / "night.csv", table)
    ended = stem.run(plant, UNTIL_PUBLISHED)
    assert ended.code == 0, ended.output
    hours = "SELECT strftime(night, '%m-%d'), n_scores / 6 FROM core.health_nights WHERE night IN {} ORDER BY night"
    nights = "('2024-02-29', '2024-03-31', '2024-10-27')"
    assert query(plant, hours.format(nights)) == [("02-29", 24.0), ("03-31", 23.0), ("10-27", 25.0)]
    nights = "('2024-03-31', '2024-10-27')"
    plant = reopen(plant, schedule={"timezone": "America/New_York"})
    ended = stem.run(plant, UNTIL_PUBLISHED)
    assert ended.code == 0, ended.output
    assert query(plant, hours.format(nights)) == [("03-31", 24.0), ("10-27", 24.0)]
    totals = "SELECT (SELECT sum(n_scores) FROM core.health_nights) = (SELECT count(*) FROM mart.anomaly_scores)"
    assert query(plant, totals) == [(True,)]


def test_of_a_clock_that_jumps_back_no_row_is_lost_or_counted_twice(make_plant):
    """In UTC an hour that comes again is refused as duplicate; in local time the order of rows tells the two apart."""
    local = pd.date_range("2024-10-26 22:00", periods=8, freq="30min", tz="UTC").tz_convert("Europe/Berlin")
    rows = [f"{time:%Y-%m-%d %H:%M},m1,{20 + i},3" for i, time in enumerate(local)]
    again = [f"2024-01-01T00:{i:02d}:00Z,m1,{30 + i},3" for i in range(10)]
    plant = make_plant(
        {"a.csv": lines(30) + "\n".join(again) + "\n", "b.csv": "\n".join([HEADER, *rows]) + "\n"},
        source={"timezone": "Europe/Berlin"},
    )
    read_all(plant)
    counted = balanced(plant)
    assert counted["raw"] == 30 + 10 + 8
    assert counted["refused"] == 10
    assert query(plant, "SELECT DISTINCT reason FROM mart.rejected_readings") == [("duplicate",)]
    times = query(plant, "SELECT ts FROM core.readings WHERE ts >= '2024-10-26' ORDER BY temperature")
    assert [time for (time,) in times] == [time.tz_convert("UTC").tz_localize(None) for time in local]


PEAK = """
import resource
from pathlib import Path
peak = lambda: int(next(line for line in Path('/proc/self/status').open() if line.startswith('VmHWM')).split()[1])
before = peak()
ingest_files(plant)
print('grew', peak() - before)
"""


def take_large_file(make_plant, stem, n_rows: int) -> int:
    """Ingest one large file under a limit of 200 MB; return how many MB the process grew."""
    plant = make_plant({"empty.csv": HEADER + "\n"}, compute={"memory_limit": "200MB"}, warehouse={"wait_seconds": 60})
    (plant.config.folder / "data" / "empty.csv").unlink()
    block = "".join(
        f"2024-01-01T00:{i // 60 % 60:02d}:{i % 60:02d}Z,m{{0:06d}},2{i % 10}.125,3.{i % 1000:03d}\n"
        for i in range(1000)
    )
    with (plant.config.folder / "data" / "large.csv").open("w") as file:
        file.write(HEADER + "\n")
        for number in range(n_rows // 1000):
            file.write(block.format(number))
    ended = stem.run(plant, PEAK)
    assert ended.code == 0, ended.output
    assert query(plant, "SELECT count(*) FROM ingest.raw_readings") == [(n_rows,)]
    return int(ended.output.split("grew ")[1]) // 1024


def test_a_large_file_is_taken_within_the_memory_limit(make_plant, stem):
    assert take_large_file(make_plant, stem, 1_000_000) < 500


@pytest.mark.long
def test_a_file_of_5_gb_is_taken_within_the_memory_limit(make_plant, stem):
    assert take_large_file(make_plant, stem, 125_000_000) < 500
