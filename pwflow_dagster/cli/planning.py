"""`pwflow plan`: what a plant of some size will cost."""

from __future__ import annotations

import click

from pwflow_dagster.cli.options import json_option
from pwflow_dagster.cli.printing import echo_json, echo_text

__all__ = ["COMMANDS"]


@click.command()
@click.option("--machines", type=click.IntRange(min=1), required=True, help="Machines of the plant.")
@click.option("--hz", type=click.FloatRange(min=0, min_open=True), required=True, help="Readings a second of each.")
@click.option("--days", type=click.IntRange(min=1), default=365, show_default=True, help="Days of history.")
@click.option("--sensors", type=click.IntRange(min=1), default=8, show_default=True, help="Sensors of a reading.")
@click.option("--keep-days", type=click.IntRange(min=1), help="Days that [retention] keeps. Default: all of them.")
@json_option
def plan(machines: int, hz: float, days: int, sensors: int, keep_days: int | None, as_json: bool) -> None:
    """Say what a plant will cost: CPU, memory, disk.

    From what nights were measured to cost, see docs/scale.md: one DuckDB file, one core.
    """
    from pwflow_core.planning import PlantSize, plan_plant

    found = plan_plant(PlantSize(machines, hz, days, sensors, keep_days))
    if as_json:
        echo_json({"plan": found})
        return
    echo_text(
        f"  readings   {found.readings_a_day:,.0f} a day, {found.readings_kept:,.0f} kept\n"
        f"  a night    {found.cpu_seconds:,.0f} CPU seconds, {found.cpu_seconds_kept:,.0f} of them for what is kept\n"
        f"  memory     {found.memory_bytes / 2**20:,.0f} MiB\n"
        f"  disk       {found.warehouse_bytes / 1e9:,.1f} GB for the warehouse, {found.published_bytes / 1e9:,.1f} GB "
        "for the published file"
    )
    for wall in found.walls or ("One DuckDB file on one machine is enough.",):
        echo_text(wall)


COMMANDS = (plan,)
