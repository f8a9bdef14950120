"""Names from data that try to be something else: they are text, everywhere, and break nothing."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from pwflow_core.reporting.names import clean_name, shorten_name
from tests.conftest import query
from tests.reporting.conftest import ENGLISH_FIRST, HOSTILE, HOSTILE_MACHINE, HOSTILE_RECIPE


@pytest.fixture(scope="module", params=ENGLISH_FIRST)
def page(request, hostile_report, take_apart):
    return take_apart(hostile_report(request.param))


def test_no_name_becomes_an_element_or_an_attribute(page):
    assert {tag for tag, _ in page.elements} & {"img", "b", "iframe", "object", "foreignobject"} == set()
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", page.source, re.DOTALL)
    assert [tag for tag, _ in page.elements].count("script") == len(scripts) == 1, "that of the search"
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'\">" in page.source, "and no other one would be run"
    names = {name for _, attributes in page.elements for name in attributes}
    assert not {name for name in names if name.startswith("on")}
    assert all(
        value.startswith(("#", "data:")) for name in ("href", "xlink:href", "src") for value in page.attributes(name)
    )
    assert page.open_elements == []


@pytest.mark.parametrize("name", [*HOSTILE, HOSTILE_MACHINE, HOSTILE_RECIPE], ids=lambda name: name[:20])
def test_every_name_can_be_read_in_full_as_text_or_tooltip(page, name):
    shown = page.text + "\n".join(page.attributes("title"))
    assert name in shown


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: name[:20])
def test_a_long_sensor_name_is_shortened_in_tables_and_charts(page, name):
    assert page.text.count(shorten_name(name, 28)) > 1


def test_every_unit_stands_on_its_axis_as_text(page):
    for sensor in HOSTILE.values():
        assert f"({shorten_name(sensor['unit'], 14)})" in page.text


def test_templates_and_formulas_in_names_are_not_evaluated(page):
    assert "{{ 7 * 7 }}" in page.text
    assert "$x_1^2$" in page.text


def test_a_name_that_looks_like_sql_left_every_table_in_place(hostile_plant):
    assert query(hostile_plant, "SELECT count(*) FROM mart.clusters WHERE status = 'active'") == [(1,)]


@pytest.mark.parametrize("name", ["", "a", "x" * 500, "a\x00b\x1b[0m", "\ud800", "\u202e", "\uffff"])
@pytest.mark.parametrize("most", [4, 28, 400])
def test_a_shortened_name_is_short_and_holds_nothing_that_a_page_may_not(name, most):
    short = shorten_name(name, most)
    assert len(short) <= most
    assert len(short) == min(len(name), most)
    short.encode("utf-8")
    assert not set(clean_name(name)) & set("\x00\x1b\ud800\uffff")
