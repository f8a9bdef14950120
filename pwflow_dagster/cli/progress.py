"""Progress: a bar on a terminal, plain lines in a log.

The core and the runs say what they do by logging. A run says how many steps it has, and each step that it has ended.
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

__all__ = ["shown_progress"]

_MOST_CHARACTERS = 44


@contextmanager
def shown_progress() -> Iterator[None]:
    """Show what the runs inside do: as a bar per run on a terminal, as the lines that are logged elsewhere."""
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
