from __future__ import annotations

import json
from pathlib import Path

import pytest

from pwflow_core.demo import configuration_in_force, configuration_of_file, demo_config
from pwflow_core.errors import ConfigurationError
from pwflow_core.simulation import SENSORS


def test_the_bundled_configuration_has_the_sensors_of_the_simulated_plant():
    config = demo_config()
    assert {name: (s.unit, s.low, s.high) for name, s in config.sensors.items()} == {
        s.name: (s.unit, s.low, s.high) for s in SENSORS
    }


def test_days_are_remembered_so_that_the_ui_shows_the_same_plant(tmp_path, monkeypatch):
    monkeypatch.setenv("PWFLOW_HOME", str(tmp_path))
    monkeypatch.delenv("PWFLOW_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    demo_config(days=7)
    assert configuration_in_force().source.simulated_days == 7


def test_a_configuration_file_here_is_used_before_the_bundled_plant(tmp_path, monkeypatch):
    monkeypatch.delenv("PWFLOW_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pwflow.toml").write_text('[plant]\nname = "mine"\n[source]\npath = "x.csv"\n')
    assert configuration_in_force().plant.name == "mine"


@pytest.mark.parametrize("read", [configuration_in_force, configuration_of_file])
def test_without_a_file_and_without_a_demo_nobody_gets_the_simulated_plant(tmp_path, monkeypatch, read):
    monkeypatch.delenv("PWFLOW_CONFIG", raising=False)
    monkeypatch.setenv("PWFLOW_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"Expected a pwflow.toml.*`pwflow init.*`pwflow demo`"):
        read()


def test_a_run_never_takes_the_demo_for_the_plant(tmp_path, monkeypatch):
    monkeypatch.delenv("PWFLOW_CONFIG", raising=False)
    monkeypatch.setenv("PWFLOW_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    demo_config(days=1)
    assert configuration_in_force().plant.name == "demo"
    with pytest.raises(ConfigurationError):
        configuration_of_file()


def test_the_demo_runs_to_published_scores_and_remembers_its_days(stem, tmp_path):
    done = stem.command(tmp_path, "demo", "--days", "1", "--json")
    assert done.code == 0, done.errors
    document = json.loads(done.output)
    assert document["result"]["n_readings"] == 3 * 1440
    assert Path(document["published"]).is_relative_to(tmp_path / ".pwflow" / "demo")


@pytest.mark.parametrize("verb", ["run", "status", "check", "ui"])
def test_a_command_without_a_file_and_without_a_demo_says_so(stem, tmp_path, verb):
    done = stem.command(tmp_path, verb)
    assert (done.code, "there is neither" in done.errors) == (1, True), done.errors
    assert not (tmp_path / ".pwflow").exists()
