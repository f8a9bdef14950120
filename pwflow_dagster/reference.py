"""`python -m pwflow_dagster.reference FOLDER`: write the pages that are made from the code."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pwflow_core.reference import describe_configuration, describe_python, describe_tables, describe_verdicts
from pwflow_dagster.cli import main

__all__ = ["make_reference"]


def make_reference() -> dict[str, str]:
    """Return the pages of the reference by file name."""
    return {
        "configuration.md": describe_configuration(),
        "tables.md": describe_tables(),
        "verdicts.md": describe_verdicts(),
        "commands.md": _describe_commands(),
        "python.md": describe_python(),
    }


def _describe_commands() -> str:
    names = ["-h", "--help"]
    top = click.Context(main, info_name="pwflow", max_content_width=100, terminal_width=100, help_option_names=names)
    lines = ["# Commands", "", "```text", main.get_help(top), "```"]
    for name, command in main.commands.items():
        context = click.Context(command, info_name=name, parent=top, max_content_width=100, terminal_width=100)
        lines += ["", f"## `pwflow {name}`", "", "```text", command.get_help(context), "```"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for file, page in make_reference().items():
        (folder / file).write_text(page, encoding="utf-8")
