"""`pwflow watch`: readings are scored while they arrive, until Ctrl-C."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pwflow_core.demo import configuration_in_force
from pwflow_dagster.cli.options import config_option, json_option
from pwflow_dagster.cli.printing import echo_json, echo_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pwflow_core.watching.arriving import Source
    from pwflow_core.watching.night import Night
    from pwflow_core.watching.service import Watch

__all__ = ["COMMANDS"]

_QUIET = ("pwflow.events", "pwflow.cases", "pwflow.export")
"""What the steps of the nightly job say, which the watch takes again and again."""


@click.command()
@click.option("--stdin", "from_stdin", is_flag=True, help="Read lines from standard input until it ends.")
@click.option("--csv", "is_csv", is_flag=True, help="These lines are CSV with a header, not JSON objects.")
@click.option("--once", is_flag=True, help="Score what has arrived and end, instead of waiting for more.")
@config_option
@json_option
def watch(from_stdin: bool, is_csv: bool, once: bool, config_file: Path | None, as_json: bool) -> None:
    """Score readings while they arrive, between two runs.

    Follows what [watch] in pwflow.toml names, the files of source.path, or lines on standard input. Scores within
    seconds are in the file beside the published tables: `pwflow sql "FROM mart.live_events"`. The next run replaces
    them, and its models are taken up without a pause. Ctrl-C ends it; the next start goes on from there.
    """
    from pwflow_core.plant import Plant
    from pwflow_core.watching.folder import Folder
    from pwflow_core.watching.mqtt import Broker
    from pwflow_core.watching.service import Watch
    from pwflow_core.watching.standard_input import StandardInput

    if is_csv and not from_stdin:
        raise click.UsageError("--csv goes with --stdin: files say themselves what they are.")
    config = configuration_in_force(config_file)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)

    def open_source(night: Night, positions: Callable[[str], Mapping[str, str]]) -> Source:
        if from_stdin:
            return StandardInput(sys.stdin.buffer, is_csv=is_csv)
        if config.watch.is_mqtt:
            return Broker(config, positions(Broker.name))
        return Folder(config, positions(Folder.name), night.files)

    made = Watch(Plant.open(config), open_source, once=once)
    _stop_on_signals(made)
    counts = made.run()
    if as_json:
        echo_json({"watched": made.describe()})
    else:
        echo_text(str(counts))


COMMANDS = (watch,)


def _stop_on_signals(watch: Watch) -> None:
    """End after the batch at work on Ctrl-C and when the system asks; a second Ctrl-C interrupts."""

    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        watch.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
