"""Commands that look at a plant and change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pwflow_core.demo import configuration_in_force
from pwflow_core.errors import count
from pwflow_dagster.cli.cases import describe_cases, describe_one_case
from pwflow_dagster.cli.options import config_option, json_option, language_option
from pwflow_dagster.cli.plants import show_plants
from pwflow_dagster.cli.printing import echo_json, echo_text, is_id

if TYPE_CHECKING:
    from pwflow_core.config import PlantConfig
    from pwflow_core.pipeline.looking.status import PlantStatus, RegimeStatus
    from pwflow_core.pipeline.publishing.runs import PlantRun
    from pwflow_core.pipeline.readings.recurrence import Stretch
    from pwflow_core.pipeline.scoring.sight import SensorSight

__all__ = ["COMMANDS", "describe_stretches"]


@click.command()
@click.option("--all", "of_all", is_flag=True, help="In short, all plants of a Dagster: those of workspace.yaml.")
@click.option("--workspace", type=click.Path(path_type=Path), help="That file. Default: workspace.yaml here.")
@config_option
@json_option
@click.pass_context
def status(
    context: click.Context, of_all: bool, workspace: Path | None, config_file: Path | None, as_json: bool
) -> None:
    """What to decide today, last run, last day, regimes, drift."""
    if of_all:
        context.exit(show_plants(workspace, as_json=as_json))
    from pwflow_core.pipeline.looking.status import next_step, read_status
    from pwflow_core.plant import Plant
    from pwflow_dagster.instance import open_instance
    from pwflow_dagster.run_records import find_last_run

    config = configuration_in_force(config_file)
    found = read_status(Plant.open(config))
    with open_instance(config) as instance:
        last_run = find_last_run(instance, config.plant.name)
    if as_json:
        steps = [{"verdict_id": f.verdict_id, "next_step": next_step(f, config.drift.policy)} for f in found.findings]
        echo_json({"plant": config.plant.name, "last_run": last_run, "status": found, "next_steps": steps})
    else:
        echo_text(_describe(config, found, last_run))


@click.command()
@click.argument("case_id", metavar="[CASE]", required=False)
@click.option("--all", "with_closed", is_flag=True, help="List the closed ones too.")
@config_option
@json_option
def cases(case_id: str | None, with_closed: bool, config_file: Path | None, as_json: bool) -> None:
    """List the cases, or show one with its events and decisions.

    Those to decide about come first, the gravest first. Times are local times of the plant.
    """
    from pwflow_core.pipeline.cases.view import read_case, read_cases
    from pwflow_core.pipeline.regimes.naming import read_names
    from pwflow_core.plant import Plant

    config = configuration_in_force(config_file)
    zone = config.schedule.timezone
    with Plant.open(config).warehouse.snapshot() as connection:
        names = read_names(connection)
        if case_id is not None:
            found = read_case(connection, case_id)
        else:
            view = read_cases(connection, zone)
    if case_id is not None:
        document = {"case": found.case, "events": found.events, "changes": found.changes}
        lines = describe_one_case(found, zone)
    else:
        document = {"cases": [case for case in view.all if with_closed or case.is_active or case.wants_decision]}
        lines = describe_cases(view, zone, with_closed=with_closed)
    if as_json:
        echo_json(document | {"regime_names": names.of})
    else:
        echo_text(names.spell_out("\n".join(lines)))


@click.command()
@config_option
@click.option("--output", type=click.Path(path_type=Path), help="File to write. Default: beside the published tables.")
@language_option
@click.option(
    "--days",
    type=click.IntRange(1),
    help="Days of readings to show, up to the last. Default: as [report] in pwflow.toml has it.",
)
@click.option("--open", "show", is_flag=True, help="Open the report in the browser.")
@json_option
def report(
    config_file: Path | None, output: Path | None, language: str, days: int | None, show: bool, as_json: bool
) -> None:
    """The plant in pictures, as one HTML file.

    Alarms, events, regimes, data quality and models; the file needs no network.
    """
    from pwflow_core.plant import Plant
    from pwflow_core.reporting import build_report, report_path

    config = configuration_in_force(config_file)
    target = (output or report_path(config, language)).absolute()
    summary = build_report(Plant.open(config), target, language=language, days=days)
    if as_json:
        echo_json(vars(summary))
    else:
        click.echo(
            f"Wrote {summary.path} ({summary.size_bytes / 1e6:.1f} MB): {summary.n_events_shown} of "
            f"{count(summary.n_events, 'event')} in full, {count(summary.n_regimes_shown, 'regime')}, "
            f"{count(summary.n_charts, 'picture')}."
        )
    if show:
        click.launch(summary.path.as_uri())


@click.command()
@config_option
@click.argument("query")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead of a table.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of rows as JSON.")
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), default=60.0, show_default=True, help="Most seconds to take."
)
def sql(config_file: Path | None, query: str, as_csv: bool, as_json: bool, timeout: float) -> None:
    """Ask the published tables in SQL.

    Read-only, with nothing else in reach, bounded in time and memory.
    """
    from pwflow_core.limits import limited_process
    from pwflow_core.pipeline.publishing.querying import query_published

    config = configuration_in_force(config_file)
    with limited_process(config.compute.memory_bytes, timeout):
        frame = query_published(config, query, timeout_seconds=timeout)
    if as_json:
        for place, (name, column) in enumerate(frame.items()):
            if is_id(str(name)) and column.dtype.kind in "iu":
                frame.isetitem(place, column.astype("string").array)
        click.echo(frame.to_json(orient="records", date_format="iso", double_precision=15, indent=2))
    elif as_csv:
        click.echo(frame.to_csv(index=False), nl=False)
    else:
        for place, (_, column) in enumerate(frame.items()):
            if column.dtype.kind != "f" and column.hasnans:  # what pandas shows as None, NaN, NaT or <NA>, by type
                known = column.astype(str if column.dtype.kind == "M" else object)  # days stay days
                frame.isetitem(place, known.where(column.notna(), "NULL").array)
        click.echo(frame.to_string(index=False, na_rep="NULL"))


@click.command()
@click.argument("labels_file", metavar="[LABELS]", required=False, type=click.Path(path_type=Path))
@click.option("--column", help="Column of the source that is 1 in a fault and 0 otherwise, instead of LABELS.")
@click.option("--cases", "of_cases", is_flag=True, help="What `pwflow mark` said of cases, instead of LABELS.")
@config_option
@click.option("--timezone", help="Time zone of times in LABELS that carry none. Default: that of the source.")
@click.option("--with-training", is_flag=True, help="Evaluate also the time that the models learned from.")
@click.option("--csv", "as_csv", is_flag=True, help="Print the table as CSV.")
@json_option
def evaluate(
    labels_file: Path | None,
    column: str | None,
    of_cases: bool,
    config_file: Path | None,
    timezone: str | None,
    with_training: bool,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Compare scores and alarms with known faults.

    They are in LABELS (CSV or Parquet); without it they are what the simulated plant knows.

    \b
    LABELS has one row per fault:     machine, start, end, maybe kind
    or one row per reading:           machine, time, label (0 or 1), maybe kind
    """  # noqa: D301 - \b keeps the lines of a paragraph apart
    from pwflow_core.pipeline.evaluation import describing, evaluation, labels
    from pwflow_core.plant import Plant

    if sum((labels_file is not None, column is not None, of_cases)) > 1:
        raise click.UsageError("Give one of LABELS, --column and --cases.")
    plant = Plant.open(configuration_in_force(config_file))
    if labels_file is not None:
        known = labels.labels_from_file(plant, labels_file, timezone)
    elif column is not None:
        known = labels.labels_from_column(plant, column)
    elif of_cases:
        known = labels.labels_of_cases(plant)
    else:
        known = labels.labels_of_simulation(plant)
    result = evaluation.evaluate_plant(plant, known, with_training=with_training)
    table = describing.tabulate_evaluation(result)
    if as_json:
        click.echo(describing.to_json(result))
    elif as_csv:
        click.echo(table.to_csv(index=False), nl=False)
    else:
        click.echo(f"{table.round(3).to_string(index=False)}\n")
        echo_text(describing.describe_evaluation(result))


