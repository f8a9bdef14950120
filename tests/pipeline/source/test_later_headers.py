"""A header that comes again inside a file: the rows behind it are never read under the wrong names."""

import re
from collections.abc import Sequence

import pytest

from tests.conftest import query, read_all

WIDE = ("ts", "machine", "temperature", "pressure")
LONG = ("time", "tag", "value", "state")
AS_LONG = {
    "timestamp": "time",
    "layout": "long",
    "tag": "tag",
    "value": "value",
    "quality": "state",
    "good_quality": ["192"],
    "machine": None,
}


def part(header: Sequence[str], names: Sequence[str], hour: int, line) -> str:
    """Return a header and four rows with the cells that it names; `line` gives the cells of a row by column."""
    rows = (line(f"2024-01-01T{hour:02d}:0{i}:00Z", i) for i in range(4))
    return "\n".join([",".join(header), *(",".join(row[name] for name in names) for row in rows)]) + "\n"


def wide(time: str, i: int) -> dict[str, str]:
    return {"ts": time, "machine": "m1", "temperature": f"{20 + i}", "pressure": f"{3 + i}", "valve": "50"}


def value(time: str, i: int) -> dict[str, str]:
    return {"time": time, "tag": ("temperature", "pressure")[i % 2], "value": f"{20 + i}", "state": "192"}


OTHERS = {
    "another order": (
        WIDE,
        ("ts", "machine", "pressure", "temperature"),
        "row 5 is a header with 'pressure' in the place of 'temperature'",
    ),
    "the time elsewhere": (WIDE, ("temperature", "machine", "ts", "pressure"), "'temperature' in the place of 'ts'"),
    "the machine elsewhere": (WIDE, ("ts", "temperature", "machine", "pressure"), "place of 'machine'"),
    "another sensor": (WIDE, ("ts", "machine", "temperature", "valve"), "'valve' in the place of 'pressure'"),
    "value and quality": (LONG, ("time", "tag", "state", "value"), r"'state \(value\)' in the place of 'value"),
    "time and tag": (LONG, ("tag", "time", "value", "state"), "'tag' in the place of 'time'"),
}


@pytest.mark.parametrize("is_marked", [False, True])
@pytest.mark.parametrize("kind", OTHERS)
def test_a_later_header_with_other_columns_refuses_the_file_and_says_where(make_plant, kind, is_marked):
    first, second, message = OTHERS[kind]
    line, source = (wide, {}) if first is WIDE else (value, AS_LONG)
    written = ("\ufeff" + " ,".join(second).title()).split(",") if is_marked else second
    files = {f"{i}.csv": part(first, first, i, line) for i in range(3)}
    files["1.csv"] += part(written, second, 9, line)
    plant = make_plant(files, source=source)
    read_all(plant)
    [(path, reason)] = query(plant, "SELECT path, reason FROM ingest.files WHERE status = 'refused'")
    assert path == "1.csv"
    assert re.search(message, reason, re.IGNORECASE)
    assert query(plant, "SELECT DISTINCT hour(ts) FROM core.readings ORDER BY ALL") == [(0,), (2,)]


def test_a_later_header_as_the_first_one_is_a_row_that_is_refused(make_plant):
    first = part(WIDE, WIDE, 1, wide)
    plant = make_plant({"a.csv": first + part(WIDE, WIDE, 2, wide) + "\ufeff" + part(WIDE, WIDE, 3, wide)})
    read_all(plant)
    assert query(plant, "SELECT count(*) FROM core.readings WHERE quality = 'ok'") == [(12,)]
    assert query(plant, "SELECT row_number, ts, reason FROM mart.rejected_readings ORDER BY ALL") == [
        (5, "ts", "unreadable_timestamp"),
        (10, "\ufeffts", "unreadable_timestamp"),
    ]
