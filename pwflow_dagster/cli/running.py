"""Commands that make something run: from a folder of exports to published scores, and Dagster on them."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pwflow_core.config import PlantConfig
from pwflow_core.demo import DEMO_DAYS, configuration_in_force, configuration_of_file, demo_config
from pwflow_core.errors import ConfigurationError, count
from pwflow_dagster.cli.looking import describe_stretches
from pwflow_dagster.cli.options import check_outcome, config_option, json_option
from pwflow_dagster.cli.printing import echo_json, echo_text
from pwflow_dagster.cli.progress import shown_runs

if TYPE_CHECKING:
    from pwflow_core.pipeline.looking.status import PlantOverview

__all__ = ["COMMANDS"]


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), default=Path("pwflow.toml"), show_default=True)
@click.option("--name", help="Name of the plant.")
@click.option("--timestamp", help="Timestamp column.")
@click.option("--timezone", help="Time zone of timestamps that carry none, such as Europe/Berlin.")
@click.option("--machine", help="Machine column.")
@click.option("--segment", "segments", multiple=True, help="Column of a known process condition; repeatable.")
@click.option("--ignore", multiple=True, help="Column to leave out; repeatable.")
@click.option("--encoding", help="Encoding of text that is not UTF-8, such as cp932.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--yes", is_flag=True, help="Ask nothing, take the defaults.")
@json_option
def init(
    target: Path,
    output: Path,
    name: str | None,
    timestamp: str | None,
    timezone: str | None,
    machine: str | None,
    segments: tuple[str, ...],
    ignore: tuple[str, ...],
    encoding: str | None,
    overwrite: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Look at a file or folder of exports and write pwflow.toml.

    TARGET holds CSV, Excel or Parquet exports, also in ZIP archives. What is assumed about them is printed, the most
    doubtful first, and is written into the file as a comment. At a terminal, what they do not tell is asked.
    """
    from pwflow_core.onboarding import initialise

    made = initialise(
        target,
        output,
        name=name,
        timestamp=timestamp,
        timezone=timezone,
        machine=machine,
        segments=segments or None,
        ignore=ignore,
        encoding=encoding,
        overwrite=overwrite,
        ask=_ask if sys.stdin.isatty() and not (yes or as_json) else None,
    )
    if as_json:
        echo_json({"path": made.path, "assumptions": made.assumptions})
        return
    click.echo(f"Wrote {made.path}. Assumed:")
    for assumption in made.assumptions:
        click.echo(f"  - {assumption}")
    which = "" if output == Path("pwflow.toml") else f" --config {shlex.quote(str(made.path))}"
    steps = "".join(f"\n  pwflow {step}{which}" for step in ("run", "status", "ui"))
    click.echo(f"Check these in the file; `pwflow check{which}` shows what a run will read. Next:{steps}")


def _ask(question: str, default: str, check: Callable[[str], None]) -> str:
    """Ask at the terminal until the answer passes the check."""

    def passed(answer: str) -> str:
        try:
            check(answer)
        except ConfigurationError as error:
            raise click.BadParameter(str(error)) from None
        return answer

    return str(click.prompt(question, default=default, value_proc=passed, err=True))


@click.command()
@config_option
@json_option
def run(config_file: Path | None, as_json: bool) -> None:
    """Ingest what is new, learn what is missing, score, publish.

    It never runs the simulated plant: that is `pwflow demo`.
    """
    _run(configuration_of_file(config_file), as_json=as_json)


@click.command()
@click.option(
    "--days", type=click.IntRange(1, 3650), default=DEMO_DAYS, show_default=True, help="Days of readings to simulate."
)
@json_option
def demo(days: int, as_json: bool) -> None:
    """The same on a simulated plant with known faults and drift.

    Three milling spindles; one of their operating regimes ages from day 40 on.
    """
    _run(demo_config(days), as_json=as_json)


