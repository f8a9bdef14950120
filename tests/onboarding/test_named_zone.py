"""What the name of a time column tells of its time zone: one zone, or a refusal that names what it tells."""

from __future__ import annotations

import re

import pytest

from pwflow_core.errors import SourceError
from pwflow_core.onboarding.named_zone import find_named_zone

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("Time", None),
        ("Temperature (kW/h)", None),
        ("Time (UTC+9)", "Etc/GMT-9"),
        ("Date Time, GMT-05:00", "Etc/GMT+5"),
        ("time UTC+1", "Etc/GMT-1"),
        ("Time, GMT+0530", "Asia/Kolkata"),
        ("Date Time, GMT-05:00 (local)", "Etc/GMT+5"),
        ("flow_utc-5-minutes", None),
        ("time_utc", "UTC"),
        (("Date (UTC)", "Time (UTC)"), "UTC"),
        ("Zeit (MEZ)", "Etc/GMT-1"),
        ("Zeit (MEZ/MESZ)", "Europe/Berlin"),
        ("Zeit MEZ/MESZ", "Europe/Berlin"),
        ("Timestamp [CET, CEST]", "Europe/Berlin"),
        ("Zeit (Europe/Berlin) [MEZ/MESZ]", "Europe/Berlin"),
        ("Time (PST/PDT)", "America/Los_Angeles"),
    ],
)
def test_winter_and_summer_time_are_one_region(name, zone):
    assert find_named_zone(name) == zone


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Time (Europe/Berlin) [America/Chicago]", ["Europe/Berlin", "America/Chicago"]),
        ("Zeit (MEZ/UTC)", ["MEZ", "UTC"]),
        ("time_utc (CET)", ["CET", "UTC"]),
        (("Date (UTC)", "Time (JST)"), ["UTC", "JST"]),
        ("Time (Asia/Tokyo) [CET]", ["Asia/Tokyo", "CET"]),
    ],
)
def test_two_zones_are_refused_with_both(name, told):
    with pytest.raises(SourceError, match=f"got {' and '.join(repr(word) for word in told)}: name the zone"):
        find_named_zone(name)


@pytest.mark.parametrize("name", ["Time (IST)", "Time (CDT)", "Time (+05:17)"])
def test_a_zone_that_is_not_certain_is_refused(name):
    with pytest.raises(SourceError, match=re.escape(f"in the name of column {name!r}")):
        find_named_zone(name)
