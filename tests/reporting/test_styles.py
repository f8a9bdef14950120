"""The styles of the report: a class that a cell has is one that its rules know."""

from __future__ import annotations

import re

import pytest

from tests.processes import REPOSITORY

pytestmark = pytest.mark.quick
TEMPLATES = REPOSITORY / "pwflow_core" / "reporting" / "templates"
POC = REPOSITORY / "pwflow_core" / "poc" / "templates"


def test_every_class_of_a_cell_has_a_rule_for_that_cell():
    pages = "".join(page.read_text() for folder in (TEMPLATES, POC) for page in folder.glob("*.html"))
    rules = (TEMPLATES / "report.css").read_text() + "".join(page.read_text() for page in POC.glob("*.css"))
    used = {
        (cell, name) for cell, names in re.findall(r'<(t[hd])\b[^>]* class="([\w ]+)"', pages) for name in names.split()
    }
    assert ("th", "nowrap") in used
    lacking = [
        f"{cell}.{name}" for cell, name in used if not re.search(rf"(?<![\w-])({cell})?\.{name}(?![\w-])", rules)
    ]
    assert lacking == []
