"""What pwflow is made of: every dependency pinned, with a licence that may be shipped."""

import re
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement

from tests.processes import REPOSITORY

FREE = re.compile(
    r"\b(MIT|BSD|Apache|ISC|Python|PSF|MPL|Mozilla|Unlicense|0BSD|Zlib|HPND|Historical|CC0|Public Domain)\b",
    re.IGNORECASE,
)
PERMITTED = {"nvidia": "redistributable with PyTorch"}


def pinned() -> dict[str, str]:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pin) == 2 for pin in pins), "each line pins one version"
    return {_name(name): version for name, version in pins}


def _name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def shipped() -> set[str]:
    """Return the names of everything that installing pwflow installs here, without what only developers need."""
    found, waiting = set(), [Requirement(text) for text in distribution("pwflow").requires or ()]
    while waiting:
        requirement = waiting.pop()
        name = _name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        try:
            needed = distribution(requirement.name).requires or ()
        except PackageNotFoundError:
            continue  # for another platform
        found.add(name)
        waiting += [Requirement(text) for text in needed]
    return found


def test_every_dependency_that_is_shipped_is_pinned():
    missing = {name for name in shipped() if name not in pinned() and not name.startswith(tuple(PERMITTED))}
    assert missing <= {"triton", "setuptools"}, missing  # of PyTorch; pip freeze leaves setuptools out


def test_every_dependency_that_is_shipped_has_a_free_licence():
    wrong = {}
    for name in shipped():
        about = distribution(name).metadata
        said = [about.get("License-Expression") or "", (about.get("License") or "")[:200]]
        said += [line for line in about.get_all("Classifier") or () if line.startswith("License ::")]
        if not FREE.search(" ".join(said)) and not name.startswith(tuple(PERMITTED)):
            wrong[name] = said
    assert wrong == {}
