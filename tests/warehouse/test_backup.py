"""The commands of `docs/how-to/warehouse.md` that back up and restore, on each backend."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import open_plant, query
from tests.warehouse.conftest import SERVERS, needs_lake, needs_postgres
from tests.warehouse.test_lake import SLICE, replace

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "warehouse.md"
SCRIPTS = re.findall(r"```bash\n(.*?)```", PAGE.read_text().split("## Back up and restore")[1], re.DOTALL)
BACKENDS = [
    "file",
    pytest.param("lake", marks=needs_lake),
    pytest.param("postgres", marks=[needs_lake, needs_postgres]),
]
FIRST, LATER = [("c0001", 20_000, 1)], [("c0001", 20_000, 1), ("c0002", 20_000, 1)]

pytestmark = pytest.mark.skipif(shutil.which("flock") is None, reason="needs flock of util-linux")


def run_script(folder: Path, script: str, variables: dict[str, str]) -> None:
    path = os.pathsep.join([*(str(server) for server in reversed(SERVERS)), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_backed_up_while_others_write_is_there_again_after_all_was_lost(tmp_path, backend, request):
    number = ["file", "lake", "postgres"].index(backend)
    backing_up, restoring = SCRIPTS[number], SCRIPTS[3 + number]
    folder, variables = tmp_path / "plant", {"BACKUP": str(tmp_path / "backup"), "DATA": str(tmp_path / "data")}
    section = {"url": "duckdb:///.pwflow/warehouse.duckdb"}
    if backend == "lake":
        section = {"url": "ducklake:///.pwflow/lake"}
    elif backend == "postgres":
        server = request.getfixturevalue("postgres")
        section = {"url": server.url("press_shop"), "data": variables["DATA"]}
        variables["DATABASE"] = f"postgresql://pwflow@127.0.0.1:{server.port}/postgres"
    (folder / ".pwflow" / "models").mkdir(parents=True)
    (folder / "pwflow.toml").write_text("")
    plant = open_plant(folder, {"source": {"path": "data/*"}, "warehouse": section})
    replace(plant, "c0001", "first")
    (folder / ".pwflow" / "models" / "kept").write_text("")

    run_script(folder, backing_up, variables)
    replace(plant, "c0002", "second")
    assert query(plant, SLICE) == LATER
    commit = plant.warehouse.last_commit_number()

    if backend == "postgres":
        shutil.rmtree(variables["DATA"])
    for path in (folder / ".pwflow").glob("[lw]*"):
        if path.suffix != ".ledger":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    run_script(folder, restoring, variables)

    assert query(plant, SLICE) == FIRST
    assert plant.warehouse.last_commit_number() < commit
    replace(plant, "c0002", "third")
    assert query(plant, SLICE) == LATER
    assert query(plant, "SELECT what FROM core.recoveries") == []


@needs_lake
def test_a_lake_whose_folder_was_moved_is_opened_where_it_is(tmp_path):
    changes = {"source": {"path": "data/*"}, "warehouse": {"url": "ducklake:///.pwflow/lake"}}
    (tmp_path / "here").mkdir()
    replace(open_plant(tmp_path / "here", changes), "c0001", "first")
    (tmp_path / "here").rename(tmp_path / "there")
    plant = open_plant(tmp_path / "there", changes)
    assert query(plant, SLICE) == FIRST
    replace(plant, "c0002", "second")
    assert query(plant, SLICE) == LATER
    assert list((tmp_path / "there" / ".pwflow" / "lake" / "data").rglob("cluster_key=c0002/*.parquet"))
