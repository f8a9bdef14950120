"""What the tests of the report share: a page taken apart, and a plant in which every name is hostile."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pwflow_core.config import parse_config
from pwflow_core.pipeline.drift.health import derive_health
from pwflow_core.pipeline.scoring.contributions import explain_anomalies
from pwflow_core.pipeline.scoring.detectability import measure_detectability
from pwflow_core.pipeline.scoring.events import derive_events
from pwflow_core.plant import Plant
from pwflow_core.reporting import LANGUAGES, build_report
from tests.conftest import DEFAULTS, TRAINED, MakeOnce, learn_all, merge, open_plant, put_file, read_all

AT_NIGHT = pytest.mark.long(reason="5 CPU s and more: names are put into the page by the same code in every language")
ENGLISH_FIRST = ["en", *(pytest.param(code, marks=AT_NIGHT) for code in LANGUAGES if code != "en")]
LONG = "vibration of the front bearing " * 16
HOSTILE = {
    "<script>alert('sensor')</script>": {"unit": "</script><b>°C"},
    "\"; DROP TABLE mart.clusters; --' onload='alert(1)": {"unit": '"'},
    "\u202eright to left \u0645\u0631\u062d\u0628\u0627": {"unit": "بار"},
    (LONG + "!" * 500)[:500]: {"unit": "mm/s " * 20},
    "#0072b2 $x_1^2$ {{ 7 * 7 }} ]]> &amp; \\u003c": {"unit": "$"},
}
HOSTILE_MACHINE = "<img src=x onerror=alert('machine')>"
HOSTILE_RECIPE = "</title></style><script>alert('recipe')</script>"

VOID = {"meta", "link", "br", "wbr", "img", "input", "hr"}


@dataclass
class Page(HTMLParser):
    """A page taken apart: its elements with their attributes, and all its text."""

    source: str
    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    text: str = ""
    open_elements: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open_elements.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open_elements.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.elements if name in attributes]


@pytest.fixture(scope="session")
def _eventful_folder(_trained_folder: Path, make_once: MakeOnce) -> Path:
    def make(folder: Path) -> None:
        shutil.copytree(_trained_folder, folder, dirs_exist_ok=True)
        derive_all(open_plant(folder, merge(TRAINED, {"events": {"min_readings": 1}})))

    return make_once("eventful", make)


@pytest.fixture
def eventful_plant(_eventful_folder: Path, tmp_path: Path) -> Plant:
    """Return a copy of a trained plant with events, contributions and health."""
    shutil.copytree(_eventful_folder, tmp_path, dirs_exist_ok=True)
    return open_plant(tmp_path, TRAINED)


@pytest.fixture(scope="session")
def unchanged_plant(_eventful_folder: Path) -> Plant:
    """Return that plant itself, for tests that only look."""
    return open_again(_eventful_folder)


def open_again(folder: Path) -> Plant:
    """Open the plant of a folder as its configuration there says, and write nothing."""
    return Plant.open(parse_config(json.loads((folder / "config.json").read_text()), name="the test", folder=folder))


def derive_all(plant: Plant) -> None:
    measure_detectability(plant)
    explain_anomalies(plant)
    derive_events(plant)
    derive_health(plant)


def hostile_readings(n_times: int = 900) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    parts = []
    for machine in (HOSTILE_MACHINE, "ordinary"):
        common = rng.normal(0, 1, n_times)
        values = {name: 20 + common + rng.normal(0, 0.3, n_times) for name in HOSTILE}
        for number, name in enumerate(HOSTILE):
            values[name][600 + 30 * number : 606 + 30 * number] += 25.0
        values[next(iter(HOSTILE))][5] = np.nan
        parts.append(
            pd.DataFrame(
                {
                    "ts": pd.date_range("2024-03-01", periods=n_times, freq="300s").strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "machine": machine,
                    "recipe": HOSTILE_RECIPE,
                    **values,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="session")
def hostile_plant(make_once: MakeOnce) -> Plant:
    """Return a plant that went through the whole path under hostile names, for tests that only look."""
    changes: dict[str, Any] = {
        "source": {"segments": ["recipe"]},
        "sensors": HOSTILE,
        "clustering": {"n_clusters": 1},
        "features": {"windows": []},
        "scoring": {"alpha": 0.01},
        "training": {"until": "2024-03-02T12:00:00Z"},
        "flow": {"max_steps": 200},
    }

    def make(folder: Path) -> None:
        put_file(folder / "data" / "first.parquet", hostile_readings())
        plant = open_plant(folder, merge(DEFAULTS, changes))
        read_all(plant)
        learn_all(plant)
        derive_all(plant)

    return open_again(make_once("hostile", make))


@pytest.fixture(scope="session")
def hostile_report(hostile_plant: Plant, make_once: MakeOnce) -> Callable[[str], Path]:
    """Return a function that has the report of that plant in a language, written once."""

    def find(language: str) -> Path:
        def make(folder: Path) -> None:
            summary = build_report(hostile_plant, folder / "report.html", language=language)
            assert summary.n_events_shown > 3
            assert summary.n_charts > 20

        return make_once(f"hostile-report-{language}", make) / "report.html"

    return find


@pytest.fixture(scope="session")
def take_apart() -> Callable[[Path], Page]:
    """Return the function that reads a page."""
    return lambda path: Page(path.read_text(encoding="utf-8"))
