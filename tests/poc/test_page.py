"""The page: in both languages, in a browser, whatever sensors are called."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pwflow_core.errors import ConfigurationError
from pwflow_core.poc.page import poc_path, write_page
from pwflow_core.poc.proving import prove_plant
from pwflow_core.poc.sentences import title_of, words
from pwflow_core.reporting import LANGUAGES
from tests.conftest import CHROMIUM
from tests.poc.conftest import make_case, measure_here
from tests.reporting.conftest import HOSTILE, Page


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 1)) + 0.3 * rng.normal(size=(4000, len(HOSTILE)))
    plant = make_case(tmp_path_factory.mktemp("hostile"), X, list(HOSTILE), sensors=HOSTILE)
    return prove_plant(plant, regimes=[1, 2], rivals=["gmm", "knn"], max_steps=50, run=measure_here)


@pytest.fixture(scope="module", params=LANGUAGES)
def written(request, hostile, tmp_path_factory):
    target = tmp_path_factory.mktemp("page") / "poc.html"
    assert write_page(hostile, target, request.param) == target.stat().st_size
    return target


def test_hostile_names_are_text(written):
    page = Page(written.read_text(encoding="utf-8"))
    assert {tag for tag, _ in page.elements} & {"script", "img", "b", "iframe", "object", "foreignobject"} == set()
    assert not {name for _, attributes in page.elements for name in attributes if name.startswith("on")}
    assert page.open_elements == []
    shown = page.text + "\n".join(page.attributes("title"))
    for name in HOSTILE:
        assert name in shown


def test_every_model_and_every_section_is_there(written, hostile):
    source = written.read_text(encoding="utf-8")
    page = Page(source)
    texts = words("ja" if '<html lang="ja">' in source else "en")
    for result in hostile.results:
        assert page.text.count(title_of(result.key, texts)) >= 4
    assert {"verdict", "density", "detection", "costs", "method"} <= set(page.attributes("id"))
    assert source.count("<svg ") == 2 * 7  # seven charts, each for wide and for narrow screens


@pytest.mark.parametrize("case", ["three modes", "200 rows"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_whatever_is_recommended_has_a_page(case, language, compare, tmp_path):
    _, found = compare(case)
    write_page(found, tmp_path / "poc.html", language)
    text = Page((tmp_path / "poc.html").read_text(encoding="utf-8")).text
    assert "`" not in text
    assert ("EUR" in text) == (case == "three modes")
    assert not re.search(r"\b1e\d", text), "a power of ten beside an axis"
    assert "None" not in text
    assert "nan" not in text


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
@pytest.mark.parametrize("width", [pytest.param(1280, marks=pytest.mark.long), 390])
def test_the_page_opens_without_an_error_a_request_or_a_sideways_scroll(written, width):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(written.as_uri())
        assert said == []
        assert [url for url in asked if not url.startswith("data:")] == [written.as_uri()]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        links = page.evaluate("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
        assert len(links) >= 6
        assert page.evaluate("links => links.every(link => document.getElementById(link.slice(1)))", links)
        browser.close()


def test_the_page_lies_beside_the_published_tables_and_an_unknown_language_is_refused(compare, tmp_path):
    plant, found = compare("200 rows")
    assert poc_path(plant.config, "ja") == plant.config.published_path.with_name("plant-poc-ja.html")
    with pytest.raises(ConfigurationError, match="en, ja"):
        write_page(found, tmp_path / "poc.html", "tlh")
