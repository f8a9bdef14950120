"""The file: where it is, how it is read and validated, and what is said about a key that is wrong."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pwflow_core.config.sections import PlantConfig
from pwflow_core.errors import ConfigurationError

__all__ = ["CONFIG_VARIABLE", "DEFAULT_FILE", "load_config", "locate_config", "parse_config"]

CONFIG_VARIABLE = "PWFLOW_CONFIG"
DEFAULT_FILE = "pwflow.toml"


def locate_config(given: Path | None = None) -> Path | None:
    """Return the configuration file in use, or None where there is none.

    In this order: `given`, the file that PWFLOW_CONFIG names, `pwflow.toml` in the current folder.
    """
    if given is not None:
        return given
    if named := os.environ.get(CONFIG_VARIABLE):
        return Path(named)
    return Path(DEFAULT_FILE) if Path(DEFAULT_FILE).is_file() else None


def load_config(path: Path) -> PlantConfig:
    """Read and validate a `pwflow.toml`.

    Arguments:
        path: The file.

    Raises:
        ConfigurationError: The file is missing or is not TOML, a key is unknown or missing, or a value has
            the wrong type; the message names the key.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no configuration file {path}: run `pwflow init FILE_OR_FOLDER` to write one from your data."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"The configuration file {path} cannot be read ({error}); expected a UTF-8 text file."
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}. Correct that line and run again.") from None
    if "folder" in values:
        raise ConfigurationError(f"{path}: unknown key 'folder'; remove it.")
    return parse_config(values, name=str(path), folder=path.absolute().parent)


def parse_config(values: dict[str, Any], *, name: str, folder: Path) -> PlantConfig:
    """Validate the values of a configuration; see `load_config`."""
    try:
        return PlantConfig.model_validate({**values, "folder": folder})
    except ValidationError as error:
        raise ConfigurationError(_explain(error, name, values)) from None


def _explain(error: ValidationError, name: str, values: dict[str, Any]) -> str:
    sentences = []
    for problem, parts, message in _merge_alternatives(error, values):
        key = ".".join(parts) or "the file"
        if problem["type"] == "extra_forbidden":
            known = _known_keys(parts[:-1])
            sentences.append(f"unknown key '{key}'" + (f" (known here: {', '.join(known)})" if known else ""))
        elif problem["type"] == "missing":
            sentences.append(f"'{key}' is missing")
        else:
            got = "" if problem["type"] == "value_error" else f", got {problem['input']!r}"
            where = f"'{key}': " if parts else ""
            sentences.append(f"{where}{message}{got}")
    return f"{name}: {'; '.join(dict.fromkeys(sentences))}. Correct the file and run again."


def _merge_alternatives(error: ValidationError, values: dict[str, Any]) -> list[tuple[ErrorDetails, list[str], str]]:
    """Return the problems with their keys and messages; what a value is not among alternatives is one problem."""
    problems = [
        (problem, _written_parts(problem["loc"], values), _message(problem["msg"])) for problem in error.errors()
    ]
    merged = []
    for problem, parts, message in problems:
        others = [other for other, where, _ in problems if other is not problem and where[: len(parts)] == parts]
        if problem["type"] == "literal_error" and others:
            continue  # told with the other alternative, or beside the point where an item of a list is wrong
        words = [
            text
            for other, where, text in problems
            if other is not problem and where == parts and other["type"] == "literal_error"
        ]
        first = f"{words[0]} or " if words else ""
        merged.append((problem, parts, first + (message.removeprefix("input should be ") if words else message)))
    return merged


def _message(text: str) -> str:
    text = text.removeprefix("Value error, ").replace("a valid tuple", "a list")
    return text[0].lower() + text[1:]


def _written_parts(location: tuple[int | str, ...], values: object) -> list[str]:
    """Return the keys of a location as the file writes them, without the names that pydantic gives to alternatives."""
    parts = []
    for part in location:
        if isinstance(values, dict):
            parts.append(str(part))
            values = values.get(part)
        elif isinstance(values, list | tuple) and isinstance(part, int):
            parts.append(str(part))
            values = values[part]
    return parts


def _known_keys(section: list[str]) -> list[str]:
    """Return the keys that may be in a section, e.g. ["flow"] or ["sensors", "pressure"]."""
    found: Any = PlantConfig
    for part in section:
        fields = getattr(found, "model_fields", None)
        found = fields[part].annotation if fields and part in fields else next(iter(get_args(found)[1:]), None)
    return [key for key in getattr(found, "model_fields", ()) if key != "folder"]
