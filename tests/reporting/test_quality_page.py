"""The page "data quality": the facts of `pwflow check` for the readings in the warehouse, in both languages."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from pwflow_core.pipeline.looking.data.doubts import Doubt
from pwflow_core.pipeline.looking.data.profile import profile_data
from pwflow_core.reporting import LANGUAGES
from pwflow_core.reporting.doubts import say_doubt, say_interval
from pwflow_core.reporting.facts import read_facts
from pwflow_core.reporting.pages.quality import make_quality
from pwflow_core.reporting.rendering import make_environment
from pwflow_core.reporting.texts import Texts
from pwflow_core.warehouse import utc_now
from tests.conftest import read_all


@pytest.fixture
def plant(make_plant):
    rng = np.random.default_rng(0)
    n = 1500
    rows = pd.DataFrame(
        {
            "ts": pd.date_range("2024-03-01", periods=n, freq="60s").strftime("%Y-%m-%dT%H:%M:%SZ"),
            "machine": "<b>A</b>",
            "temperature": np.round(rng.normal(20, 1, n), 2).astype(object),
            "pressure": np.round(rng.normal(3, 0.2, n), 3),
            "valve": np.arange(n) // 300 % 2,
        }
    )
    rows.loc[rows.index % 60 == 0, "temperature"] = -50.0
    rows.loc[rows.index % 70 == 1, "temperature"] = "No Data"
    rows = rows[(rows.index < 200) | (rows.index > 260)]
    made = make_plant({"a.csv": rows}, sensors={"temperature": {"unit": "°C"}, "pressure": {}, "valve": {}})
    read_all(made)
    return made


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_has_the_facts_of_the_check_in_words(plant, language):
    words = Texts(language)
    facts = read_facts(plant, 60, utc_now())
    with plant.warehouse.snapshot() as connection:
        assert facts.data == profile_data(connection, plant.config, since=facts.first)
    page = make_environment().get_template("quality.html").render(t=words, quality=make_quality(facts, words))
    text = re.sub(r"<[^>]+>", "", page)
    assert [doubt.kind for doubt in facts.doubts] == ["sentinel", "refused_word", "gaps", "binary"]
    assert "<code>missing = [-50]</code>" in page
    assert "<code>missing_words = [&#34;No Data&#34;]</code>" in page
    assert "<b>A</b>" not in page
    for key in ("doubts", "sensors", "rhythm"):
        assert words(f"quality.{key}") in text
    for kind in ("measurement", "binary"):
        assert words(f"sensor_kind.{kind}") in text
    assert words("quality.days", n="1", n_all="2") in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_that_can_be_said_can_be_filled_in(plant, language):
    words = Texts(language)
    for doubt in read_facts(plant, 60, utc_now()).doubts:
        said = say_doubt(doubt, words)
        assert said.what
        assert said.next_step
        assert "{" not in said.what


def test_figures_are_written_for_people():
    totaliser = Doubt("totaliser", "total", 1, {"sensor": "total", "key": "total", "low": -402.0, "high": 5780842.0})
    assert say_doubt(totaliser, Texts("en")).what.startswith("total only goes up, from −402 to 5,780,842:")
    mark = Doubt(
        "sentinel", "p", 1, {"sensor": "p", "marks": [1e30, 0.25], "n": 1234, "median": None} | {"missing": "[]"}
    )
    assert say_doubt(mark, Texts("en")).what == "p reads 1e+30, 0.25 in 1,234 readings, far from all others (median –)"


def test_only_the_time_shown_is_looked_at(plant):
    assert read_facts(plant, 1, utc_now()).data.n_readings == 60


def test_a_rhythm_of_less_than_a_second_is_told():
    assert say_interval(0.05, Texts("en")) == "0.05 s"
    assert say_interval(600.0, Texts("en")) == "10 minutes"
    assert say_interval(None, Texts("en")) == "–"
