"""The plants of a Dagster: the code locations of a `workspace.yaml`, each with its configuration.

A location is a file or a module with the definitions of one plant, as `build` of `definitions` returns them.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import yaml

from pwflow_core.config import PlantConfig
from pwflow_core.errors import ConfigurationError
from pwflow_dagster.resources import PlantResource

__all__ = ["read_plants"]

WORKSPACE = Path("workspace.yaml")
"""Where Dagster looks for it: in the current folder."""

_NAMED_BY = {"python_file": "relative_path", "python_module": "module_name"}
"""Kinds of location that are read, each with the key that names it."""


def read_plants(workspace: Path = WORKSPACE) -> dict[str, PlantConfig]:
    """Return the configuration of each plant, by the name of the plant, in the order of the locations.

    Raises:
        ConfigurationError: The file is missing or cannot be read, a location cannot be loaded or has no plant of
            pwflow, or two have the same name.
    """
    plants: dict[str, PlantConfig] = {}
    for location, values in _locations(workspace):
        config = _config_of(_load(workspace.parent, location, values), workspace, values)
        if config.plant.name in plants:
            raise ConfigurationError(
                f"Two locations of {workspace} have a plant called {config.plant.name!r}: give each a plant.name of "
                "its own, for Dagster tells its assets by that."
            )
        plants[config.plant.name] = config
    return plants


def _locations(workspace: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        document = yaml.safe_load(workspace.read_text(encoding="utf-8"))
        entries = [entry for entry in document["load_from"] if isinstance(entry, Mapping)]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"Expected {workspace} to list code locations below load_from, as Dagster reads it, got "
            f"{type(error).__name__}: name the file with --workspace; docs/how-to/server.md has one with two plants."
        ) from None
    for entry in entries:
        for kind, given in entry.items():
            values = (
                {"module_name" if kind == "python_module" else "relative_path": given}
                if isinstance(given, str)
                else given
            )
            if kind in ("python_file", "python_module"):
                yield kind, values


def _load(folder: Path, kind: str, values: Mapping[str, Any]) -> ModuleType:
    try:
        if kind == "python_module":
            return importlib.import_module(values["module_name"])
        path = (folder / values["relative_path"]).resolve()
        spec = importlib.util.spec_from_file_location(f"pwflow_location_{path.stem}", path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except (ImportError, OSError, KeyError) as error:
        named = values.get("relative_path") or values.get("module_name")
        raise ConfigurationError(
            f"The code location {named} cannot be loaded: {error}. Correct workspace.yaml."
        ) from error
    return module


def _config_of(module: ModuleType, workspace: Path, values: Mapping[str, Any]) -> PlantConfig:
    found = getattr(module, values.get("attribute") or "defs", None)
    plant = found.resources.get("plant") if isinstance(found, dg.Definitions) and found.resources else None
    if not isinstance(plant, PlantResource):
        raise ConfigurationError(
            f"Expected definitions of a pwflow plant as `defs` in {module.__file__}, named by {workspace}, got none: "
            "make them with pwflow_dagster.definitions.build."
        )
    return plant.config
