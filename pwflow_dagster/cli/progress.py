"""Progress: a bar on a terminal, plain lines in a log.

The core and the runs say what they do by logging. What has steps says so by `job` and `n_steps` on a record, and that
one of them has ended by `is_step_end`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

    from pwflow_core.config import PlantConfig
    from pwflow_dagster.runs import Runner

__all__ = ["shown_progress", "shown_runs"]

_MOST_CHARACTERS = 44


@contextmanager
def shown_progress() -> Iterator[None]:
    """Show what happens inside: as a bar on a terminal, one per run, as the lines that are logged elsewhere."""
    if not sys.stderr.isatty():
        yield
        return
    logger = logging.getLogger("pwflow")
    # Dagster redirects stderr while a step runs; the terminal stays the terminal
    with os.fdopen(os.dup(sys.stderr.fileno()), "w") as terminal:
        bars = _Bars(terminal)
        logger.addHandler(bars)
        logger.propagate = False
        try:
            yield
        finally:
            bars.finish()
            logger.removeHandler(bars)
            logger.propagate = True


@contextmanager
def shown_runs(config: PlantConfig) -> Iterator[Runner]:
    """Return what runs the jobs of a plant, and show their progress.

    Here alone the two ends meet: what runs jobs does not know the definitions, and they do not know who runs them.
    """
    from pwflow_dagster.definitions import build
    from pwflow_dagster.instance import open_instance
    from pwflow_dagster.runs import Runner

    with shown_progress(), open_instance(config) as instance:
        yield Runner(config, instance, build(config).resolve_job_def)


class _Bars(logging.Handler):
    """Draws the bar of the run under way, and prints warnings above it."""

    def __init__(self, terminal: TextIO) -> None:
        super().__init__(logging.INFO)
        self._terminal = terminal
        self._bar: ProgressBar[str] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        n_steps = getattr(record, "n_steps", None)
        if n_steps is not None:
            self.finish()
            self._bar = click.progressbar(
                length=n_steps,
                label=str(getattr(record, "job", message)),
                show_eta=False,
                show_pos=True,
                item_show_func=_shorten,
                file=self._terminal,
                width=24,
            )
            self._bar.render_progress()
        elif self._bar is None:
            click.echo(message, file=self._terminal)
        elif getattr(record, "is_step_end", False):
            self._bar.update(1, message)
        elif record.levelno >= logging.WARNING:
            click.echo(f"\r\033[K{message}", file=self._terminal)
            self._bar.render_progress()
        else:
            self._bar.current_item = message
            self._bar.render_progress()

    def finish(self) -> None:
        """End the bar under way, if there is one."""
        if self._bar is not None:
            self._bar.render_finish()
            click.echo(file=self._terminal)
            self._bar = None


def _shorten(message: str | None) -> str:
    text = message or ""
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"
