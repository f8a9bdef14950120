"""The embedded default: the configuration that runs the bundled simulated plant."""

from __future__ import annotations

import os
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

from pwflow_core.config import PlantConfig, load_config, locate_config, parse_config

__all__ = ["DEMO_DAYS", "configuration_in_force", "demo_config"]

DEMO_DAYS = 60
HOME_VARIABLE = "PWFLOW_HOME"
"""Folder of the demo's files; `.pwflow` in the current folder where it is not set."""
_LEARN_DAYS = 21
"""The models learn from the first three weeks; what happens later has to stand out against them."""
_DAYS_FILE = "days"


def demo_config(days: int | None = None) -> PlantConfig:
    """Return the configuration of the bundled simulated plant.

    Arguments:
        days: Days to simulate; those of the last run where it is None, so that Dagster sees the same plant.
    """
    from pwflow_core.simulation.plant import DEFAULT_START
    from pwflow_core.simulation.sensors import SENSORS

    folder = Path(os.environ.get(HOME_VARIABLE, ".pwflow")).absolute() / "demo"
    remembered = folder / _DAYS_FILE
    if days is None:
        days = int(remembered.read_text()) if remembered.is_file() else DEMO_DAYS
    else:
        folder.mkdir(parents=True, exist_ok=True)
        remembered.write_text(f"{days}\n")
    first_unlearned = DEFAULT_START + timedelta(days=_LEARN_DAYS)
    values = {
        "plant": {"name": "demo"},
        "source": {
            "simulated_days": days,
            "timestamp": "timestamp",
            "machine": "machine",
            "segments": ["recipe"],
        },
        "training": {"until": datetime.combine(first_unlearned, time(), UTC)},
        "sensors": {s.name: {"unit": s.unit, "low": s.low, "high": s.high} for s in SENSORS},
        "warehouse": {"url": "duckdb:///warehouse.duckdb", "published": "published.duckdb"},
        "models": {"url": "models"},
    }
    return parse_config(values, name="the bundled simulated plant", folder=folder)


def configuration_in_force(given: Path | None = None) -> PlantConfig:
    """Return the configuration of the file in force, or that of the bundled simulated plant.

    Raises:
        ConfigurationError: The file in force is missing or wrong.
    """
    path = locate_config(given)
    return demo_config() if path is None else load_config(path)
