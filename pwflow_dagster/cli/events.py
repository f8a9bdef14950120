"""`pwflow events`: the events, by machine, time and regime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pwflow_core.demo import configuration_in_force
from pwflow_core.errors import count
from pwflow_dagster.cli.cases import local_time
from pwflow_dagster.cli.options import config_option, json_option
from pwflow_dagster.cli.printing import echo_json, echo_text

if TYPE_CHECKING:
    from pwflow_core.pipeline.looking.listing import EventList

__all__ = ["COMMANDS"]


@click.command()
@click.argument("event", required=False)
@click.option("--machine", help="Of this machine only.")
@click.option("--regime", help="In this regime only: its key or its name.")
@click.option("--since", metavar="TIME", help="Still going on at this day or time, or later, such as 2026-03-14.")
@click.option("--until", metavar="TIME", help="Begun before this day or time.")
@click.option("--most", type=click.IntRange(1), default=20, show_default=True, help="Most events to list.")
@config_option
@json_option
def events(
    event: str | None,
    machine: str | None,
    regime: str | None,
    since: str | None,
    until: str | None,
    most: int,
    config_file: Path | None,
    as_json: bool,
) -> None:
    """List the events, the latest first, or show one EVENT: its id, or the first digits of it.

    Times are local times of the plant, those of --json have their zone. `pwflow cases` puts events of one cause
    together.
    """
    from pwflow_core.pipeline.cases.labels import read_until
    from pwflow_core.pipeline.looking.listing import list_events
    from pwflow_core.plant import Plant

    config = configuration_in_force(config_file)
    zone = config.schedule.timezone
    found = list_events(
        Plant.open(config),
        event=event,
        machine=machine,
        regime=regime,
        since=None if since is None else read_until(since, zone),
        until=None if until is None else read_until(until, zone),
        most=most,
    )
    if as_json:
        echo_json({"plant": config.plant.name, "n_events": found.n_events, "events": found.events})
    else:
        echo_text("\n".join(_describe(found, zone)))


COMMANDS = (events,)


def _describe(found: EventList, zone: str) -> list[str]:
    from pwflow_core.pipeline.regimes.naming import label_regime

    shown = f", the latest {len(found.events)}" if len(found.events) < found.n_events else ""
    lines = [f"{count(found.n_events, 'event')}{shown}; times in {zone}"]
    for event in found.events:
        regime = label_regime(event.cluster_key, event.regime_name) or "no regime"
        anomalies = count(event.n_readings, "anomaly", "anomalies")
        case = f", case {event.case_id}" if event.case_id else ""
        lines.append(
            f"  {event.event_id}  {local_time(event.started_at, zone)}  {event.machine_id}, {regime}, "
            f"score {event.peak_score:.1f}, {anomalies}{case}"
        )
        lines.append(f"      {event.summary}")
    return lines