_MOST_STRETCHES = 5

COMMANDS = (status, cases, report, sql, evaluate)


def _describe(config: PlantConfig, found: PlantStatus, last_run: PlantRun | None) -> str:
    from pwflow_core.pipeline.looking.status import next_step

    lines = [f"Plant {config.plant.name}", *describe_cases(found.cases, config.schedule.timezone)]
    if last_run is None:
        lines.append("  last run    none on record in this Dagster instance")
    else:
        ended = f"{last_run.ended_at:%Y-%m-%d %H:%M} UTC" if last_run.ended_at else "not ended"
        lines.append(f"  last run    {last_run.job}: {last_run.outcome} ({ended}, run {last_run.run_id[:8]})")
        if last_run.error:
            lines.append(f"              {last_run.error}")
    if found.first and found.last:
        span = f"{found.first:%Y-%m-%d} to {found.last:%Y-%m-%d %H:%M} UTC"
        lines.append(f"  readings    {found.n_readings:,} from {count(found.n_machines, 'machine')}, {span}")
    if found.n_removed:
        lines.append(f"              {found.n_removed:,} older ones were removed (retention), see mart.removed_nights")
    if night := found.last_night:
        lines.append(
            f"  last day    {night.night}: {count(night.n_readings, 'reading')}, {night.n_unjudged:,} not judged, "
            f"{count(night.n_anomalies, 'anomaly', 'anomalies')}, {count(night.n_events, 'event')}"
        )
        lines += [f"              {summary}" for summary in night.summaries]
    lines.append(f"  regimes     {len(found.regimes)}")
    width = max((len(regime.segment) for regime in found.regimes), default=0)
    wide = max((len(found.names.label(regime.cluster_key)) for regime in found.regimes), default=0)
    for regime in found.regimes:
        flow = f"flow {regime.flow_version[:8]} of {regime.trained_at:%Y-%m-%d}" if regime.flow_version else "no flow"
        regime_and_share = (
            f"{found.names.label(regime.cluster_key):{wide}}  {regime.segment:{width}}  {regime.weight:4.0%}"
        )
        lines.append(f"    {regime_and_share}  {flow}  {_drift_of(regime)}")
    if found.blind:
        lines += _describe_blind(found.blind)
    if found.stretches:
        first, *others = describe_stretches(found.stretches)
        lines += [f"  unusual     {first}", *others]
    lines.append(f"  verdicts    {len(found.findings)} open")
    for verdict in found.findings:
        lines.append(f"    {verdict.verdict_id}  {verdict.night}  {verdict.summary}")
        lines.append(f"      next: {next_step(verdict, config.drift.policy)}")
    return found.names.spell_out("\n".join(lines))


