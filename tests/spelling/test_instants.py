"""Times: any instant, printed in any spelling, is read back as it was or refused; no word behind a time is dropped."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pwflow_core.spelling import InstantSpelling, read_zones
from pwflow_core.spelling.clocks import find_clock_changes
from pwflow_core.spelling.zones import resolve_zone
from tests.conftest import examples

pytestmark = pytest.mark.quick

FORMATS = {
    None: ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y/%m/%d %H:%M:%S", "%Y.%m.%d  %H:%M:%S"),
    "%d.%m.%Y %H:%M:%S": ("%d.%m.%Y %H:%M:%S",),
    "%m/%d/%Y %I:%M:%S %p": ("%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M:%S%p"),
    "%d/%m/%y %H:%M:%S.%f": ("%d/%m/%y %H:%M:%S",),
    "%d-%b-%Y %H:%M:%S": ("%d-%b-%Y %H:%M:%S", "%d-%b-%Y   %H:%M:%S"),
    "%a %b %d %Y %H:%M:%S": ("%a %b %d %Y %H:%M:%S",),
    "%Y%m%dT%H%M%S%z": ("%Y%m%dT%H%M%S",),
    "%H:%M:%S %d.%m.%Y": ("%H:%M:%S %d.%m.%Y",),
}
WORDS = {
    "Z": 0, " Z": 0, " UTC": 0, " +0530": 5.5, " +05:30": 5.5, " -03": -3,
    " GMT": 0, "+09": 9, "+0900": 9, "+09:00": 9, " +09:30": 9.5, " -0330": -3.5, " −05:00": -5, " UTC+9": 9,
    " UTC-3": -3, " GMT+1": 1, " (UTC+01:00)": 1, " JST": 9, " jst": 9, " CET": 1, " CEST": 2, " MESZ": 2, " EST": -5,
    " EDT": -4, " GMT+0100 (Central European Standard Time)": 1, "+01:00[Europe/Berlin]": 1, " +0100 CET": 1,
    " Asia/Tokyo": "Asia/Tokyo", " Europe/Berlin": "Europe/Berlin", " america/new_york": "America/New_York",
    "[Asia/Kolkata]": "Asia/Kolkata", "": "own",
    " CST": None, " IST": None, " XYZ": None, " Garbage": None, " +25:00": None, " +0100 JST": None, " Mars/Base": None,
    " 12": None, " ?": None, "x": None, " AM": None,
}  # fmt: skip
OWN_ZONES = ("UTC", "Europe/Berlin", "Asia/Tokyo", "Australia/Lord_Howe")


@pytest.fixture(scope="module")
def database():
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'; SET threads = 1")
        yield connection


def read(database, texts: list[str | None], format: str | None, timezone: str | None) -> list[datetime | None]:
    rows = "SELECT unnest(range(len($texts))) AS row, unnest($texts::VARCHAR[]) AS ts"
    database.execute(f"CREATE OR REPLACE TABLE written AS {rows}", {"texts": texts})
    spelling = InstantSpelling(format, timezone)
    spelling = replace(spelling, zones=read_zones(database, "written", "ts", spelling))
    return [row[0] for row in database.execute(f"SELECT {spelling.instant('ts')} FROM written ORDER BY row").fetchall()]


@st.composite
def printed(draw):
    """Draw a format, the configured zone, and texts with the instants that they may mean, none if they are refused."""
    format = draw(st.sampled_from(list(FORMATS)))
    own = draw(st.sampled_from(OWN_ZONES))
    texts = []
    for _ in range(12):
        local = draw(st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1)))  # noqa: DTZ001 - a clock on a wall
        word, zone = draw(st.sampled_from(list(WORDS.items())))
        if own.startswith("Australia/") and word in (" EST", " EDT"):
            zone = None  # the east of which continent?
        digits = draw(st.sampled_from([0, 0, 1, 3, 6, 9]))
        if digits and "%S %d" not in (format or "") + FORMATS[format][0]:
            local = local.replace(
                microsecond=local.microsecond // 10 ** (6 - min(digits, 6)) * 10 ** (6 - min(digits, 6))
            )
            shown = draw(st.sampled_from(".,")) + f"{local.microsecond:06d}000"[:digits]
        else:
            local, shown = local.replace(microsecond=0), ""
        pattern = draw(st.sampled_from(FORMATS[format])).replace("%S", f"%S{shown}")
        texts.append((local.strftime(pattern) + word, meanings(local, own if zone == "own" else zone)))
    return format, own, texts


def meanings(local: datetime, zone: str | float | None) -> set[datetime | None]:
    """Return the instants that a clock may have shown as `local`; None stands for a refusal."""
    if zone is None:
        return {None}
    if not isinstance(zone, str):
        return {local - timedelta(hours=zone)}
    folds = (local.replace(tzinfo=ZoneInfo(zone), fold=fold) for fold in (0, 1))
    return {fold.astimezone(UTC).replace(tzinfo=None) for fold in folds}


@settings(max_examples=examples(20, 1_000), deadline=None)
@given(drawn=printed())
def test_every_instant_in_every_spelling_is_read_back_or_refused(database, drawn):
    format, own, texts = drawn
    found = read(database, [text for text, _ in texts], format, own)
    wrong = [(text, got, may) for (text, may), got in zip(texts, found, strict=True) if got not in may]
    assert not wrong


@settings(max_examples=examples(15, 1_000), deadline=None)
@given(
    words=st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), min_size=1, max_size=7), max_size=30)
)
def test_no_word_behind_a_time_is_dropped(database, words):
    for format, time in ((None, "2026-03-01 12:00:00"), ("%d.%m.%Y %H:%M", "01.03.2026 12:00")):
        found = read(database, [time + word for word in words], format, "Asia/Tokyo")
        for word, got in zip(words, found, strict=True):
            if got is not None and word.strip():
                fraction = format is None and word.strip()[0] in ".,"
                assert fraction or resolve_zone(word, "Asia/Tokyo") is not None, word


@settings(max_examples=examples(20, 300), deadline=None)
@given(
    moment=st.datetimes(datetime(2001, 2, 1), datetime(2099, 1, 1)),  # noqa: DTZ001 - UTC
    unit=st.sampled_from(["unix_s", "unix_ms", "unix_us", "unix_ns", "excel_days"]),
)
def test_counted_times_are_read_back(database, moment, unit):
    if unit == "excel_days":
        moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
        days = (moment - datetime(1899, 12, 30)) / timedelta(days=1)  # noqa: DTZ001 - a clock on a wall
        texts = [f"{days:.11f}", f"{days:.11f}".replace(".", ",")]
    else:
        micros = (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)  # noqa: DTZ001 - UTC
        per = {"unix_s": 1_000_000, "unix_ms": 1_000, "unix_us": 1, "unix_ns": 1}[unit]
        whole, rest = divmod(micros, per)
        digits = len(str(per)) - 1
        text = f"{whole}.{rest:0{digits}d}" if digits else str(whole)
        texts = [f"{micros}000", f"{micros}123"] if unit == "unix_ns" else [text, text.replace(".", ",")]
    assert read(database, [*texts, "x", "1e300", ""], unit, "UTC") == [moment] * 2 + [None] * 3


@pytest.mark.parametrize(
    ("word", "zone", "expected"),
    [
        ("CST", "America/Chicago", -6 * 3600),
        ("CST", "Asia/Shanghai", 8 * 3600),
        ("CST", "Europe/Berlin", None),
        ("IST", "Asia/Kolkata", 19800),
        ("IST", None, None),
        ("PST", "America/Los_Angeles", -8 * 3600),
        ("MSK", "Europe/Moscow", "Europe/Moscow"),  # four hours for some years
        ("Etc/GMT+1", None, "Etc/GMT+1"),
    ],
)
def test_an_abbreviation_with_several_meanings_is_read_where_the_zone_of_the_plant_makes_it_certain(
    word, zone, expected
):
    assert resolve_zone(word, zone) == expected


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Tokyo", "America/Sao_Paulo"]
)
def test_clock_changes_are_those_of_the_zone(database, zone):
    changes = find_clock_changes(database, zone, datetime(2015, 1, 1), datetime(2020, 1, 1))  # noqa: DTZ001 - UTC
    known = ZoneInfo(zone)
    for change in changes:
        for shift, offset in ((-1, change.before), (0, change.after)):
            at = (change.at + timedelta(minutes=shift)).replace(tzinfo=UTC).astimezone(known)
            assert at.utcoffset() == timedelta(seconds=offset)
    hours = [datetime(2015, 1, 1, tzinfo=UTC) + timedelta(hours=i) for i in range(24 * 365 * 5)]
    offsets = [hour.astimezone(known).utcoffset() for hour in hours]
    assert len(changes) == sum(a != b for a, b in pairwise(offsets))
