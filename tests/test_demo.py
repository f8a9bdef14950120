from __future__ import annotations

from pwflow_core.demo import configuration_in_force, demo_config
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
