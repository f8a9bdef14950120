"""Changes of the regimes that need no new clustering: one that a person approved is added, or their shares change.

Means and covariances of the regimes that there are stay untouched, and with them their flows and their slices.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pwflow_core.config import TrainingConfig
from pwflow_core.errors import RegimeError, TooFewReadingsError
from pwflow_core.modelling.clustering import fit_clusters
from pwflow_core.modelling.seeds import ClusterSeeds
from pwflow_core.modelling.settings import FitSettings
from pwflow_core.pipeline.decisions.kinds import kinds_where
from pwflow_core.pipeline.decisions.verdicts import StoredVerdict, read_verdict
from pwflow_core.pipeline.readings.folds import TRAINING_FOLDS
from pwflow_core.pipeline.readings.nights import begin_of
from pwflow_core.pipeline.readings.recurrence import decide_stretch, read_stretch, record_decision
from pwflow_core.pipeline.readings.training_rows import select_training_rows, training_window
from pwflow_core.pipeline.regimes.in_force import ModelChange, minted_keys, put_model_in_force
from pwflow_core.pipeline.regimes.matching import Relation
from pwflow_core.pipeline.regimes.model import ClusterModel, SegmentClusters, load_cluster_model
from pwflow_core.plant import Plant
from pwflow_core.warehouse import fetch_value, quote_columns, registered
from pwflow_core.warehouse.streaming import fetch_matrix

__all__ = ["Period", "add_regime", "approve_stretch", "approve_verdict", "reweigh_regimes", "update_weights"]

_log = logging.getLogger("pwflow.regimes")

_IMPROBABLE = 0.01
_SHARES = (0.001, 0.5)


@dataclass(frozen=True)
class Period:
    """A time of a machine, UTC, both ends included."""

    machine_id: str
    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True, eq=False)
class _Found:
    """Readings of a new regime: those to learn from, their number with those held out, and their share."""

    X: NDArray[np.float64]
    n_rows: int
    share: float


def add_regime(plant: Plant, segment: str, periods: Sequence[Period], *, approved_by: str, reason: str) -> str:
    """Add a regime that a person approved to a segment, and return its key.

    It is learned from the readings of the periods that are improbable in the regimes that there are: p at most .01.
    Its weight is their share of the readings of the segment from the first period to the end of the last; the weights
    of the others make room in proportion. Only the new regime needs assignments, a flow and a slice then.

    Arguments:
        plant: The plant.
        segment: The process condition.
        periods: When the regime was seen, on which machines.
        approved_by: Who approved it.
        reason: Why.

    Raises:
        RegimeError: The periods hold too few such readings, or another run changed the regimes meanwhile.
        NotFittedError: There are no regimes yet.
    """
    return _add_regimes(plant, {segment: periods}, approved_by, reason)[0]


def approve_verdict(
    plant: Plant, verdict_id: str, *, approved_by: str, reason: str = "", run_id: str | None = None
) -> list[str]:
    """Approve a verdict that proposes a new regime; return the keys of the regimes that are added.

    There is one for each segment of the regimes that the verdict names, if it holds enough readings. The verdict is
    marked as done in the same transaction.

    Arguments:
        plant: The plant.
        verdict_id: The verdict.
        approved_by: Who approved it.
        reason: Why; the summary of the verdict if empty.
        run_id: The run in which this happens; None outside of runs.

    Raises:
        UnknownVerdictError: No verdict has this id, or it does not propose a new regime.
        RegimeError: It has been answered already, or there are too few readings of such a regime.
    """
    with plant.warehouse.snapshot() as connection:
        verdict = read_verdict(connection, verdict_id, kinds_where("is_proposal"))
        if verdict.status in ("done", "dismissed"):
            raise RegimeError(
                f"The verdict {verdict_id!r} is {verdict.status} already: there is nothing left to approve."
            )
        segments = connection.execute(
            "SELECT DISTINCT segment FROM mart.clusters "
            "WHERE len($keys::VARCHAR[]) = 0 OR list_contains($keys, cluster_key) ORDER BY segment",
            {"keys": list(verdict.cluster_keys)},
        ).fetchall()
        start = begin_of(verdict.since or verdict.night, plant.config.schedule.timezone)
        spans = connection.execute(
            "SELECT machine_id, $start, max(ts) FROM core.readings WHERE ts >= $start "
            "AND (len($machines::VARCHAR[]) = 0 OR list_contains($machines, machine_id)) GROUP BY machine_id "
            "ORDER BY machine_id",
            {"start": start, "machines": list(verdict.machine_ids)},
        ).fetchall()
    periods = [Period(*span) for span in spans]
    found = {str(segment): periods for (segment,) in segments}
    return _add_regimes(plant, found, approved_by, reason or verdict.summary, verdict_id, run_id)


def approve_stretch(
    plant: Plant, stretch_id: str, *, approved_by: str, reason: str = "", run_id: str | None = None
) -> list[str]:
    """Record that an unusual stretch of the history is normal; return the keys of the regimes that are added for it.

    It gets a regime of its own, recorded with it in one transaction, if it holds enough readings that are improbable in
    those that there are. If not, no key is returned, and its readings are learned from with the others when the regimes
    are found the next time.

    Raises:
        UnknownStretchError: No stretch has this id.
        NotFittedError: There are no regimes yet.
        RegimeError: Another run changed the regimes meanwhile; nothing is recorded.
    """
    with plant.warehouse.snapshot() as connection:
        stretch = read_stretch(connection, stretch_id)
    if stretch.cluster_key is not None:
        decide_stretch(plant, stretch_id, is_normal=True, decided_by=approved_by, reason=reason, run_id=run_id)
        return [stretch.cluster_key]

    def settle(keys: Sequence[str], connection: duckdb.DuckDBPyConnection) -> None:
        record_decision(
            connection,
            stretch_id,
            is_normal=True,
            decided_by=approved_by,
            reason=reason,
            run_id=run_id,
            cluster_key=keys[0],
        )

    found = {stretch.segment: [Period(stretch.machine_id, stretch.started_at, stretch.ended_at)]}
    try:
        return _add_regimes(plant, found, approved_by, reason or stretch_id, settle=settle)
    except TooFewReadingsError as error:
        _log.info("no regime of its own for %s: %s", stretch_id, error)
    decide_stretch(plant, stretch_id, is_normal=True, decided_by=approved_by, reason=reason, run_id=run_id)
    return []


def update_weights(
    plant: Plant,
    segment: str,
    weights: Mapping[str, float],
    *,
    decided_by: str,
    reason: str,
    verdict_id: str | None = None,
    run_id: str | None = None,
) -> str:
    """Change the shares of the regimes of a segment, and nothing else; return the id of the new cluster model.

    No flow is trained and no slice is made: only the scores are derived again.

    Arguments:
        plant: The plant.
        segment: The process condition.
        weights: New share of each of its regimes, above 0; brought to a sum of 1.
        decided_by: Who or what decides.
        reason: Why.
        verdict_id: The verdict of drift that this answers; it is marked as done in the same transaction.
        run_id: The run in which this happens; None outside of runs.

    Raises:
        RegimeError: The weights are not those of the regimes of the segment, or not above 0.
        NotFittedError: There are no regimes yet.
    """
    model_id, model = load_cluster_model(plant)
    part = _locate_segment(model, segment)
    keys = part.keys if part else ()
    if part is None or set(weights) != set(keys):
        raise RegimeError(
            f"Expected a weight for each regime of segment {segment!r} ({', '.join(keys) or 'it has none'}), got "
            f"weights for {', '.join(sorted(weights)) or 'none'}: name each of them once."
        )
    values = np.array([weights[key] for key in keys], dtype=np.float64)
    if not np.isfinite(values).all() or not (values > 0).all():
        raise RegimeError(f"Expected weights above 0, got {dict(weights)}: retire a regime by finding them again.")
    seeds = replace(part.seeds, weights=values / values.sum())
    changed = _with_segment(model, SegmentClusters(segment, keys, seeds))
    return _put(plant, model_id, changed, decided_by, reason, verdict_id, run_id)


def reweigh_regimes(plant: Plant, verdict: StoredVerdict, *, decided_by: str, run_id: str | None = None) -> str:
    """Give the regimes of a segment the shares that they have had since their mix moved; return the new cluster model.

    Raises:
        NotFittedError: There are no regimes yet.
        UnknownClusterError: A regime of the verdict is not in use any more.
    """
    _, model = load_cluster_model(plant)
    part = model.locate(verdict.cluster_keys[0])[0]
    with plant.warehouse.snapshot() as connection:
        counted = connection.execute(
            "SELECT cluster_key, count(*) FROM mart.anomaly_scores WHERE status = 'scored' AND segment = $segment "
            "AND night_of(ts, $timezone) >= $since GROUP BY cluster_key",
            {"segment": part.segment, "timezone": plant.config.schedule.timezone, "since": verdict.since},
        ).fetchall()
    readings = dict(counted)
    total = sum(readings.get(key, 0) for key in part.keys)
    # a regime that pauses may come again: it keeps a small share
    weights = {key: max(readings.get(key, 0), _SHARES[0] * total, 1) for key in part.keys}
    return update_weights(
        plant,
        part.segment,
        weights,
        decided_by=decided_by,
        reason=verdict.summary,
        verdict_id=verdict.verdict_id,
        run_id=run_id,
    )


def _add_regimes(
    plant: Plant,
    found: Mapping[str, Sequence[Period]],
    approved_by: str,
    reason: str,
    verdict_id: str | None = None,
    run_id: str | None = None,
    settle: Callable[[Sequence[str], duckdb.DuckDBPyConnection], None] | None = None,
) -> list[str]:
    model_id, model = load_cluster_model(plant)
    needed = max(30, 2 * (len(model.columns) + 1), 5 * plant.config.scoring.min_calibration_rows)
    with plant.warehouse.snapshot() as connection:
        used = [row[0] for row in connection.execute("SELECT cluster_key FROM mart.clusters").fetchall()]
        readings = {segment: _fetch(connection, model, segment, periods) for segment, periods in found.items()}
    mint, keys, since = minted_keys(used), [], {}
    for segment, rows in readings.items():
        if rows.n_rows >= needed:
            key = next(mint)
            keys.append(key)
            since[key] = min(period.started_at for period in found[segment])
            model = _with_segment(model, _with_regime(plant, model, segment, key, rows))
    if not keys:
        most = max((rows.n_rows for rows in readings.values()), default=0)
        raise TooFewReadingsError(
            f"Expected at least {needed} complete readings that are improbable in the regimes that there are, got at "
            f"most {most} in a segment: wait for more, or name a longer time or more machines."
        )
    relations = [Relation(key, None, None, "new") for key in keys]
    n_rows = sum(len(rows.X) for rows in readings.values())
    recording = None if settle is None else partial(settle, keys)
    _put(
        plant,
        model_id,
        model,
        approved_by,
        reason,
        verdict_id,
        run_id,
        relations=relations,
        n_rows=n_rows,
        found_from=since,
        settle=recording,
    )
    _log.info("%s added by %s (%s)", ", ".join(keys), approved_by, reason)
    return keys


def _fetch(
    connection: duckdb.DuckDBPyConnection, model: ClusterModel, segment: str, periods: Sequence[Period]
) -> _Found:
    """Fetch the readings of the periods that are improbable in their regime, and how many there are beside others."""
    if not periods:
        return _Found(np.empty((0, len(model.columns))), 0, 0.0)
    everything = TrainingConfig()
    eligible = select_training_rows(everything, with_unusual=True)
    rows = (
        f"({eligible}) AS reading JOIN mart.anomaly_scores AS score USING (reading_id) "
        "SEMI JOIN periods ON periods.machine_id = reading.machine_id "
        "AND reading.ts BETWEEN periods.started_at AND periods.ended_at "
        f"WHERE reading.segment = $segment AND (score.p_value <= {_IMPROBABLE} OR score.cluster_key IS NULL)"
    )
    values = training_window(everything) | {"segment": segment}
    learnable = (
        f"SELECT {quote_columns(model.columns, 'reading.')} FROM {rows} AND fold IN {TRAINING_FOLDS} "
        "ORDER BY reading.machine_id, reading.ts"
    )
    beside = (
        f"SELECT count(*) FROM ({eligible}) WHERE segment = $segment "
        "AND ts BETWEEN (SELECT min(started_at) FROM periods) AND (SELECT max(ended_at) FROM periods)"
    )
    with registered(connection, periods=pd.DataFrame([vars(period) for period in periods])):
        X, _ = fetch_matrix(connection, learnable, values, model.columns)
        n_rows = fetch_value(connection, f"SELECT count(*) FROM {rows}", values)
        n_all = fetch_value(connection, beside, values)
    return _Found(X, n_rows, n_rows / max(n_all, 1))


def _with_regime(plant: Plant, model: ClusterModel, segment: str, key: str, rows: _Found) -> SegmentClusters:
    """Return the segment with one more regime, a Gaussian of its readings."""
    with threadpool_limits(plant.config.compute.threads):
        found = fit_clusters(rows.X, FitSettings(1, random_state=plant.config.clustering.random_state))
    part = _locate_segment(model, segment)
    if part is None:
        return SegmentClusters(segment, (key,), replace(found, method=plant.config.clustering.method))
    share = float(np.clip(rows.share, *_SHARES))
    seeds = ClusterSeeds(
        method=part.seeds.method,
        weights=np.append((1 - share) * part.seeds.weights, share),
        means=np.concatenate([part.seeds.means, found.means]),
        covariances=np.concatenate([part.seeds.covariances, found.covariances]),
        scale=part.seeds.scale,
    )
    return SegmentClusters(segment, (*part.keys, key), seeds)


def _locate_segment(model: ClusterModel, segment: str) -> SegmentClusters | None:
    return next((part for part in model.segments if part.segment == segment), None)


def _with_segment(model: ClusterModel, changed: SegmentClusters) -> ClusterModel:
    others = [part for part in model.segments if part.segment != changed.segment]
    return ClusterModel(model.columns, tuple(sorted([*others, changed], key=lambda part: part.segment)))


def _put(
    plant: Plant,
    replaced: str,
    model: ClusterModel,
    made_by: str,
    reason: str,
    verdict_id: str | None,
    run_id: str | None,
    *,
    relations: Sequence[Relation] = (),
    n_rows: int = 0,
    found_from: dict[str, datetime] | None = None,
    settle: Callable[[duckdb.DuckDBPyConnection], None] | None = None,
) -> str:
    """Put a model in use under the settings of the one before, so that no later run takes it for outdated."""
    with plant.warehouse.snapshot() as connection:
        row = connection.execute(
            "SELECT settings, n_rows FROM core.cluster_models WHERE cluster_model_id = ?", [replaced]
        ).fetchone()
    settings, n_before = row or ("{}", 0)
    change = ModelChange(
        model,
        replaced,
        frozenset(),
        relations,
        settings,
        n_before + n_rows,
        made_by,
        reason,
        found_from or {},
        verdict_id,
        run_id,
        settle,
    )
    return put_model_in_force(plant, change)[0]
