"""`pwflow status --all`: the plants of one Dagster, a few lines for each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pwflow_dagster.cli.cases import local_time
from pwflow_dagster.cli.printing import echo_json, echo_text

if TYPE_CHECKING:
    from pwflow_core.config import PlantConfig
    from pwflow_core.pipeline.looking.status import PlantStatus
    from pwflow_core.pipeline.publishing.runs import PlantRun

__all__ = ["show_plants"]


def show_plants(workspace: Path | None, *, as_json: bool) -> int:
    """Show every plant of a workspace, also where one cannot be read; return the exit code, 1 in that case.

    Raises:
        ConfigurationError: The workspace cannot be read.
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
    for name, config in read_plants(workspace or WORKSPACE).items():
        with open_instance(config) as instance:
            last_run = find_last_run(instance, name)
        if home is None:  # then each plant has an instance of its own
            del os.environ[HOME_VARIABLE]
        try:
            found = read_status(Plant.open(config))
        except PwflowError as error:
            n_unread += 1
            documents.append({"plant": name, "last_run": last_run, "status": None, "error": str(error)})
            lines += [f"Plant {name}", f"  cannot be read: {error}"]
            continue
        documents.append({"plant": name, "last_run": last_run, "status": found, "error": None})
        lines += _describe(config, found, last_run)
    if as_json:
        echo_json({"plants": documents})
    else:
        echo_text("\n".join(lines))
    return 1 if n_unread else 0


def _describe(config: PlantConfig, found: PlantStatus, last_run: PlantRun | None) -> list[str]:
    zone = config.schedule.timezone
    lines = [f"Plant {config.plant.name}"]
    parts = [
        f"{len(found.cases.to_decide):,} cases",
        f"{len(found.findings):,} verdicts on drift",
        f"{len(found.stretches):,} unusual stretches",
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
        lines.append(f"  last night  {night.night}: {night.n_readings:,} readings, {night.n_events:,} events")
    return lines
