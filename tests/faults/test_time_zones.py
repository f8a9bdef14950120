"""The time zone of a plant is corrected in the configuration: every reading moves, none is lost or counted twice."""

import pandas as pd
import pytest

from pwflow_core.pipeline.scoring.checks import check_scores
from tests.conftest import plant_readings, put_file, query, read_all, reopen
from tests.faults.conftest import UNTIL_PUBLISHED, published
from tests.faults.test_inputs import balanced

TIMES = (
    "SELECT count(*), count(DISTINCT (machine_id, ts)), min(ts)::VARCHAR, max(ts)::VARCHAR "
    "FROM {} WHERE machine_id = 'm'"
)
LOCAL = [f"{time:%Y-%m-%d %H:%M},m,20,3" for time in pd.date_range("2024-10-27 03:00", periods=48, freq="30min")]


def test_readings_without_offset_are_read_again_in_another_zone_and_no_hour_is_lost_or_counted_twice(make_plant):
    """Clocks went back in Berlin that night, and did not in New York; back and forth it ends where it began."""
    files = {"local.csv": "\n".join(["ts,machine,temperature,pressure", *LOCAL]) + "\n"}
    found = {}
    for zone in ("Europe/Berlin", "America/New_York", "Europe/Berlin"):
        plant = make_plant(files, source={"timezone": zone})
        read_all(plant)
        assert balanced(plant) == {"raw": 48, "malformed": 0, "readings": 48, "refused": 0}
        [(n, n_distinct, first, last)] = query(plant, TIMES.format("core.readings"))
        assert n == n_distinct == 48
        assert found.setdefault(zone, (first, last)) == (first, last)
    assert found["Europe/Berlin"] == ("2024-10-27 02:00:00", "2024-10-28 01:30:00")
    assert found["America/New_York"] == ("2024-10-27 07:00:00", "2024-10-28 06:30:00")


@pytest.mark.long(reason="12 CPU s: the readings of a corrected zone are held at each push")
def test_a_run_after_the_correction_scores_every_reading_once_at_its_new_time(trained_plant, stem):
    night = plant_readings(48, seed=3, start="2024-10-27 01:00")
    night["ts"] = night["ts"].str.replace("Z", "").str.replace("T", " ")
    put_file(trained_plant.config.folder / "data" / "night.csv", night.assign(machine="m"))
    for zone, n_hours in (("Asia/Tokyo", -9), ("UTC", 0)):
        plant = reopen(trained_plant, source={"timezone": zone, "segments": ["recipe"]}, schedule={"timezone": zone})
        ended = stem.run(plant, UNTIL_PUBLISHED)
        assert ended.code == 0, ended.output
        [(n, n_distinct, first, _)] = query(plant, TIMES.format("mart.anomaly_scores"))
        [(n_readings, *_)] = query(plant, TIMES.format("core.readings"))
        assert n == n_distinct == n_readings > 40
        assert pd.Timestamp(first) == pd.Timestamp("2024-10-27 01:00") + pd.Timedelta(hours=n_hours)
        totals = "SELECT (SELECT sum(n_scores) FROM core.health_nights) = (SELECT count(*) FROM mart.anomaly_scores)"
        assert query(plant, totals) == [(True,)]
        assert published(plant)[0][0] == 3000 + n
        assert all(result.passed for result in check_scores(plant) if result.is_blocking)
