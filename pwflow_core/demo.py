"""The embedded default: the configuration that runs the bundled simulated plant."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from pwflow_core.config import PlantConfig, load_config, locate_config, parse_config
from pwflow_core.errors import ConfigurationError

__all__ = ["DEMO_DAYS", "configuration_in_force", "configuration_of_file", "demo_config"]

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
    folder = _demo_folder()
    remembered = folder / _DAYS_FILE
    if days is None:
        days = int(remembered.read_text()) if remembered.is_file() else DEMO_DAYS
    else:
        folder.mkdir(parents=True, exist_ok=True)
        remembered.write_text(f"{days}\n")
    values = tomllib.loads(_VALUES.read_text(encoding="utf-8"))
    values["source"]["simulated_days"] = days
    return parse_config(values, name=_VALUES.name, folder=folder)


def configuration_of_file(given: Path | None = None) -> PlantConfig:
    """Return the configuration of the file in use; never that of the simulated plant.

    Raises:
        ConfigurationError: There is none, or it is wrong.
    """
    path = locate_config(given)
    if path is None:
        raise ConfigurationError(
            "Expected a pwflow.toml in this folder, or PWFLOW_CONFIG to name one, there is neither: `pwflow init "
            "FILE_OR_FOLDER` writes one from your data; `pwflow demo` runs a simulated plant."
        )
    return load_config(path)


def configuration_in_force(given: Path | None = None, *, or_demo: bool = False) -> PlantConfig:
    """Return the configuration of the file in use, or else of the demo that was run in this folder.

    Arguments:
        given: The file.
        or_demo: Whether it may be a demo that was not run yet.

    Raises:
        ConfigurationError: There is neither, or the file is wrong.
    """
    if locate_config(given) is None and (or_demo or _demo_folder().is_dir()):
        return demo_config()
    return configuration_of_file(given)


def _demo_folder() -> Path:
    return Path(os.environ.get(HOME_VARIABLE, ".pwflow")).absolute() / "demo"
