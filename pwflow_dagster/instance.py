"""The Dagster instance: where runs, events and partitions of a plant are kept."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg

from pwflow_core.config import PlantConfig
from pwflow_core.errors import ConfigurationError

__all__ = ["HOME_VARIABLE", "open_instance", "prepare_home", "prepare_shared_home"]

HOME_VARIABLE = "DAGSTER_HOME"
_SETTINGS = """# Written once by pwflow; yours to change.
telemetry:
  enabled: false
nux:
  enabled: false
freshness:
  enabled: true
retention:
  schedule:
    purge_after_days: 90
  sensor:
    purge_after_days:
      skipped: 1
      failure: 30
      success: 90
"""


def prepare_home(config: PlantConfig) -> Path:
    """Return the folder of the Dagster instance: DAGSTER_HOME, or `dagster` beside the plant's warehouse."""
    if named := os.environ.get(HOME_VARIABLE):
        return Path(named)
    home = config.warehouse_folder / "dagster"
    _make(home)
    os.environ[HOME_VARIABLE] = str(home)
    return home


def prepare_shared_home() -> Path:
    """Return the folder of the Dagster instance that several plants share: DAGSTER_HOME; it is made if it is missing.

    Raises:
        ConfigurationError: DAGSTER_HOME is not set, or does not begin at the root.
    """
    named = os.environ.get(HOME_VARIABLE, "")
    if not Path(named).is_absolute():
        raise ConfigurationError(
            f"Expected {HOME_VARIABLE} to be the full path of the folder that the plants share, got "
            f"{repr(named) if named else 'none'}: set it, such as {HOME_VARIABLE}={Path.cwd() / 'dagster'}."
        )
    home = Path(named)
    if not home.exists():
        _make(home)
    return home


def _make(home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    settings = home / "dagster.yaml"
    if not settings.exists():
        settings.write_text(_SETTINGS)


def open_instance(config: PlantConfig) -> dg.DagsterInstance:
    """Return the instance of a plant; the same one that `pwflow ui` shows."""
    prepare_home(config)
    return dg.DagsterInstance.get()
