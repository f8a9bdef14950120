"""The command line: look at data, run the plant, open the UI."""

from __future__ import annotations

import getpass
import logging
import os
import signal
import sys
from pathlib import Path

import click

from pwflow_core.config import PlantConfig
from pwflow_core.demo import DEMO_DAYS, configuration_in_force, demo_config
from pwflow_core.errors import PwflowError

__all__ = ["main"]

_CONFIG = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="Configuration file. Default: PWFLOW_CONFIG, then pwflow.toml here, then the bundled simulated plant.",
)


class _Sentences(click.Group):
    """Shows an error that pwflow raised on purpose as one sentence, with exit code 1."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except PwflowError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Sentences, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pwflow")
def main() -> None:
    """Calibrated anomaly scores for industrial machines, one normalizing flow per operating regime.

    \b
    Your own data, in three commands:
      pwflow init FOLDER     look at the exports and write pwflow.toml
      pwflow run             ingest, learn, score and publish
      pwflow ui              open Dagster on the result

    \b
    Then:
      pwflow report          the plant in pictures, as one HTML file
      pwflow sql QUERY       ask the published tables
      pwflow demo            the same on a simulated plant with known faults
      pwflow evaluate        compare scores and alarms with known faults
      pwflow poc             does it pay on your data? a recommendation with its reasons
      pwflow bench           compare density models on your data or on toy targets
      pwflow promote, rollback, confirm, approve   decide about a regime

    Exit codes: 0 success, 1 refused or failed (the message says why), 2 wrong usage.
    """  # noqa: D301 - \b keeps the lines of a paragraph apart
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("pwflow").setLevel(logging.INFO)


@main.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), default=Path("pwflow.toml"), show_default=True)
@click.option("--name", help="Name of the plant.")
@click.option("--timestamp", help="Timestamp column.")
@click.option("--timezone", help="Time zone of timestamps that carry none, such as Europe/Berlin.")
@click.option("--machine", help="Machine column.")
@click.option("--segment", "segments", multiple=True, help="Column of a known process condition; repeatable.")
@click.option("--ignore", multiple=True, help="Column to leave out; repeatable.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def init(
    target: Path,
    output: Path,
    name: str | None,
    timestamp: str | None,
    timezone: str | None,
    machine: str | None,
    segments: tuple[str, ...],
    ignore: tuple[str, ...],
    overwrite: bool,
) -> None:
    """Look at a file or folder of CSV or Parquet exports and write a commented pwflow.toml."""
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
        overwrite=overwrite,
    )
    click.echo(f"Wrote {made.path}. Assumed:")
    for assumption in made.assumptions:
        click.echo(f"  - {assumption}")
    click.echo("Next: check these in the file, then `pwflow run`.")


@main.command()
@_CONFIG
def run(config_file: Path | None) -> None:
    """Ingest what is new, learn what is missing, score, publish: one run in Dagster."""
    _run(configuration_in_force(config_file))


@main.command()
@click.option(
    "--days", type=click.IntRange(1, 3650), default=DEMO_DAYS, show_default=True, help="Days of readings to simulate."
)
def demo(days: int) -> None:
    """Run the bundled simulated plant: three milling spindles with known faults and one regime that ages."""
    _run(demo_config(days))


@main.command()
@_CONFIG
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True)
def ui(config_file: Path | None, port: int) -> None:
    """Start Dagster (webserver and daemon, on this machine only) on the plant."""
    from pwflow_dagster.instance import prepare_home

    config = configuration_in_force(config_file)
    home = prepare_home(config)
    if config_file is not None:
        os.environ["PWFLOW_CONFIG"] = str(config_file.absolute())
    click.echo(f"Dagster on http://127.0.0.1:{port} (its files: {home}). Stop it with Ctrl-C.", err=True)
    # Dagster stops its processes by SIGINT, which a parent such as nohup may have told this one to ignore.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    command = [sys.executable, "-W", "ignore", "-m", "dagster", "dev", "-m", "pwflow_dagster.definitions"]
    os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", str(port)])  # noqa: S606 - no shell is meant


@main.command()
@_CONFIG
@click.argument("query")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead of a table.")
def sql(config_file: Path | None, query: str, as_csv: bool) -> None:
    """Ask the published tables in SQL, read-only."""
    from pwflow_core.pipeline.publishing import query_published

    frame = query_published(configuration_in_force(config_file), query)
    click.echo(frame.to_csv(index=False) if as_csv else frame.to_string(index=False), nl=not as_csv)


@main.command()
@_CONFIG
@click.option("--output", type=click.Path(path_type=Path), help="File to write. Default: beside the published tables.")
@click.option("--language", type=click.Choice(["en", "ja"]), default="en", show_default=True)
@click.option(
    "--days", type=click.IntRange(1), default=60, show_default=True, help="Days of readings to show, up to the last."
)
@click.option("--open", "show", is_flag=True, help="Open the report in the browser.")
def report(config_file: Path | None, output: Path | None, language: str, days: int, show: bool) -> None:
    """Write the plant in pictures: alarms, events, regimes, data quality and models, as one HTML file."""
    from pwflow_core.plant import Plant
    from pwflow_core.reporting import build_report, report_path

    config = configuration_in_force(config_file)
    target = (output or report_path(config, language)).absolute()
    summary = build_report(Plant.open(config), target, language=language, days=days)
    click.echo(
        f"Wrote {summary.path} ({summary.size_bytes / 1e6:.1f} MB): {summary.n_events_shown} of {summary.n_events:,} "
        f"events in full, {summary.n_regimes_shown} regimes, {summary.n_charts} pictures."
    )
    if show:
        click.launch(summary.path.as_uri())


@main.command()
@click.argument("labels_file", metavar="[LABELS]", required=False, type=click.Path(path_type=Path))
@click.option("--column", help="Column of the source that is 1 in a fault and 0 otherwise, instead of LABELS.")
@_CONFIG
@click.option("--timezone", help="Time zone of times in LABELS that carry none. Default: that of the source.")
@click.option("--with-training", is_flag=True, help="Evaluate also the time that the models learned from.")
@click.option("--csv", "as_csv", is_flag=True, help="Print the table as CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def evaluate(
    labels_file: Path | None,
    column: str | None,
    config_file: Path | None,
    timezone: str | None,
    with_training: bool,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Compare scores and alarms with LABELS (CSV or Parquet), or with what the simulated plant knows.

    \b
    LABELS has one row per fault:     machine, start, end, maybe kind
    or one row per reading:           machine, time, label (0 or 1), maybe kind
    """  # noqa: D301 - \b keeps the lines of a paragraph apart
    from pwflow_core.pipeline import evaluation, labels
    from pwflow_core.plant import Plant

    if labels_file is not None and column is not None:
        raise click.UsageError("Give LABELS or --column.")
    plant = Plant.open(configuration_in_force(config_file))
    if labels_file is not None:
        known = labels.labels_from_file(plant, labels_file, timezone)
    elif column is not None:
        known = labels.labels_from_column(plant, column)
    else:
        known = labels.labels_of_simulation(plant)
    result = evaluation.evaluate_plant(plant, known, with_training=with_training)
    table = evaluation.tabulate_evaluation(result)
    if as_json:
        click.echo(evaluation.to_json(result))
    elif as_csv:
        click.echo(table.to_csv(index=False), nl=False)
    else:
        click.echo(f"{table.round(3).to_string(index=False)}\n\n{evaluation.describe_evaluation(result)}")