@click.command()
@config_option
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True)
@click.option("--host-name", "host_names", multiple=True, help="Name by which a proxy is reached; repeatable.")
@click.option(
    "--workspace",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Open all plants of this workspace.yaml, in the DAGSTER_HOME that they share.",
)
def ui(config_file: Path | None, port: int, host_names: tuple[str, ...], workspace: Path | None) -> None:
    """Open Dagster on it: assets, nightly schedule, drift sensor.

    Webserver and daemon run until Ctrl-C. They answer on this machine only, and no page but their own.
    """
    from pwflow_dagster.instance import prepare_home, prepare_shared_home
    from pwflow_dagster.webserver import HOST_NAMES_VARIABLE

    if workspace is not None and config_file is not None:
        raise click.UsageError("Give one of --config, for one plant, and --workspace, for all.")
    home = prepare_home(configuration_in_force(config_file)) if workspace is None else prepare_shared_home()
    loaded = ["-m", "pwflow_dagster.definitions"] if workspace is None else ["-w", str(workspace)]
    if config_file is not None:
        os.environ["PWFLOW_CONFIG"] = str(config_file.absolute())
    os.environ[HOST_NAMES_VARIABLE] = ",".join(host_names)
    click.echo(f"Dagster on http://127.0.0.1:{port} (its files: {home}). Stop it with Ctrl-C.", err=True)
    click.echo(f"What waits for a decision, with forms: http://127.0.0.1:{port}/decide", err=True)
    # Dagster stops its processes by SIGINT, which a parent such as nohup may have told this one to ignore.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    program = [sys.executable, "-W", "ignore", "-m", "pwflow_dagster.webserver"]
    command = [*program, "dev", *loaded]
    os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", str(port)])  # noqa: S606 - no shell is meant


COMMANDS = (init, run, demo, ui)


def _run(config: PlantConfig, *, as_json: bool) -> None:
    from pwflow_core.pipeline.looking.status import summarise_plant
    from pwflow_core.plant import Plant
    from pwflow_dagster.pruning import prune_runs
    from pwflow_dagster.runs import run_plant

    outcomes = []
    with shown_runs(config) as runner:
        for outcome in run_plant(runner):
            if outcome.error is not None:
                _tell_failure(config, outcome.run_id, outcome.job, outcome.error)
            check_outcome(outcome)
            outcomes.append(outcome)
        if (keep_days := config.schedule.keep_runs_days) is not None:
            prune_runs(runner.instance, config.plant.name, keep_days=keep_days, now=datetime.now(UTC))
    plant = summarise_plant(Plant.open(config))
    if as_json:
        echo_json({"plant": config.plant.name, "runs": outcomes, "result": plant, "published": config.published_path})
    else:
        echo_text(_describe(config, [outcome.job for outcome in outcomes], plant))


def _tell_failure(config: PlantConfig, run_id: str, job: str, reason: str) -> None:
    """Tell the targets that a run failed; that they cannot be told hides nothing of why."""
    from pwflow_core.errors import PwflowError
    from pwflow_core.notifying.delivering import note_run, send_waiting
    from pwflow_core.notifying.record import fail_run
    from pwflow_core.warehouse import utc_now

    try:
        note_run(config, fail_run(run_id, job, reason, at=utc_now()))
        send_waiting(config)
    except PwflowError as error:
        click.echo(f"Nobody could be told: {error}", err=True)


def _describe(config: PlantConfig, jobs: list[str], plant: PlantOverview) -> str:
    worst = "".join(f"\n    {event.started_at:%Y-%m-%d %H:%M}  {event.summary}" for event in plant.worst)
    unjudged = ", ".join(f"{number:,} {status}" for status, number in plant.n_unjudged.items())
    machines = count(plant.n_machines, "machine")
    unusual = "\n  unusual    " + "\n".join(describe_stretches(plant.stretches)) if plant.stretches else ""
    return f"""
Plant {config.plant.name}, jobs {" and ".join(jobs)}
  readings   {plant.n_readings:,} from {machines}, {plant.first:%Y-%m-%d} to {plant.last:%Y-%m-%d}
  regimes    {plant.n_clusters} in {count(plant.n_segments, "segment")}{unusual}
  scored     {count(plant.n_scored, "reading")}; not judged: {unjudged or "none"}
  anomalies  {plant.n_anomalies:,} at alpha = {plant.alpha:.3g}, in {count(plant.n_alarm_days, "machine-day")}
  events     {plant.n_events:,}{", the worst:" if worst else ""}{worst}
  published  {config.published_path}

Next: `pwflow status` says what needs a decision, `pwflow ui` shows the assets, or ask in SQL:
  pwflow sql "SELECT started_at, n_readings, summary FROM mart.anomaly_events
              ORDER BY started_at DESC LIMIT 20"
"""
