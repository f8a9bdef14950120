"""A process that is killed anywhere between raising and sending: everything is told, once by its id."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from tests.notifying.conftest import record, verdict
from tests.processes import REPOSITORY


@pytest.mark.parametrize("n_things", [1, pytest.param(2, marks=pytest.mark.long)])
def test_whatever_the_point_of_a_kill_each_thing_is_told_once_by_its_id(make_notified, receiver, tmp_path, n_things):
    plant = make_notified(warehouse={"url": "duckdb:///template/warehouse.duckdb"})
    names = {"1", "2"} if n_things == 2 else {"1"}
    record(plant, *map(verdict, sorted(names)))
    (tmp_path / "template/config.json").write_text(
        (tmp_path / "config.json").read_text().replace("template/warehouse", "warehouse")
    )
    done = subprocess.run(
        [sys.executable, "-m", "tests.notifying.dying", str(tmp_path / "template")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    points = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert Counter(points.values()) == {
        "before a change of the outbox": 1 + 3 * n_things,
        "after a change of the outbox": 1 + 3 * n_things,
        "before a message leaves": n_things,
        "after a message has left": n_things,
    }

    told: dict[str, Counter[str]] = {}
    bodies: dict[str, set[bytes]] = {}
    for (headers, body), document in zip(receiver.got, receiver.documents, strict=True):
        told.setdefault(document["plant"], Counter())[headers["idempotency-key"]] += 1
        bodies.setdefault(headers["idempotency-key"], set()).add(body)
    for name, point in points.items():
        assert {key.removeprefix(f"{name}.").split(".")[0] for key in told[name]} == names, point
        assert len(told[name]) == n_things, "each message has one id"
    repeated = [point for name, point in points.items() if told[name].total() > n_things]
    assert sorted(repeated) == ["after a message has left"] * n_things + ["before a change of the outbox"] * n_things, (
        "only what left without that being recorded leaves again"
    )
    assert all(len(of_id) == 1 for of_id in bodies.values()), "a repetition is the same message"
