"""The plants of one Dagster: `pwflow status --all`, a few lines for each, and `pwflow union`, one view of all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pwflow_core.errors import count
from pwflow_dagster.cli.cases import local_time
from pwflow_dagster.cli.options import json_option
from pwflow_dagster.cli.printing import echo_json, echo_text

if TYPE_CHECKING:
    from pwflow_core.config import PlantConfig
    from pwflow_core.pipeline.looking.status import PlantStatus
    from pwflow_core.pipeline.publishing.runs import PlantRun

__all__ = ["COMMANDS", "show_plants"]


def show_plants(workspace: Path | None, *, as_json: bool) -> int:
    """Show every plant of a workspace, also where one cannot be read; return the exit code, 1 in that case.

    Raises:
        ConfigurationError: The workspace cannot be read, or lists no plant.
    """
    from pwflow_core.errors import PwflowError
    from pwflow_core.pipeline.looking.status import read_status
    from pwflow_core.plant import Plant
    from pwflow_dagster.instance import HOME_VARIABLE, open_instance
    from pwflow_dagster.run_records import find_last_run
    from pwflow_dagster.workspace import WORKSPACE, read_plants

    documents: list[dict[str, object]] = []
    lines: list[str] = []
    n_unread = 0
    home = os.environ.get(HOME_VARIABLE)
    for plant in read_plants(workspace or WORKSPACE):
        found, last_run, error = None, None, plant.error
        if plant.config is not None:
            with open_instance(plant.config) as instance:
                last_run = find_last_run(instance, plant.name)
            if home is None:  # then each plant has an instance of its own
                del os.environ[HOME_VARIABLE]
            try:
                found = read_status(Plant.open(plant.config))
                lines += _describe(plant.config, found, last_run)
            except PwflowError as refusal:
                error = str(refusal)
        if error is not None:
            n_unread += 1
            lines += [f"Plant {plant.name}", f"  cannot be read: {error}"]
        documents.append({"plant": plant.name, "last_run": last_run, "status": found, "error": error})
    if as_json:
        echo_json({"plants": documents})
    else:
        echo_text("\n".join(lines))
    return 1 if n_unread else 0


@click.command()
@click.argument("target", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--workspace", type=click.Path(path_type=Path), help="Default: workspace.yaml here.")
@json_option
@click.pass_context
def union(context: click.Context, target: Path, workspace: Path | None, as_json: bool) -> None:
    """One DuckDB file over the published tables of all plants.

    It has a view for each table, with the plant of each row as `plant_name`, and shows what is published at the time
    that it is asked. Write it again when a plant comes or goes, or after an upgrade.
    """
    from pwflow_core.pipeline.publishing.union import write_union
    from pwflow_dagster.workspace import WORKSPACE, read_plants

    found = read_plants(workspace or WORKSPACE)
    made = write_union({p.name: p.config.published_folder for p in found if p.config is not None}, target)
    errors = {p.name: p.error for p in found if p.error is not None}
    errors |= dict.fromkeys(made.left_out, "has published nothing yet")
    if as_json:
        plants = {name: str(folder) for name, folder in made.plants.items()}
        echo_json({"path": str(made.path), "plants": plants, "tables": made.tables, "errors": errors})
    else:
        lines = [f"{made.path}: {count(len(made.tables), 'view')} over {', '.join(made.plants)}"]
        echo_text("\n".join([*lines, *(f"  left out    {name}: {why}" for name, why in errors.items())]))
    context.exit(1 if errors else 0)


COMMANDS = (union,)


def _describe(config: PlantConfig, found: PlantStatus, last_run: PlantRun | None) -> list[str]:
    zone = config.schedule.timezone
    lines = [f"Plant {config.plant.name}"]
    parts = [
        count(len(found.cases.to_decide), "case"),
        count(len(found.findings), "verdict on drift", "verdicts on drift"),
        count(len(found.stretches), "unusual stretch", "unusual stretches"),
    ]
    lines.append(f"  decide      {', '.join(parts)}")
    for case in found.cases.to_decide[:3]:
        lines.append(f"    {case.case_id}  {case.severity:6}  {found.names.spell_out(case.summary)}")
    ended = "" if last_run is None else f" ({local_time(last_run.ended_at, zone)} {zone})"
    lines.append(
        "  last run    none on record"
        if last_run is None
        else f"  last run    {last_run.job}: {last_run.outcome}{ended}"
    )
    if night := found.last_night:
        counted = f"{count(night.n_readings, 'reading')}, {count(night.n_events, 'event')}"
        lines.append(f"  last day    {night.night}: {counted}")
    return lines