@main.command()
@_CONFIG
@click.option("--labels", "labels_file", type=click.Path(path_type=Path), help="Known faults, as for evaluate.")
@click.option(
    "--regimes", default="1,2,4,8", show_default=True, help="Numbers of regimes to try, over the whole plant."
)
@click.option("--language", type=click.Choice(["en", "ja"]), default="en", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="File to write. Default: beside the published tables.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def poc(
    config_file: Path | None,
    labels_file: Path | None,
    regimes: str,
    language: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Does this pay on my data? Compare pwflow with simpler models and recommend one, with reasons.

    Without LABELS the simulated plant knows its own faults; into other held-out readings some are put.
    """
    from pwflow_core import poc as proof
    from pwflow_core.plant import Plant

    if not all(number.isdecimal() for number in _listed(regimes)):
        raise click.UsageError(f"Expected numbers such as 1,2,4,8 in --regimes, got {regimes!r}.")
    plant = Plant.open(configuration_in_force(config_file))
    comparison = proof.prove_plant(
        plant,
        labels_file=labels_file,
        regimes=[int(number) for number in _listed(regimes)],
        on_progress=logging.getLogger("pwflow.poc").info,
    )
    proof.write_comparison(plant, comparison)
    target = (output or proof.poc_path(plant.config, language)).absolute()
    proof.write_page(comparison, target, language)
    click.echo(proof.to_json(comparison) if as_json else proof.describe_comparison(comparison, language))
    click.echo(f"Wrote {target} and mart.model_comparison, which the next run publishes.", err=as_json)


_REASON = click.option("--reason", default="", help="Why, for the registry.")


@main.command()
@click.argument("cluster")
@click.argument("version")
@_CONFIG
@_REASON
def promote(cluster: str, version: str, config_file: Path | None, reason: str) -> None:
    """Put a flow VERSION of regime CLUSTER in force, and score that regime alone again.

    The first digits of VERSION suffice; mart.flow_versions lists them.
    """
    _switch_flow(configuration_in_force(config_file), cluster, version, is_rollback=False, reason=reason)


@main.command()
@click.argument("cluster")
@click.argument("version", required=False)
@_CONFIG
@_REASON
def rollback(cluster: str, version: str | None, config_file: Path | None, reason: str) -> None:
    """Return to the flow of regime CLUSTER before the present one, or to VERSION."""
    _switch_flow(configuration_in_force(config_file), cluster, version, is_rollback=True, reason=reason)


@main.command()
@click.argument("verdict_id")
@_CONFIG
@_REASON
def approve(verdict_id: str, config_file: Path | None, reason: str) -> None:
    """Add the regime that verdict VERDICT_ID of mart.drift_verdicts proposes, and learn it alone."""
    from pwflow_dagster.instance import open_instance
    from pwflow_dagster.runs import approve_regime

    config = configuration_in_force(config_file)
    with open_instance(config) as instance:
        keys, outcome = approve_regime(config, instance, verdict_id, approved_by=_user(), reason=reason)
    if outcome.error is not None:
        raise click.ClickException(outcome.error)
    for warning in outcome.warnings:
        click.echo(f"Warning: {warning}", err=True)
    click.echo(f"New regime {', '.join(keys)}: learned, scored and published to {config.published_path}.")


@main.command()
@click.argument("event_id", type=int)
@_CONFIG
def confirm(event_id: int, config_file: Path | None) -> None:
    """Say that event EVENT_ID of mart.anomaly_events is normal, so that its regime may learn from it."""
    from pwflow_core.pipeline.confirmations import confirm_event
    from pwflow_core.plant import Plant

    made = confirm_event(Plant.open(configuration_in_force(config_file)), event_id, confirmed_by=_user())
    click.echo(
        f"{made.machine_id}, {made.started_at:%Y-%m-%d %H:%M} to {made.ended_at:%Y-%m-%d %H:%M}: normal. "
        "The next refit of the regime after drift may learn from it."
    )


@main.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--target", help="A toy target instead: two_moons, circle_of_gaussians, two_rings or warped_8d.")
@_CONFIG
@click.option("--columns", default="", help="Columns of FILE, comma-separated. Default: all numeric ones.")
@click.option("--models", default="", help="Some of piecewise,single,mixture_base,resampled_base,gmm. Default: all.")
@click.option("--rows", type=click.IntRange(200), default=10_000, show_default=True, help="Most rows to use.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--max-steps", type=click.IntRange(1), help="Most gradient steps of a flow, for a quick look.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Write the table to this file too.")
def bench(
    file: Path | None,
    target: str | None,
    config_file: Path | None,
    columns: str,
    models: str,
    rows: int,
    seed: int,
    max_steps: int | None,
    csv_file: Path | None,
) -> None:
    """Compare PiecewiseFlow with its rivals on FILE (CSV or Parquet), a toy target, or the plant's readings."""
    from pwflow_core import benchmarking

    if sum(given is not None for given in (file, target, config_file)) > 1:
        raise click.UsageError("Give one of FILE, --target and --config.")
    if target is not None:
        data = benchmarking.from_target(target, rows, seed)
    elif file is not None:
        data = benchmarking.from_file(file, rows, columns=_listed(columns), random_state=seed)
    else:
        data = benchmarking.from_plant(configuration_in_force(config_file), rows, random_state=seed)
    click.echo(f"Columns of {data.name}: {', '.join(data.columns)}", err=True)
    results = benchmarking.run_benchmark(
        data,
        _listed(models) or tuple(benchmarking.MODEL_TITLES),
        random_state=seed,
        max_steps=max_steps,
        on_progress=lambda line: click.echo(line, err=True),
    )
    if csv_file is not None:
        benchmarking.write_csv(csv_file, data, results)
    click.echo(benchmarking.render_table(data, results))
    if all(result.error for result in results):
        raise click.ClickException("No model could be trained: the reasons stand below the table.")


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return "the command line"


def _switch_flow(config: PlantConfig, cluster: str, version: str | None, *, is_rollback: bool, reason: str) -> None:
    from pwflow_core.pipeline.registry import last_decision
    from pwflow_core.plant import Plant
    from pwflow_dagster.instance import open_instance
    from pwflow_dagster.runs import switch_flow

    with open_instance(config) as instance:
        outcome = switch_flow(
            config,
            instance,
            cluster,
            version,
            is_rollback=is_rollback,
            decided_by=_user(),
            reason=reason or f"pwflow {'rollback' if is_rollback else 'promote'}",
        )
    if outcome.error is not None:
        raise click.ClickException(outcome.error)
    for warning in outcome.warnings:
        click.echo(f"Warning: {warning}", err=True)
    made = last_decision(Plant.open(config), cluster)
    click.echo(
        f"{cluster}: flow {made.flow_version[:12]}… is in force instead of {(made.previous_version or 'none')[:12]}…; "
        f"its readings were scored again and published to {config.published_path}."
    )


def _run(config: PlantConfig) -> None:
    from pwflow_core.pipeline.overview import summarise_plant
    from pwflow_core.plant import Plant
    from pwflow_dagster.instance import open_instance
    from pwflow_dagster.runs import run_plant

    jobs = []
    with open_instance(config) as instance:
        for outcome in run_plant(config, instance):
            if outcome.error is not None:
                raise click.ClickException(outcome.error)
            jobs.append(outcome.job)
            for warning in outcome.warnings:
                click.echo(f"Warning: {warning}", err=True)
    plant = summarise_plant(Plant.open(config))
    worst = "".join(f"\n    {event.started_at:%Y-%m-%d %H:%M}  {event.summary}" for event in plant.worst)
    unjudged = ", ".join(f"{count:,} {status}" for status, count in plant.n_unjudged.items())
    click.echo(
        f"""
Plant {config.plant.name}, jobs {" and ".join(jobs)}
  readings   {plant.n_readings:,} from {plant.n_machines} machines, {plant.first:%Y-%m-%d} to {plant.last:%Y-%m-%d}
  regimes    {plant.n_clusters} in {plant.n_segments} segments
  scored     {plant.n_scored:,} readings; not judged: {unjudged or "none"}
  anomalies  {plant.n_anomalies:,} at alpha = {plant.alpha:.3g}, in {plant.n_alarm_days} machine-days
  events     {plant.n_events:,}{", the worst:" if worst else ""}{worst}
  published  {config.published_path}

Next: look at the assets with `pwflow ui`, or ask in SQL:
  pwflow sql "SELECT started_at, n_readings, summary FROM mart.anomaly_events
              ORDER BY started_at DESC LIMIT 20"
"""
    )
