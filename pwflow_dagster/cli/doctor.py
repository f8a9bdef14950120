"""`pwflow doctor`: whether all that a plant needs is well, and what to do about what is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pwflow_core.config import PlantConfig
from pwflow_core.demo import configuration_in_force
from pwflow_dagster.cli.options import config_option, json_option
from pwflow_dagster.cli.printing import echo_json, echo_text

if TYPE_CHECKING:
    from pwflow_core.pipeline.looking.findings import Finding

__all__ = ["COMMANDS"]


@click.command()
@config_option
@json_option
@click.pass_context
def doctor(context: click.Context, config_file: Path | None, as_json: bool) -> None:
    """Say what is wrong with the plant, and what to do.

    Schedule and daemon, the last run, room on the disk, data that stopped, regimes that see too little, verdicts that
    wait, messages that do not arrive. It exits with 1 if anything has to be done.
    """
    config = configuration_in_force(config_file)
    found = list(_examine(config))
    n_wrong = sum(not finding.is_well for finding in found)
    if as_json:
        echo_json({"plant": config.plant.name, "is_well": not n_wrong, "findings": found})
    else:
        echo_text("\n".join(_describe(config, found, n_wrong)))
    context.exit(1 if n_wrong else 0)


COMMANDS = (doctor,)


def _examine(config: PlantConfig) -> Iterator[Finding]:
    from pwflow_core.errors import PwflowError
    from pwflow_core.pipeline.looking.findings import Finding, examine_disk, examine_warehouse
    from pwflow_core.plant import Plant
    from pwflow_core.warehouse import utc_now
    from pwflow_dagster.instance import open_instance
    from pwflow_dagster.run_records import examine_runs

    with open_instance(config) as instance:
        yield from (Finding(*facts) for facts in examine_runs(instance, config))
    yield examine_disk(config)
    try:
        yield from examine_warehouse(Plant.open(config), now=utc_now())
    except PwflowError as error:
        yield Finding("warehouse", False, str(error), "see the message")
    yield from _examine_messages(config)


def _examine_messages(config: PlantConfig) -> Iterator[Finding]:
    from pwflow_core.notifying.outbox import Outbox
    from pwflow_core.pipeline.looking.findings import Finding

    if not config.notify.targets:
        yield Finding("messages", True, "nobody is told: pwflow.toml has no [notify.targets.NAME]")
        return
    for state in Outbox(config.outbox_path).states(list(config.notify.targets)):
        is_stuck = bool(state.n_waiting and state.last_error)
        sentence = f"{state.target}: {state.n_sent:,} sent, {state.n_waiting:,} wait, {state.n_given_up:,} given up"
        if state.last_error and (is_stuck or state.n_given_up):
            sentence += f"; the last error: {state.last_error}"
        step = (
            f"correct [notify.targets.{state.target}], then `pwflow notify --test {state.target}`" if is_stuck else ""
        )
        yield Finding("messages", not is_stuck, sentence, step)


def _describe(config: PlantConfig, found: list[Finding], n_wrong: int) -> list[str]:
    width = max(len(finding.about) for finding in found)
    lines = [f"Plant {config.plant.name}: {'all is well' if not n_wrong else f'{n_wrong} to look at'}"]
    for finding in sorted(found, key=lambda finding: finding.is_well):
        mark = "ok   " if finding.is_well else "WRONG"
        lines.append(f"  {mark}  {finding.about:{width}}  {finding.sentence}")
        if finding.next_step and not finding.is_well:
            lines.append(f"      next: {finding.next_step}")
    return lines
