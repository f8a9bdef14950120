"""Nothing leaves the machine: a night, a report and a proof of concept open no connection, whatever proxies are set."""

import os
import shutil
import socket
import subprocess
import sys

import pytest

from tests.conftest import plant_readings, put_file
from tests.faults.test_nights import CONFIGURATION
from tests.processes import REPOSITORY

RECORDER = """
import os, sys
def record(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        with open(os.environ["RECORDED"], "a") as file:
            print(event, arguments[1:] if event in ("socket.connect", "socket.sendto") else arguments, file=file)
sys.addaudithook(record)
"""
"""Loaded by every Python process that the command starts, before anything else."""

WITHOUT_NETWORK = ["unshare", "--net", "--map-root-user"]
"""Gives a process no network at all, not even the loopback: also what is not Python can reach nobody then."""


def can_be_cut_off() -> bool:
    return bool(shutil.which("unshare")) and subprocess.run([*WITHOUT_NETWORK, "true"], check=False).returncode == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("offline")
    put_file(folder / "data" / "first.csv", plant_readings(600))
    (folder / "pwflow.toml").write_text(CONFIGURATION.format(wait_seconds=60))
    (folder / "recorder").mkdir()
    (folder / "recorder" / "sitecustomize.py").write_text(RECORDER)
    return folder


def run_recorded(folder, *program: str, proxy: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run a Python program with proxies in its environment; return how it ended, and what it wanted of the network."""
    recorded = folder / "recorded.txt"
    recorded.unlink(missing_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PWFLOW_", "DAGSTER_"))}
    proxies = {name: proxy for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")}
    done = subprocess.run(
        [*(WITHOUT_NETWORK if can_be_cut_off() else []), sys.executable, *program],
        cwd=folder,
        env=environment
        | proxies
        | {"PYTHONPATH": os.pathsep.join([str(folder / "recorder"), str(REPOSITORY)]), "RECORDED": str(recorded)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return done, recorded.read_text().splitlines() if recorded.exists() else []


@pytest.mark.long
def test_a_night_a_report_and_a_proof_of_concept_open_no_connection(folder):
    """Each succeeds where there is no network, asks for no address, and a proxy that listens hears nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for arguments in (["run"], ["run"], ["report"], ["poc", "--regimes", "1,2"], ["status"]):
            done, recorded = run_recorded(folder, "-m", "pwflow_dagster", *arguments, proxy=proxy)
            assert done.returncode == 0, done.stderr
            assert recorded == [], arguments
        with pytest.raises(TimeoutError):
            listener.accept()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_recorder_notices_a_connection(folder, host):
    """So the test above would see one."""
    program = f"import socket; socket.create_connection(({host!r}, 9), timeout=5)"
    done, recorded = run_recorded(folder, "-c", program, proxy="")
    assert done.returncode != 0
    assert any("socket.connect" in line for line in recorded)
    assert any("socket.getaddrinfo" in line for line in recorded)
