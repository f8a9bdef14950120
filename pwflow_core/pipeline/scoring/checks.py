"""Checks: what must hold of the scores before they are published, one function each, on one snapshot.

What there is to check, and whether it blocks, is declared in `check_list`; here is how.

A check that blocks says that the tables would be wrong: a reading lost, a column changed, p-values that are no
probabilities, scores of models that do not belong together. A night with many alarms is not one of those. It may be a
real fault, and then the alarms have to come out, so that check only warns.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache

import duckdb
import numpy as np
import pandas as pd
from scipy.stats import poisson

from pwflow_core.errors import ChecksFailedError, list_few
from pwflow_core.modelling.calibration import calibrate, distance_from_uniform
from pwflow_core.modelling.levels import largest_merged
from pwflow_core.modelling.states import LARGEST_CHANCE
from pwflow_core.pipeline.flows.training_sets import TrainingWindow
from pwflow_core.pipeline.readings.deriving import STEP as READINGS_STEP
from pwflow_core.pipeline.readings.folds import CALIBRATION_FOLDS, STOPPING_FOLDS
from pwflow_core.pipeline.readings.timing import read_block_seconds
from pwflow_core.pipeline.readings.training_rows import select_training_rows, training_window
from pwflow_core.pipeline.scoring.calibration import load_calibration
from pwflow_core.pipeline.scoring.check_list import CHECKS, SCHEMA_CHECK, Check
from pwflow_core.pipeline.scoring.coarseness import find_coarser
from pwflow_core.pipeline.scoring.densities import UNREADABLE_STEP
from pwflow_core.pipeline.scoring.scores import SCORES_STEP
from pwflow_core.pipeline.source.source import read_source
from pwflow_core.plant import Plant
from pwflow_core.warehouse import PUBLIC_TABLES, fetch_value, read_sql, utc_now
from pwflow_core.warehouse.progress import read_progress

__all__ = ["CheckResult", "check_scores", "explain_failed_checks", "refuse_failed_checks"]

_LARGEST_DISTANCE = 0.1
_DISTANCE_FACTOR = 2.5
_ROUNDING = 1e-9
_SILENCE_CHANCE = 0.001
_STOPPING = f"({', '.join(map(str, STOPPING_FOLDS))})"

Figures = dict[str, str | int | float]


@dataclass(frozen=True)
class CheckResult:
    """What a check found.

    Attributes:
        name: The check.
        passed: Whether what must hold does hold.
        is_blocking: Whether nothing may be published where it does not.
        sentence: What was found, and what to do if it failed.
        figures: The numbers behind it.
    """

    name: str
    passed: bool
    is_blocking: bool
    sentence: str
    figures: Figures = field(default_factory=dict)


Finding = tuple[bool, str, Figures]
"""Whether what must hold does hold, the sentence, and the numbers behind it."""


def check_scores(plant: Plant) -> list[CheckResult]:
    """Run every check on the scores as they are now.

    Raises:
        NotFittedError: The plant has not been run yet.
    """
    with plant.warehouse.snapshot() as connection:
        return _run(plant, connection, CHECKS)


def refuse_failed_checks(plant: Plant, connection: duckdb.DuckDBPyConnection, checks: Sequence[Check] = CHECKS) -> None:
    """Run the blocking checks on the snapshot that is about to be published.

    Arguments:
        plant: The plant.
        connection: The snapshot.
        checks: Which; `SCHEMA_CHECK` alone is quick.

    Raises:
        ChecksFailedError: One of them failed; the message says what to do.
    """
    results = _run(plant, connection, [check for check in checks if check.is_blocking])
    if failed := [result.sentence for result in results if result.is_blocking and not result.passed]:
        raise ChecksFailedError(explain_failed_checks(failed))


def _run(plant: Plant, connection: duckdb.DuckDBPyConnection, checks: Sequence[Check]) -> list[CheckResult]:
    """Run the check of the schema, and the others if they find the columns that they look at."""
    results: list[CheckResult] = []
    for check in checks:
        if any(result.name == SCHEMA_CHECK.name and not result.passed for result in results):
            reason = "Not run, because the columns are not those of the contract."
            results.append(CheckResult(check.name, False, False, reason))
            continue
        passed, sentence, figures = _FUNCTIONS[check.name](plant, connection)
        results.append(CheckResult(check.name, passed, check.is_blocking, sentence, figures))
    return results


def explain_failed_checks(sentences: list[str]) -> str:
    """Return what blocking checks said, with what follows from it."""
    return f"{' '.join(sentences)} Nothing was published: what was published before stays in use."


def rows_balance(plant: Plant, connection: duckdb.DuckDBPyConnection) -> Finding:
    """Check that every row that arrived is scored, unjudged or rejected, exactly once, in each file and in all.

    A reading that arrived after the last scoring run is `waiting`, not lost.
    """
    values = {
        "seen": int(read_progress(connection, READINGS_STEP).model or 0),
        "derived": read_progress(connection, SCORES_STEP).batch_id,
    }
    is_paired = _are_paired(connection, values["derived"])
    judged = read_sql(__package__, "checks_paired.sql" if is_paired else "checks_judged.sql")
    files = connection.execute(read_sql(__package__, "checks_balance.sql", judged=judged), values).fetchall()
    wrong = [path for path, *_, is_balanced in files if not is_balanced]
    names = ("ingested", "scored", "unjudged", "waiting", "merged", "rejected", "removed", "lost", "scored twice")
    totals: Figures = {
        name: int(total) for name, total in zip(names, np.sum([row[1:-1] for row in files], axis=0), strict=True)
    }
    orphans = 0
    if is_paired:
        n_unjudged = fetch_value(connection, "SELECT count(*) FROM mart.anomaly_scores WHERE status <> 'scored'")
        totals |= {"scored": int(totals["scored"]) - n_unjudged, "unjudged": n_unjudged}
    else:
        query = "SELECT count(*) FROM mart.anomaly_scores ANTI JOIN core.readings USING (reading_id)"
        orphans = fetch_value(connection, query)
    sums = ", ".join(f"{totals[name]:,} {name}" for name in names[1:])
    sentence = f"{totals['ingested']:,} rows were ingested: {sums}; {orphans:,} scores have no reading."
    if wrong or orphans:
        where = f" They do not balance in {list_few(wrong)}." if wrong else ""
        sentence += f"{where} Materialize readings, cluster_assignments, component_log_density and anomaly_scores."
    figures = totals | {"scores without a reading": orphans, "files": len(files), "files out of balance": len(wrong)}
    return not wrong and not orphans, sentence, figures


def _are_paired(connection: duckdb.DuckDBPyConnection, derived: int) -> bool:
    """Return whether the readings up to a batch have one score each: as many, and with the same sum of hashes."""
    query = "SELECT count(*), sum(hash(reading_id)) FROM {}"
    readings = connection.execute(query.format("core.readings WHERE batch_id <= ?"), [derived]).fetchall()
    return readings == connection.execute(query.format("mart.anomaly_scores")).fetchall()


def p_values_are_uniform(plant: Plant, connection: duckdb.DuckDBPyConnection) -> Finding:
    """Check that p-values within regimes are what they are called, on readings that no training saw.

    Each calibration fold is judged by a calibration on the other one, which says whether p-values hold for readings
    that they were not made from. Both folds by the calibration in use say whether it belongs to the scores at all. What
    is published says how far a regime lies below the others too, which only makes it smaller.

    Tolerance: the Kolmogorov-Smirnov distance from uniform is at most the larger of 0.1 and 2.5 sqrt(1/a + 1/b), with
    a and b the time blocks of the two folds, or 2.5 / sqrt(a + b) of both. The readings of a machine in one time block
    are worth one, because they are autocorrelated: that many independent ones are that far off by chance in less than
    one of a thousand regimes. The tenth leaves room for the faults that training data hold.
    """
    figures: Figures = {}
    wrong, n_told, n_untold = [], 0, 0
    for key, readings in _fetch_unseen(plant, connection):
        measured = _measure_distances(readings)
        distance, tolerance = max(measured, key=lambda found: found[0] / found[1])
        if distance > tolerance:
            wrong.append(f"{key} ({distance:.2f} where {tolerance:.2f} is tolerated, {len(readings):,} readings)")
        is_told = all(tolerance < 1 for _, tolerance in measured)  # no distance is as large
        n_told, n_untold = n_told + is_told, n_untold + (not is_told)
        figures[f"distance in {key}"] = round(float(distance), 4)
        figures[f"tolerance in {key}"] = round(float(tolerance), 4)
    if wrong:
        sentence = (
            f"The p-values of held-out normal readings are not uniform in {list_few(wrong)}: "
            "materialize cluster_flow of those regimes again, which calibrates them again."
        )
    else:
        sentence = (
            f"The p-values of held-out normal readings are uniform within tolerance in {n_told} regimes; "
            f"{n_untold} have too few to tell."
        )
    return not wrong, sentence, figures


def _fetch_unseen(plant: Plant, connection: duckdb.DuckDBPyConnection) -> list[tuple[str, pd.DataFrame]]:
    """Return the readings of the calibration folds of each regime.

    With fold, block, conformity, the p-value within the regime, and the one that is `published`.
    """
    block_seconds = read_block_seconds(connection)
    texts = connection.execute(
        "SELECT DISTINCT training_window FROM mart.flow_versions SEMI JOIN mart.anomaly_scores "
        "USING (cluster_key, flow_version) ORDER BY training_window"
    ).fetchall()
    found: list[tuple[str, pd.DataFrame]] = []
    for (text,) in texts:
        window = TrainingWindow.from_json(text, plant.config).readings
        script = read_sql(
            __package__,
            "checks_uniform.sql",
            training_rows=select_training_rows(window),
            folds=str(CALIBRATION_FOLDS),
        )
        values = training_window(window) | {"block_seconds": block_seconds, "training_window": text}
        rows = connection.execute(script, values).df()
        for (key, version), of_flow in rows.groupby(["cluster_key", "flow_version"]):
            calibration = load_calibration(connection, str(key), str(version))
            if calibration is not None:
                found.append((str(key), of_flow.assign(p_value=calibration.p_values(of_flow.conformity))))
    return sorted(found, key=lambda of: of[0])


def _measure_distances(readings: pd.DataFrame) -> list[tuple[float, float]]:
    """Return how far p-values of a regime are from uniform, and how far they may be, for each way to look at them."""
    n_blocks = readings.groupby("fold").block.nunique()
    of_both = _DISTANCE_FACTOR / np.sqrt(n_blocks.sum())
    measured = [(distance_from_uniform(readings.p_value), of_both)]
    largest = largest_merged(readings.p_value.to_numpy()) + LARGEST_CHANCE
    if (readings.published > largest * (1 + _ROUNDING)).any():
        measured.append((1.0, of_both))  # they do not come from these scores
    if len(n_blocks) > 1:
        tolerance = _DISTANCE_FACTOR * np.sqrt((1 / n_blocks).sum())
        folds = [fold for _, fold in readings.groupby("fold")]
        for calibrating, tested in itertools.permutations(folds, 2):
            p_value = calibrate(calibrating.conformity, blocks=calibrating.block).p_values(tested.conformity)
            measured.append((distance_from_uniform(p_value), tolerance))
    return [(distance, max(_LARGEST_DISTANCE, float(tolerance))) for distance, tolerance in measured]


def schema_is_unchanged(plant: Plant, connection: duckdb.DuckDBPyConnection) -> Finding:
    """Check that the tables about to be published have the columns and types of the contract."""
    contract = _contract()
    tables = dict.fromkeys(key[:2] for key in contract)
    sensors = {("core", "readings", sensor.name): "DOUBLE" for sensor in read_source(connection).sensors}
    promised = contract | sensors
    found = _columns(connection)
    wrong = [
        f"{'.'.join(key)} is {found.get(key, 'missing')} instead of {kind}"
        for key, kind in promised.items()
        if found.get(key) != kind
    ]
    wrong += [f"{'.'.join(key)} is not one of its columns" for key in found if key not in promised and key[0] == "mart"]
    sentence = f"{len(tables)} tables have the columns and types of the contract."
    if wrong:
        sentence = f"The tables differ from the contract: {list_few(wrong)}. Put the columns back as they were."
    figures: Figures = {"columns": len(promised), "columns that differ": len(wrong)}
    return not wrong, sentence, figures


@cache
def _contract() -> dict[tuple[str, str, str], str]:
    """Return the type of each column that is published, without the sensors, by schema, table and column."""
    with duckdb.connect(":memory:") as contract:
        contract.execute(read_sql("pwflow_core.warehouse", "schema.sql"))
        return _columns(contract)


def _columns(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, str, str], str]:
    rows = connection.execute(
        "SELECT schema_name, table_name, column_name, data_type FROM duckdb_columns() "
        "WHERE database_name = current_database() AND (schema_name = 'mart' AND list_contains($tables, table_name) "
        "OR schema_name = 'core' AND table_name = 'readings') ORDER BY ALL",
        {"tables": list(PUBLIC_TABLES)},
    ).fetchall()
    return {(schema, table, column): kind for schema, table, column, kind in rows}


def model_sets_agree(plant: Plant, connection: duckdb.DuckDBPyConnection) -> Finding:
    """Check that every score comes from one model set, and that all of them could be made again by the one in use."""
    found = dict(connection.execute(read_sql(__package__, "checks_model_sets.sql")).fetchall())
    wrong = {problem: count for problem, count in found.items() if count}
    sentence = "Every score comes from flows that were pinned together."
    if wrong:
        problems = list_few([f"{count:,} readings were {problem}" for problem, count in wrong.items()])
        sentence = f"{problems}: materialize component_log_density and anomaly_scores of all regimes."
        sentence = sentence[0].upper() + sentence[1:]
    return not wrong, sentence, found


def alarms_within_budget(plant: Plant, connection: duckdb.DuckDBPyConnection) -> Finding:
    """Warn of a regime that alarmed more than ten times as often as alpha allows, in a night that was just scored."""
    values = {"timezone": plant.config.schedule.timezone}
    nights = connection.execute(read_sql(__package__, "checks_alarms.sql"), values).fetchall()
    described = [
        f"{key} on {night} ({n_alarms:,} of {n_scored:,} readings, alpha = {alpha:g})"
        for night, key, n_scored, n_alarms, alpha in sorted(nights, key=lambda row: (row[0], row[3]), reverse=True)
    ]
    sentence = "No regime alarmed more than ten times as often as alpha allows."
    if described:
        sentence = (
            f"More than ten times the alarms that alpha allows: {list_few(described)}. A fault, or a regime that has "
            "changed: look at them."
        )
    return not described, sentence, {"nights of a regime above the budget": len(described)}


def alarms_not_too_few(plant: Plant, connection: duckdb.DuckDBPyConnection) -> Finding:
    """Warn of a regime with fewer alarms than normal readings alone should give: it will miss faults, too.

    Tolerance: with m independent readings, chance alone gives so few alarms, by the Poisson distribution with mean
    alpha m, in less than one of a thousand regimes.
    """
    regimes = connection.execute(read_sql(__package__, "checks_silence.sql", folds=_STOPPING)).fetchall()
    described = [
        f"{key} ({n_alarms:,} of {n_scored:,} readings, where alpha = {alpha:g} lets expect {alpha * n_scored:,.0f})"
        for key, n_scored, n_alarms, alpha, independent in regimes
        if poisson.cdf(n_alarms * independent, alpha * n_scored * independent) < _SILENCE_CHANCE
    ]
    sentence = "No regime has fewer alarms than alpha lets expect of normal readings."
    if described:
        sentence = (
            f"Fewer alarms than normal readings alone should give: {list_few(described)}. Such a regime misses faults: "
            "`pwflow status` says what it does not see; look for a fault in the time that it was calibrated on."
        )
    return not described, sentence, {"regimes with too few alarms": len(described)}


def sensors_as_fine_as_learned(plant: Plant, connection: duckdb.DuckDBPyConnection) -> Finding:
    """Warn of sensors that come in larger steps than those that the models learned from."""
    found = find_coarser(connection)
    described = [
        f"{sensor.sensor} of {sensor.machine_id} (steps of {sensor.step:.3g} {sensor.unit}".rstrip()
        + (f", learned from steps of {sensor.learned:.3g})" if sensor.learned else ", learned from finer readings)")
        for sensor in found
    ]
    sentence = "Every sensor comes in steps as fine as those that were learned from."
    if described:
        sentence = (
            f"Coarser than what was learned from: {list_few(described)}. Rounding alone can make such readings alarm: "
            "have them exported with all their digits, or retrain on readings that are as coarse."
        )
    return not found, sentence, {"sensors that came coarser": len(found)}


def storage_is_whole(plant: Plant, connection: duckdb.DuckDBPyConnection) -> Finding:
    """Warn of model files that cannot be used, and of what the warehouse was found to lack in the last day."""
    keys = [
        row[0]
        for row in connection.execute(
            "SELECT cluster_key FROM core.progress WHERE step = ? ORDER BY cluster_key", [UNREADABLE_STEP]
        ).fetchall()
    ]
    since = utc_now() - timedelta(days=1)
    losses = [
        row[0]
        for row in connection.execute(
            "SELECT what FROM core.recoveries WHERE noticed_at > ? ORDER BY noticed_at", [since]
        ).fetchall()
    ]
    sentence = "Every model file can be used, and the warehouse holds what was written into it."
    if keys:
        losses.insert(
            0,
            f"The model file of {list_few(keys)} cannot be used, and new readings there are not judged: restore it "
            "from a backup, or materialize its partition of cluster_flow.",
        )
    if losses:
        sentence = " ".join(losses)
    figures: Figures = {
        "model files that cannot be used": len(keys),
        "losses of the last day": len(losses) - bool(keys),
    }
    return not losses, sentence, figures


_FUNCTIONS: Mapping[str, Callable[[Plant, duckdb.DuckDBPyConnection], Finding]] = {
    function.__name__: function
    for function in (
        schema_is_unchanged,
        rows_balance,
        model_sets_agree,
        p_values_are_uniform,
        alarms_within_budget,
        alarms_not_too_few,
        sensors_as_fine_as_learned,
        storage_is_whole,
    )
}
