"""CONTRIBUTING.md and docs/architecture.md name files and functions that exist, and all rooms."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[1]
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("CONTRIBUTING.md", "docs/architecture.md")}
ABOVE = (ROOT, ROOT / "pwflow_core", ROOT / "pwflow_core" / "pipeline", ROOT / "pwflow_dagster")
PATH = r"`([\w./-]+(?:/|\.(?:py|sql|toml|md)))`"


def places(path: str) -> list[Path]:
    return [folder / path for folder in ABOVE if (folder / path).exists()]


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_exists(page):
    named = set(re.findall(PATH, PAGES[page])) - {"pwflow.toml", "schema.sql", ".sql"}
    assert len(named) > 15
    assert {path for path in named if not places(path)} == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_function_that_is_named_behind_a_file_is_in_it(page):
    missing = []
    for path, names in re.findall(rf"{PATH}:\s+((?:`\w+`(?:,\s+|\s+and\s+)?)+)", PAGES[page]):
        text = places(path)[0].read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+)`", names):
            if not re.search(rf"^(?:\s*def |class |){name}\b(?:\(|:| =)", text, re.MULTILINE):
                missing.append((path, name))
    assert missing == []


def test_every_room_is_named():
    rooms = {path.name for path in (ROOT / "pwflow_core" / "pipeline").iterdir() if (path / "__init__.py").exists()}
    rooms |= {path.name for path in (ROOT / "pwflow_core").iterdir() if (path / "__init__.py").exists()}
    assert {room for room in rooms if f"`{room}/`" not in PAGES["docs/architecture.md"]} == set()


@pytest.mark.parametrize("page", PAGES)
def test_no_link_is_dead(page):
    targets = re.findall(r"\]\(([^)#]+)", PAGES[page])
    assert [target for target in targets if not (ROOT / page).parent.joinpath(target).exists()] == []
