"""Commands that use or compare models, outside of the warehouse."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import click

from pwflow_core.demo import configuration_in_force
from pwflow_core.errors import count
from pwflow_dagster.cli.options import config_option, json_option, language_option
from pwflow_dagster.cli.printing import echo_json
from pwflow_dagster.cli.progress import shown_progress

__all__ = ["COMMANDS"]


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@config_option
@click.option("--output", type=click.Path(path_type=Path), help="File to write, .csv or .parquet. Default: print CSV.")
@json_option
def score(file: Path, config_file: Path | None, output: Path | None, as_json: bool) -> None:
    """Score a file with the models in use.

    The warehouse stays as it is. FILE (CSV or Parquet) has the columns of the source. Each reading gets what the
    pipeline would give it; only what depends on readings before the first of FILE cannot be known. Columns:
    machine_id, ts (UTC), segment, cluster_key, log_density, p_value, anomaly_score, is_anomaly, status, reason.

    The JSON has the counts; with it, the scores go to the file of --output.
    """
    from pwflow_core.pipeline.using.scoring_files import score_file
    from pwflow_core.plant import Plant

    if as_json and output is None:
        raise click.UsageError("Give --output FILE with --json: the scores go there, and the JSON has the counts.")
    plant = Plant.open(configuration_in_force(config_file))
    with tempfile.TemporaryDirectory(prefix="pwflow-score-") as folder:
        target = output or Path(folder) / "scores.csv"
        with shown_progress():
            made = score_file(plant, file, target)
        if output is None:
            with target.open(encoding="utf-8") as lines:
                for line in lines:
                    click.echo(line, nl=False)
    if as_json:
        echo_json({"scored": made})
        return
    unjudged = ", ".join(f"{n:,} {name}" for name, n in made.n_by_status.items() if name != "scored")
    refused = ", ".join(f"{n:,} {reason}" for reason, n in made.refused.items())
    scored = count(made.n_by_status.get("scored", 0), "reading")
    anomalies = count(made.n_anomalies, "anomaly", "anomalies")
    click.echo(
        f"{scored} scored, {anomalies} at alpha = {made.alpha:.3g}; not judged: {unjudged or 'none'}; "
        f"refused: {refused or 'none'}." + (f" Wrote {output}." if output else ""),
        err=True,
    )


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--onnx", "with_onnx", is_flag=True, help="Each flow as ONNX too; takes pwflow[onnx].")
@config_option
@json_option
def export(folder: Path, with_onnx: bool, config_file: Path | None, as_json: bool) -> None:
    """Export all that scoring needs to a folder, for the edge.

    FOLDER gets the models that the last scores were made by, with the rules around them, as safetensors and JSON with
    hashes. `pwflow_core.edge` scores from it with NumPy alone, with the numbers of the nightly job. Exporting again
    replaces the bundle as a whole, and leaves other files there alone.
    """
    from pwflow_core.pipeline.using.bundling import export_bundle
    from pwflow_core.plant import Plant

    made = export_bundle(Plant.open(configuration_in_force(config_file)), folder, with_onnx=with_onnx)
    if as_json:
        echo_json({"bundle": made})
        return
    click.echo(
        f"Wrote {made.folder}: {count(made.n_regimes, 'regime')}, the last readings of "
        f"{count(made.n_machines, 'machine')}, {made.n_bytes / 1024:,.0f} KiB, model set {made.model_set_id}."
    )


@click.command()
@click.argument("n", type=click.IntRange(1, 10_000_000))
@config_option
@click.option("--cluster", help="Draw from this regime alone.")
@click.option("--segment", help="Draw from the mixture of this segment; the only one where there is one.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="File to write, .csv or .parquet.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@json_option
def sample(
    n: int,
    config_file: Path | None,
    cluster: str | None,
    segment: str | None,
    output: Path,
    seed: int,
    as_json: bool,
) -> None:
    """Simulate N readings as the models imagine them."""
    from pwflow_core.pipeline.using.simulating import sample_readings
    from pwflow_core.plant import Plant

    plant = Plant.open(configuration_in_force(config_file))
    made = sample_readings(plant, n, output, cluster_key=cluster, segment=segment, random_state=seed)
    if as_json:
        echo_json({"sample": made})
        return
    counts = ", ".join(f"{n_drawn:,} of {key}" for key, n_drawn in made.n_by_cluster.items())
    click.echo(f"Wrote {made.path}: {count(n, 'reading')} of segment {made.segment}, {counts}.")


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--target", help="A toy target instead: two_moons, circle_of_gaussians, two_rings or warped_8d.")
@config_option
@click.option("--columns", default="", help="Columns of FILE, comma-separated. Default: all numeric ones.")
@click.option("--models", default="", help="Some of piecewise,single,mixture_base,resampled_base,gmm. Default: all.")
@click.option("--rows", type=click.IntRange(200), default=10_000, show_default=True, help="Most rows to use.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--max-steps", type=click.IntRange(1), help="Most gradient steps of a flow, for a quick look.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Write the table to this file too.")
@json_option
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
    as_json: bool,
) -> None:
    """Compare density models on a file, the plant, or toy targets.

    PiecewiseFlow and its rivals on FILE (CSV or Parquet), on a toy target, or on the plant's readings.
    """
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
    failed = all(result.error for result in results)
    if not as_json:
        click.echo(benchmarking.render_table(data, results))
    elif not failed:
        echo_json({"data": data.name, "columns": data.columns, "results": results})
    if failed:
        reasons = "; ".join(f"{result.model}: {result.error}" for result in results)
        raise click.ClickException(f"No model could be trained: {reasons}")


@click.command()
@config_option
@click.option("--labels", "labels_file", type=click.Path(path_type=Path), help="Known faults, as for evaluate.")
@click.option(
    "--regimes", default="1,2,4,8", show_default=True, help="Numbers of regimes to try, over the whole plant."
)
@language_option
@click.option("--output", type=click.Path(path_type=Path), help="File to write. Default: beside the published tables.")
@json_option
def poc(
    config_file: Path | None,
    labels_file: Path | None,
    regimes: str,
    language: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Recommend a model for your data, with reasons.

    Does pwflow pay here? Compares it with simpler models. Without LABELS the simulated plant knows its own faults; into
    other held-out readings some are put.
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


COMMANDS = (score, export, sample, bench, poc)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
