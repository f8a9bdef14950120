"""The embedded default: the configuration that runs the bundled simulated plant."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from pwflow_core.config import PlantConfig, load_config, locate_config, parse_config

__all__ = ["DEMO_DAYS", "configuration_in_force", "demo_config"]

DEMO_DAYS = 60
HOME_VARIABLE = "PWFLOW_HOME"
"""Folder of the demo's files; `.pwflow` in the current folder where it is not set."""
_VALUES = Path(__file__).with_name("demo.toml")
_DAYS_FILE = "days"


def demo_config(days: int | None = None) -> PlantConfig:
    """Return the configuration of the bundled simulated plant.

    Arguments:
        days: Days to simulate; those of the last run where it is None, so that Dagster sees the same plant.
    """
    folder = Path(os.environ.get(HOME_VARIABLE, ".pwflow")).absolute() / "demo"
    remembered = folder / _DAYS_FILE
    if days is None:
        days = int(remembered.read_text()) if remembered.is_file() else DEMO_DAYS
    else:
        folder.mkdir(parents=True, exist_ok=True)
        remembered.write_text(f"{days}\n")
    values = tomllib.loads(_VALUES.read_text(encoding="utf-8"))
    values["source"]["simulated_days"] = days
    return parse_config(values, name=_VALUES.name, folder=folder)


def configuration_in_force(given: Path | None = None) -> PlantConfig:
    """Return the configuration of the file in use, or that of the bundled simulated plant.

    Raises:
        ConfigurationError: The file in use is missing or wrong.
    """
    path = locate_config(given)
    return demo_config() if path is None else load_config(path)
