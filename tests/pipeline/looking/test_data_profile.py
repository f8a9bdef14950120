"""What is said of data with a known truth: counts by SQL, gaps, kinds of channels, marks, units."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from pwflow_core.pipeline.looking.data import machines
from pwflow_core.pipeline.looking.data.doubts import find_doubts
from pwflow_core.pipeline.looking.data.levels import PeriodLevel
from pwflow_core.pipeline.looking.data.profile import profile_data
from pwflow_core.pipeline.looking.data.units import find_unit_jumps
from tests.conftest import query, read_all

START = pd.Timestamp("2024-03-01")
SENSORS = ("flow", "level", "total", "burst", "setpoint", "valve", "mode", "coarse", "nothing", "rare")
N = 4320


def utc(text: str) -> datetime:
    """Return a time as the tables have it, without a zone."""
    return datetime.fromisoformat(text)


def truth() -> pd.DataFrame:
    """Two machines, three days, a reading a minute; one stops for a whole day and for half an hour."""
    rng = np.random.default_rng(3)
    parts = []
    for machine in ("A", "B"):
        place = np.arange(N)
        part = pd.DataFrame(
            {
                "ts": START + pd.to_timedelta(place, unit="min"),
                "machine": machine,
                "flow": np.round(20 + rng.normal(0, 1, N), 2),
                "level": np.round(500 + rng.normal(0, 2, N), 1),
                "total": 100.0 + place * 0.5,
                "burst": np.where(rng.random(N) < 0.3, np.round(rng.gamma(2, 2, N) + 0.1, 3), 0.0),
                "setpoint": 5.0 if machine == "A" else 6.0,
                "valve": (place // 1000) % 2,
                "mode": (place // 700) % 4,
                "coarse": np.round(rng.normal(0, 1, N)).clip(-2, 2) * 0.25,
                "nothing": np.nan,
                "rare": np.where(place % 10 == 0, np.round(rng.normal(7, 1, N), 3), np.nan),
            }
        )
        part.loc[rng.random(N) < 0.02, "flow"] = np.nan
        part.loc[place % 400 == 7, "level"] = -50.0
        if machine == "B":
            part = part[(place < 1440) | (place >= 2880)]
            part = part[(part.index < 3000) | (part.index >= 3030)]
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def plant(tmp_path_factory, make_once):
    from tests.conftest import open_plant, put_file

    def make(folder):
        put_file(folder / "data" / "a.csv", truth())
        read_all(open_plant(folder, {"sensors": {name: {} for name in SENSORS}}))

    return open_plant(make_once("data_profile", make), {"sensors": {name: {} for name in SENSORS}})


def profile(plant, **options):
    with plant.warehouse.snapshot() as connection:
        return profile_data(connection, plant.config, **options)


def test_every_count_is_that_of_the_readings(plant):
    found = profile(plant)
    [(n_readings,)] = query(plant, "SELECT count(*) FROM core.readings")
    assert found.n_rows == found.n_readings == n_readings == len(truth())
    assert found.by_quality == dict(query(plant, "SELECT quality, count(*) FROM core.readings GROUP BY 1"))
    for sensor in found.sensors:
        [(n, low, high, n_zero)] = query(
            plant,
            f"SELECT count(s), min(s), max(s), count_if(s = 0) FROM (SELECT {sensor.sensor} AS s FROM core.readings)",
        )
        assert (sensor.n_values, sensor.lowest, sensor.highest) == (n, low, high)
        assert sensor.share_missing == pytest.approx(1 - n / n_readings)
        assert sensor.share_zero == pytest.approx(n_zero / n if n else 0)
    flow = next(sensor for sensor in found.sensors if sensor.sensor == "flow")
    assert flow.median == pytest.approx(truth().flow.median())


def test_each_channel_gets_its_kind_its_step_and_its_rhythm(plant):
    found = {sensor.sensor: sensor for sensor in profile(plant).sensors}
    assert {name: sensor.kind for name, sensor in found.items()} == {
        "flow": "measurement",
        "level": "measurement",
        "total": "totaliser",
        "burst": "zero_inflated",
        "setpoint": "constant",
        "valve": "binary",
        "mode": "states",
        "coarse": "measurement",
        "nothing": "empty",
        "rare": "measurement",
    }
    steps = {"flow": 0.01, "level": 0.1, "burst": 0.001, "coarse": 0.25, "total": 0.5}
    assert {name: found[name].step for name in steps} == steps
    assert found["rare"].interval_seconds == 600
    assert found["flow"].interval_seconds == 60
    assert found["level"].suspected_missing[0].value == -50
    assert found["level"].suspected_missing[0].n_values == (truth().level == -50).sum()
    assert all(not sensor.suspected_missing for name, sensor in found.items() if name != "level")


def test_changes_of_state_are_counted_over_days_and_machines(plant):
    found = {sensor.sensor: sensor for sensor in profile(plant).sensors}
    rows = truth().sort_values(["machine", "ts"])
    for name in ("setpoint", "valve", "mode"):
        before = rows.groupby("machine")[name].shift()
        changed = before.notna() & (before != rows[name])
        assert found[name].n_changes == changed.sum()
        assert found[name].last_change_at == (rows.ts[changed].max() if changed.any() else None)


def test_gaps_and_days_are_those_that_were_made(plant):
    a, b = profile(plant).machines
    assert (a.machine_id, a.n_readings, a.n_gaps, a.gap_days, a.n_days) == ("A", N, 0, (), 3)
    assert (b.n_readings, b.n_gaps, b.interval_seconds) == (N - 1440 - 30, 2, 60)
    assert b.longest_gap_seconds == 1441 * 60
    assert b.longest_gap_at == utc("2024-03-01 23:59")
    assert b.gap_days == (date(2024, 3, 1), date(2024, 3, 2), date(2024, 3, 3))
    assert (b.n_days, b.n_silent_days) == (3, 1)


def test_a_part_of_the_time_can_be_looked_at(plant):
    found = profile(plant, since=utc("2024-03-03"))
    assert found.n_readings == 2 * 1440 - 30
    assert {machine.first for machine in found.machines} == {utc("2024-03-03")}


def test_many_readings_are_looked_at_in_stretches_and_counted_all_the_same(plant, monkeypatch):
    whole = profile(plant)
    monkeypatch.setattr(machines, "_ROWS_DRAWN", 2000)
    monkeypatch.setattr(machines, "_ROWS_PER_STRETCH", 100)
    drawn = profile(plant)
    assert drawn.machines == whole.machines
    for few, every in zip(drawn.sensors, whole.sensors, strict=True):
        assert (few.n_values, few.lowest, few.median, few.n_changes) == (
            every.n_values,
            every.lowest,
            every.median,
            every.n_changes,
        )
        assert (few.kind, few.step, few.suspected_missing) == (every.kind, every.step, every.suspected_missing)


def test_the_most_doubtful_comes_first_with_what_to_write(plant):
    doubts = find_doubts(profile(plant), plant.config)
    told = [(doubt.kind, doubt.about) for doubt in doubts]
    assert told == [
        ("sentinel", "level"),
        ("empty", "nothing"),
        ("slow", "rare"),
        ("gaps", "B"),
        ("constant", "setpoint"),
        ("binary", "valve"),
        ("states", "mode"),
        ("totaliser", "total"),
        ("coarse", "coarse"),
    ]
    assert doubts[0].values["missing"] == "[-50]"
    assert doubts[2].values["hold"] == "3000"


def test_many_machines_with_gaps_are_told_in_four_lines(plant):
    found = profile(plant)
    gappy = found.machines[1]
    others = tuple(replace(gappy, machine_id=f"M{number}") for number in range(10))
    told = [doubt for doubt in find_doubts(replace(found, machines=others), plant.config) if "gaps" in doubt.kind]
    assert [doubt.kind for doubt in told] == ["gaps", "gaps", "gaps", "more_gaps"]
    assert told[-1].values == {"n": 7}


def periods(machine, *levels, n=100):
    """Periods of a day each: median and interquartile range."""
    return [
        PeriodLevel(
            machine, n, utc("2024-03-01") + timedelta(days=day), (m - 2 * s, m - s / 2, m, m + s / 2, m + 2 * s)
        )
        for day, (m, s) in enumerate(levels)
    ]


@pytest.mark.parametrize(
    ("unit", "levels", "pair"),
    [
        ("bar", [(3, 0.2), (3.1, 0.2), (305, 20), (300, 20)], ("bar", "kPa")),
        ("", [(3, 0.2), (3.1, 0.2), (305, 20), (300, 20)], ("bar", "kPa")),
        ("°C", [(20, 1), (21, 1), (69, 1.8), (70, 1.8)], ("°C", "°F")),
        ("", [(20, 1), (21, 1), (294, 1), (293, 1)], ("°C", "K")),
        ("kPa", [(305, 20), (300, 20), (3, 0.2), (3, 0.2)], ("bar", "kPa")),
    ],
)
def test_a_change_of_unit_is_found_with_its_day(unit, levels, pair):
    [jump] = find_unit_jumps({"p": periods("A", *levels)}, {"p": unit})
    assert (jump.smaller, jump.larger) == pair
    assert jump.since == utc("2024-03-03")


@pytest.mark.parametrize(
    ("unit", "levels"),
    [
        ("", [(3, 0.2), (3.1, 0.2), (305, 0.2), (300, 0.2)]),  # the spread did not go along
        ("", [(3, 0.2), (305, 20), (3, 0.2), (3, 0.2), (3, 0.2)]),  # for one day alone
        ("", [(3, 0.2), (3, 0.2), (6, 0.4), (6, 0.4)]),  # twice as much is not a unit
        ("°C", [(3, 0.2), (3, 0.2), (300, 20), (300, 20)]),  # not a unit of this kind
        ("", [(3, 0.2), (3, 0.2), (300, 20), (300, 20)] * 5),  # back and forth, as a process does
    ],
)
def test_what_only_looks_like_another_unit_is_not_told(unit, levels):
    assert find_unit_jumps({"p": periods("A", *levels)}, {"p": unit}) == ()


def test_a_machine_in_another_unit_is_found():
    levels = [
        *periods("A", (3, 0.2), (3.1, 0.2)),
        *periods("B", (2.9, 0.2), (3.05, 0.2)),
        *periods("C", (300, 20), (302, 20)),
    ]
    [jump] = find_unit_jumps({"p": levels}, {"p": "bar"})
    assert (jump.machine_id, jump.smaller, jump.larger, jump.since) == ("C", "bar", "kPa", None)
    assert find_unit_jumps({"p": levels}, {"p": "mm"}) == ()
