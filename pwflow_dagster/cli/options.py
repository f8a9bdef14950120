"""What several commands share: options, who asks, what a run came to, and JSON."""

from __future__ import annotations

import getpass
import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import date
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from pwflow_core.config import Language

if TYPE_CHECKING:
    from pwflow_dagster.runs import RunOutcome

__all__ = [
    "as_json",
    "check_outcome",
    "config_option",
    "echo_json",
    "json_option",
    "language_option",
    "reason_option",
    "user",
]

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="Configuration file. Default: PWFLOW_CONFIG, then pwflow.toml here, then the demo that was run here.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
language_option = click.option("--language", type=click.Choice(get_args(Language)), default="en", show_default=True)
reason_option = click.option("--reason", default="", help="Why, for the record.")


def echo_json(document: Mapping[str, Any]) -> None:
    """Print a result as JSON, and nothing else: times in ISO 8601 (UTC), what cannot be computed as null."""
    click.echo(json.dumps(as_json(document), indent=2, ensure_ascii=False))


def as_json(value: Any) -> Any:  # noqa: ANN401 - any part of a JSON document
    """Return a value as JSON has it."""
    if is_dataclass(value) and not isinstance(value, type):
        return as_json(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value


def check_outcome(outcome: RunOutcome) -> None:
    """Show the warnings of a run; end with its error if it failed."""
    if outcome.error is not None:
        raise click.ClickException(outcome.error)
    for warning in outcome.warnings:
        click.echo(f"Warning: {warning}", err=True)


def user() -> str:
    """Return who asks."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return "the command line"
