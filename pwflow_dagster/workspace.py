"""The plants of a Dagster: the code locations of a `workspace.yaml`, each with its configuration.

A location is a file or a module with the definitions of one plant, as `build` of `definitions` returns them.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import yaml

from pwflow_core.config import PlantConfig
from pwflow_core.errors import ConfigurationError, PwflowError
from pwflow_dagster.resources import PlantResource

__all__ = ["WORKSPACE", "PlantLocation", "read_plants"]

WORKSPACE = Path("workspace.yaml")
"""Where Dagster looks for it: in the current folder."""

_NAMED_BY = {"python_file": "relative_path", "python_module": "module_name"}
"""Kinds of location that are read, each with the key that names it."""


@dataclass(frozen=True)
class PlantLocation:
    """A code location, and the plant that it loads.

    Attributes:
        name: Name of the plant; of the location if it cannot be loaded.
        config: The configuration of the plant; None if it cannot be loaded.
        error: Why not, as a sentence; None if it can.
    """

    name: str
    config: PlantConfig | None = None
    error: str | None = None


def read_plants(workspace: Path = WORKSPACE) -> list[PlantLocation]:
    """Return the plants of a workspace in the order of its locations, also those that cannot be loaded.

    Raises:
        ConfigurationError: The file is missing, cannot be read, or lists no location.
    """
    plants: list[PlantLocation] = []
    for kind, values in _locations(workspace):
        named = values.get("location_name") or values.get(_NAMED_BY.get(kind, "")) or kind
        try:
            config = _config_of(_load(workspace.parent, kind, values), workspace, values)
        except ConfigurationError as error:
            plants.append(PlantLocation(str(named), error=str(error)))
            continue
        name = config.plant.name
        if any(plant.name == name and plant.config is not None for plant in plants):
            twice = (
                f"Another location of {workspace} has a plant called {name!r} too: give each a plant.name of its own, "
                "for Dagster tells its assets by that."
            )
            plants.append(PlantLocation(str(named), error=twice))
        else:
            plants.append(PlantLocation(name, config))
    return plants


def _locations(workspace: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the kind of each location and its keys; one that is a text names the location."""
    step = "name the file with --workspace; docs/how-to/several-plants.md has one with two plants."
    expected = f"Expected {workspace} to list code locations below load_from, as Dagster reads it, got"
    try:
        document = yaml.safe_load(workspace.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{expected} {type(error).__name__}: {step}") from None
    entries = document.get("load_from") if isinstance(document, Mapping) else None
    if not isinstance(entries, list) or not entries:
        raise ConfigurationError(f"{expected} none: {step}")
    for entry in entries:
        for kind, given in entry.items() if isinstance(entry, Mapping) else [(str(entry), None)]:
            yield kind, given if isinstance(given, Mapping) else {_NAMED_BY.get(kind, "location_name"): given}


def _load(folder: Path, kind: str, values: Mapping[str, Any]) -> ModuleType:
    """Return the module of a location.

    Raises:
        ConfigurationError: It cannot be loaded, whatever goes wrong in it.
    """
    if kind not in _NAMED_BY:
        raise ConfigurationError(f"Expected a location of kind {' or '.join(_NAMED_BY)}, got {kind!r}.")
    named = values.get(_NAMED_BY[kind])
    try:
        if kind == "python_module":
            return importlib.import_module(str(named))
        path = (folder / str(named)).resolve()
        spec = importlib.util.spec_from_file_location(f"pwflow_location_{path.stem}", path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except PwflowError as error:
        raise ConfigurationError(str(error)) from error
    except Exception as error:
        raise ConfigurationError(
            f"The code location {named} cannot be loaded: {type(error).__name__}: {error}. Correct it, or its entry in "
            "workspace.yaml."
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