def _drift_of(regime: RegimeStatus) -> str:
    if regime.flow_version is None:
        return "drift is followed once there is a flow"
    if not regime.can_be_followed:
        return "too few held-out readings to follow drift"
    if regime.evidence is None:
        return "drift is followed from the next night on"
    moved = "  MOVED" if regime.has_moved else ""
    return f"drift evidence {regime.evidence:4.1f} (alarm at {regime.threshold:.1f}){moved}"


def _describe_blind(blind: tuple[SensorSight, ...]) -> list[str]:
    from pwflow_core.pipeline.looking.status import explain_blindness

    n_regimes = len({seen.cluster_key for seen in blind})
    lines = [f"  blind       {count(n_regimes, 'regime')}; mart.detectability has all sizes"]
    for sentence, remedy in explain_blindness(blind):
        lines += [f"    {sentence}", f"      next: {remedy}"]
    return lines


def describe_stretches(stretches: Sequence[Stretch]) -> list[str]:
    """Return the stretches of the history that nobody has decided about, line by line, and what to do next."""
    n_readings = sum(stretch.n_readings for stretch in stretches)
    named = count(len(stretches), "stretch", "stretches")
    lines = [f"{named} of the history, {count(n_readings, 'reading')}: nothing learns from them"]
    for stretch in stretches[:_MOST_STRETCHES]:
        when = f"{stretch.started_at:%Y-%m-%d %H:%M} to {stretch.ended_at:%Y-%m-%d %H:%M}"
        lines.append(f"    {stretch.stretch_id}  {stretch.machine_id}  {when}  {', '.join(stretch.top_sensors)}")
    if len(stretches) > _MOST_STRETCHES:
        lines.append(f"    and {len(stretches) - _MOST_STRETCHES} more in mart.unusual_stretches")
    first = stretches[0].stretch_id
    return [
        *lines,
        f"      next: `pwflow approve {first}` if that is a normal way of running, else `pwflow dismiss {first}`",
    ]
