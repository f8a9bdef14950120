"""Times of clocks that are changed, and times that have not come yet: right or refused, and nothing else is touched."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from tests.conftest import query, read_all

HEADER = "ts,machine,temperature,pressure"


def shown(start: str, periods: int, freq: str, zone: str) -> tuple[pd.DatetimeIndex, list[str]]:
    """Return instants, and what the clocks of a zone showed."""
    instants = pd.date_range(start, periods=periods, freq=freq, tz="UTC")
    return instants.tz_localize(None), [f"{local:%Y-%m-%d %H:%M:%S}" for local in instants.tz_convert(zone)]


def read(make_plant, rows: list[str], zone: str, **source):
    plant = make_plant({"a.csv": "\n".join([HEADER, *rows]) + "\n"}, source={"timezone": zone, **source})
    read_all(plant)
    return plant


def by_number(plant) -> dict[float, datetime]:
    return dict(query(plant, "SELECT temperature, ts FROM core.readings ORDER BY temperature"))


def reasons(plant) -> dict[str, int]:
    return dict(query(plant, "SELECT reason, count(*) FROM mart.rejected_readings GROUP BY reason"))


@pytest.mark.parametrize(
    ("zone", "start", "freq"),
    [
        ("Europe/Berlin", "2024-10-26 20:00", "10min"),
        ("Europe/Berlin", "2024-10-26 12:00", "1h"),
        ("America/New_York", "2024-11-03 00:00", "15min"),
        ("Australia/Lord_Howe", "2024-04-06 10:00", "10min"),  # by half an hour
        ("America/Sao_Paulo", "2018-02-17 18:00", "5min"),  # over midnight
    ],
)
@pytest.mark.parametrize("newest_first", [False, True])
def test_the_repeated_hour_is_told_apart_by_the_order_of_rows(make_plant, zone, start, freq, newest_first):
    instants, texts = shown(start, 60 if freq != "5min" else 180, freq, zone)
    assert len(set(texts)) < len(texts), "the clocks are put back in this time"
    order = range(len(texts))[::-1] if newest_first else range(len(texts))
    plant = read(make_plant, [f"{texts[i]},m{m},{i + 1000 * m},3" for i in order for m in (0, 1)], zone)
    assert reasons(plant) == {}
    assert by_number(plant) == {float(i + 1000 * m): t for m in (0, 1) for i, t in enumerate(instants)}


@pytest.mark.parametrize("case", ["one pass", "disordered", "a repeated row"])
def test_hours_that_the_order_of_rows_leaves_open_are_refused(make_plant, case):
    instants, texts = shown("2024-10-26 20:00", 60, "10min", "Europe/Berlin")
    seconds = [i for i, text in enumerate(texts) if text in texts[:i]]
    rows = list(range(len(texts)))
    if case == "one pass":
        rows = [i for i in rows if i not in seconds]
    elif case == "disordered":
        rows = rows[::2] + rows[1::2]
    else:
        rows = [i for i in rows if i not in seconds]
        rows.insert(rows.index(seconds[0] - 4), seconds[0] - 4)
    plant = read(make_plant, [f"{texts[i]},m,{i},3" for i in rows], "Europe/Berlin")
    is_open = [i for i in rows if texts.count(texts[i]) > 1]
    assert reasons(plant) == {"ambiguous_timestamp": len(is_open)}
    assert by_number(plant) == {float(i): instants[i] for i in rows if i not in is_open}


def test_an_hour_that_never_was_is_refused_and_displaces_no_reading(make_plant):
    rows = [
        "2024-03-31 01:50:00,m,1,3",
        "2024-03-31 02:10:00,m,2,3",
        "2024-03-31 03:10:00,m,3,3",
        "2024-04-01 02:10:00,m,4,3",
    ]
    plant = read(make_plant, [*rows, "2024-03-31 02:10:00 UTC,m,5,3"], "Europe/Berlin")
    assert reasons(plant) == {"nonexistent_timestamp": 1}
    assert {value: f"{ts:%d %H:%M}" for value, ts in by_number(plant).items()} == {
        1.0: "31 00:50",
        3.0: "31 01:10",
        4.0: "01 00:10",
        5.0: "31 02:10",
    }


def test_clock_changes_of_a_zone_behind_the_times_count_too(make_plant):
    _, texts = shown("2024-10-26 20:00", 60, "10min", "Europe/Berlin")
    instants = pd.date_range("2024-10-26 20:00", periods=60, freq="10min")
    plant = read(make_plant, [f"{text} Europe/Berlin,m,{i},3" for i, text in enumerate(texts)], "Asia/Tokyo")
    assert reasons(plant) == {}
    assert by_number(plant) == {float(i): t for i, t in enumerate(instants)}


@pytest.mark.parametrize(("zone", "reason"), [("CST", "unknown_time_zone"), ("Nowhere", "unknown_time_zone")])
def test_a_zone_that_nobody_can_know_is_refused_with_its_name(make_plant, zone, reason):
    plant = read(make_plant, ["2024-01-01 00:00:00 UTC,m,1,3", f"2024-01-01 00:01:00 {zone},m,2,3"], "Europe/Berlin")
    [(found, detail)] = query(plant, "SELECT reason, detail FROM mart.rejected_readings")
    assert found == reason
    assert zone in detail
    assert by_number(plant) == {1.0: datetime(2024, 1, 1)}  # noqa: DTZ001 - UTC


def test_a_reading_from_the_future_is_refused_beyond_the_tolerance(make_plant):
    now = datetime.now(UTC).replace(microsecond=0)
    times = [now - timedelta(hours=1), now + timedelta(hours=5), now + timedelta(hours=30), now.replace(year=2099)]
    rows = [f"{time.isoformat()},m,{i},3" for i, time in enumerate(times)]
    assert list(by_number(read(make_plant, [*rows, rows[-1]], "UTC"))) == [0.0, 1.0]
    assert list(by_number(read(make_plant, rows, "UTC", future_hours=48))) == [0.0, 1.0, 2.0]
    plant = read(make_plant, [*rows, rows[-1]], "UTC", future_hours=0)
    assert list(by_number(plant)) == [0.0]
    assert reasons(plant) == {"future_timestamp": 4}
