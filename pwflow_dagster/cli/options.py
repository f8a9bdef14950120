"""What several commands share: options, who asks, and what a run came to."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from pwflow_core.config import Language

if TYPE_CHECKING:
    from pwflow_dagster.runs import RunOutcome

__all__ = [
    "check_outcome",
    "config_option",
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
