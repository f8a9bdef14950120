"""`pwflow notify`: tell what is due, see how far that has come, and try the targets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pwflow_core.demo import configuration_in_force
from pwflow_core.errors import count
from pwflow_dagster.cli.options import config_option, json_option
from pwflow_dagster.cli.printing import echo_json

if TYPE_CHECKING:
    from pwflow_core.notifying.outbox import TargetState

__all__ = ["COMMANDS"]


@click.command()
@click.argument("names", metavar="[TARGET]...", nargs=-1)
@click.option("--test", "is_test", is_flag=True, help="Send a test message now, to all targets or to those named.")
@config_option
@json_option
@click.pass_context
def notify(
    context: click.Context, names: tuple[str, ...], is_test: bool, config_file: Path | None, as_json: bool
) -> None:
    """Tell the targets of [notify] what is due; show what is left.

    Each run does this by itself, and `pwflow ui` tries again what did not arrive. Without `pwflow ui`, have cron call
    this command every few minutes. It exits with 1 if a target did not take its message.
    """
    from pwflow_core.notifying.delivering import check_targets, tell, try_targets
    from pwflow_core.notifying.outbox import Outbox
    from pwflow_core.plant import Plant

    config = configuration_in_force(config_file)
    chosen = check_targets(config, names)
    if is_test:
        outcomes = try_targets(config, chosen)
        if as_json:
            echo_json({"tested": outcomes})
        else:
            for name, error in outcomes.items():
                click.echo(f"{name}: {'the test was sent' if error is None else error}")
        context.exit(1 if any(outcomes.values()) else 0)
    told = tell(Plant.open(config))
    states = Outbox(config.outbox_path).states(chosen)
    if as_json:
        echo_json({"told": told, "targets": states})
    else:
        for state in states:
            click.echo(_describe(state))
    context.exit(1 if any(name in told.errors for name in chosen) else 0)


COMMANDS = (notify,)


def _describe(state: TargetState) -> str:
    last = "" if state.last_sent_at is None else f", the last at {state.last_sent_at:%Y-%m-%d %H:%M} UTC"
    parts = [f"{state.n_sent:,} sent{last}"]
    if state.n_waiting:
        parts.append(f"{state.n_waiting:,} to be sent again")
    if state.n_queued:
        parts.append(f"{count(state.n_queued, 'notice')} held back by quiet hours or most_per_hour")
    if state.n_given_up:
        parts.append(f"{state.n_given_up:,} given up after 7 days")
    error = "" if state.last_error is None else f"\n  {state.last_error}"
    return f"{state.target}: {'; '.join(parts)}{error}"
