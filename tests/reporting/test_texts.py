from __future__ import annotations

import re
import string
from datetime import date, datetime
from importlib import resources
from pathlib import Path
from typing import get_args

import pytest

from pwflow_core import reporting
from pwflow_core.errors import ConfigurationError
from pwflow_core.pipeline.looking.data.doubts import DOUBTS
from pwflow_core.pipeline.looking.data.sensors import Kind
from pwflow_core.reporting.texts import LANGUAGES, Texts
from pwflow_core.warehouse import read_sql

PACKAGE = Path(str(resources.files(reporting)))


def placeholders(text: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_every_language_has_the_same_texts_with_the_same_placeholders():
    first, *others = (Texts(language) for language in LANGUAGES)
    for other in others:
        assert other.keys == first.keys
        for key in first.keys:
            if not key.startswith("date."):
                assert placeholders(other(key)) == placeholders(first(key)), key


def test_every_text_that_is_asked_for_exists():
    asked = set()
    for file in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.html")]:
        asked |= set(re.findall(r"""\b(?:t|texts|words)\(\s*["']([a-z_]+(?:\.[a-z_0-9]+)?)["']""", file.read_text()))
    assert len(asked) > 80
    assert asked <= Texts("en").keys


def test_no_text_is_left_over():
    code = "\n".join(file.read_text() for file in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.html")])
    by_code = ("status", "rejected", "verdict", "answer", "finding", "decision", "stopped", "state", "channel", "date")
    by_code += ("glossary", "nav", "column", "change", "duration", "said", "blind", "stretch")
    by_code += ("case_state", "case_label", "case_change", "severity")
    by_code += ("doubt", "doubt_next", "doubt_rows", "doubt_values", "sensor_kind")
    left = [
        key for key in Texts("en").keys if key.split(".")[0] not in by_code and not key.startswith("legend.health_")
    ]
    assert [key for key in left if f'"{key}"' not in code and f"'{key}'" not in code] == []


def test_each_doubt_and_each_kind_of_channel_has_its_words():
    words, kinds = Texts("en").keys, get_args(Kind)
    by_reason = {"row_refused": "doubt_rows", "value_refused": "doubt_values"}
    assert {key.split(".")[1] for key in words if key.startswith("doubt.")} == set(DOUBTS)
    assert {key.split(".")[1] for key in words if key.startswith("doubt_next.")} == set(DOUBTS) - set(by_reason)
    assert {key.split(".")[1] for key in words if key.startswith("sensor_kind.")} == set(kinds)
    refused = {key.split(".")[1] for key in words if key.startswith("rejected.")}
    told = {key.split(".")[1] for key in words if key.split(".")[0] in by_reason.values()}
    assert told == refused


def test_an_unknown_language_is_said():
    with pytest.raises(ConfigurationError, match="en, ja"):
        Texts("tlh")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0, "0"),
        (1234567, "1,234,567"),
        (-0.5, "−0.5"),
        (3.14159, "3.14"),
        (1e-7, "1e−07"),
    ],
)
def test_numbers_are_written_for_people(language, value, written):
    assert Texts(language).number(value) == written


@pytest.mark.parametrize(
    ("share", "written"),
    [(0, "0%"), (1, "100%"), (0.99999, "99.99%"), (0.5, "50%"), (0.001, "0.1%"), (1e-6, "<0.01%"), (None, "–")],
)
def test_a_share_is_never_rounded_to_all_or_nothing(share, written):
    assert Texts("en").percent(share) == written


def test_dates_are_written_in_the_language():
    assert Texts("en").moment(datetime(2026, 2, 9, 16, 51)) == "9 Feb 2026 16:51"  # noqa: DTZ001 - UTC without a zone
    in_tokyo = Texts("en", timezone="Asia/Tokyo")
    assert in_tokyo.moment(datetime(2026, 2, 9, 16, 51)) == "10 Feb 2026 01:51"  # noqa: DTZ001 - UTC without a zone
    assert Texts("ja").night(date(2026, 2, 9)) == "2026年2月9日"
    assert Texts("ja").night(None) == "–"


def test_every_reason_of_a_rejection_has_words_in_every_language():
    schema = read_sql("pwflow_core.warehouse", "schema.sql")
    [told] = re.findall(r"COLUMN mart.rejected_readings.reason IS '([^']+)'", schema)
    reasons = re.split(r", | or ", told)
    assert "infinite" in reasons
    for language in LANGUAGES:
        assert {f"rejected.{reason}" for reason in reasons} <= Texts(language).keys


@pytest.mark.parametrize(
    ("value", "width", "written"),
    [(1.7234e-8, 2.0e-9, "1.72e−08"), (-1.46e-8, 3.0e-8, "−1.5e−08"), (0.0, 1e-9, "0.0000000"), (5.12, 0.3, "5.12")],
)
def test_small_readings_are_written_with_their_digits(value, width, written):
    assert Texts("en").figure(value, width) == written
