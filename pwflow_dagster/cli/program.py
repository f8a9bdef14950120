"""`pwflow` itself: its help, its exit codes, and the commands of the other modules."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any

import click

from pwflow_core.errors import PwflowError
from pwflow_core.redaction import SecretsFilter
from pwflow_dagster.cli import (
    checking,
    completing,
    deciding,
    doctor,
    events,
    keeping,
    looking,
    modelling,
    notifying,
    planning,
    plants,
    regimes,
    running,
    watching,
)
from pwflow_dagster.cli.printing import echo_error

__all__ = ["main"]

_SECTIONS = {
    "Run": ("init", "check", "run", "watch", "ui", "demo"),
    "Look": ("status", "cases", "events", "regimes", "doctor", "report", "notify", "sql", "union", "evaluate"),
    "Decide": ("mark", "acknowledge", "shelve", "answer", "dismiss", "approve", "undo", "name", "promote", "rollback"),
    "Models": ("score", "export", "sample", "bench", "poc"),
    "Keep": ("plan", "maintain", "migrate", "completion"),
}
_RESUMED = ("run", "demo")
_INTERRUPTED = 130


class _Sections(click.Group):
    """Lists the commands by what they are for, and shows an error that was raised on purpose as one sentence."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,  # noqa: ANN401 - handed on as it came
    ) -> Any:  # noqa: ANN401 - as the base class has it
        """Run a command; with `--json`, an error is a JSON document in the place of the result."""
        words = list(sys.argv[1:] if args is None else args)
        if not standalone_mode or "--json" not in words:
            return super().main(words, prog_name, complete_var, standalone_mode, **extra)
        try:
            ended = super().main(words, prog_name, complete_var, standalone_mode=False, **extra)
        except click.ClickException as error:
            echo_error(error)
            sys.exit(error.exit_code)
        sys.exit(ended if isinstance(ended, int) else 0)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except PwflowError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            kept = " What was finished is kept: the same command goes on from there."
            click.echo(f"\nInterrupted.{kept if ctx.invoked_subcommand in _RESUMED else ''}", err=True)
            ctx.exit(_INTERRUPTED)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        named = {name for names in _SECTIONS.values() for name in names}
        others = tuple(name for name in self.list_commands(ctx) if name not in named)
        width = max(map(len, self.commands)) + 1
        formatter.write_paragraph()
        for title, names in {**_SECTIONS, "More": others}.items():
            rows = [
                (name.ljust(width), command.get_short_help_str(limit=74 - width))
                for name in names
                if (command := self.commands.get(name)) is not None and not command.deprecated
            ]
            if rows:  # without the empty line that a section begins with: all of them are to fit one screen
                formatter.write_heading(title)
                with formatter.indentation():
                    formatter.write_dl(rows)


@click.group(cls=_Sections, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pwflow")
def main() -> None:
    """Calibrated anomaly scores for machines, one flow per operating regime.

    Your data: `pwflow init FOLDER`, `run`, `ui`. None yet: `pwflow demo`. Exit codes: 0 success, 1 refused or failed,
    2 wrong usage, 130 interrupted.
    """
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("pwflow").setLevel(logging.INFO)
    for handler in logging.getLogger().handlers:
        handler.addFilter(SecretsFilter())


for _module in (
    running,
    checking,
    looking,
    events,
    regimes,
    doctor,
    notifying,
    deciding,
    keeping,
    planning,
    plants,
    modelling,
    completing,
    watching,
):
    for _command in _module.COMMANDS:
        main.add_command(_command)
