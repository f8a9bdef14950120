"""Flows: train the density of each cluster on its readings, store it by hash, put it in use if it proves itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from pwflow_core.config import PlantConfig
from pwflow_core.errors import NotFittedError
from pwflow_core.modelling.fleet import Fleet
from pwflow_core.pace import Pace
from pwflow_core.pipeline.decisions.verdicts import moved_since
from pwflow_core.pipeline.flows.challenges import FEWEST_BLOCKS, NOT_FINITE, challenge_champion, load_champion
from pwflow_core.pipeline.flows.fleet import correct_rows, derive_fleet, read_fleet, read_suspects
from pwflow_core.pipeline.flows.registering import TrainedFlow, changed_regimes, register_flows
from pwflow_core.pipeline.flows.registry import FlowDecision, version_in_force
from pwflow_core.pipeline.flows.training_sets import RegimeRows, TrainingWindow, count_flagged, count_rows, fetch_rows
from pwflow_core.pipeline.readings.folds import CALIBRATION_FOLDS, TRAINING_FOLDS
from pwflow_core.pipeline.regimes.model import ClusterModel, check_cluster_keys, load_cluster_model
from pwflow_core.plant import Plant
from pwflow_core.warehouse import utc_now

if TYPE_CHECKING:
    from pwflow_core.modelling import ClusterFlow, ClusterRows, FlowSettings, TrainingHistory, TrainingProgress

__all__ = ["FlowSummary", "Objection", "clusters_without_flow", "retraining_starts", "train_cluster_flows"]

_log = logging.getLogger("pwflow.flows")

Objection = Callable[[Plant, str, "ClusterFlow", TrainingWindow, Fleet | None], str]
"""From a plant, a regime, a new flow, what that could learn from and its fleet to a reason against it, or none."""


@dataclass(frozen=True, eq=False)
class FlowSummary:
    """What training one flow came to.

    Attributes:
        flow_version: SHA-256 of the model file, which holds what scores: equal flows have one version.
        n_rows: Readings that it learned from.
        n_held_out: Readings that stopped the training.
        held_out_log_density: Their mean log-density in nats, raw units; NaN if there were none.
        history: The training curve.
        is_gaussian: Whether the regime stayed a Gaussian.
        decision: Whether it came into use, and why.
    """

    flow_version: str
    n_rows: int
    n_held_out: int
    held_out_log_density: float
    history: TrainingHistory
    is_gaussian: bool
    decision: FlowDecision


def clusters_without_flow(plant: Plant) -> list[str]:
    """Return the keys of the regimes in use without a flow, or with one from before their readings changed."""
    with plant.warehouse.snapshot() as connection:
        rows = connection.execute(
            "SELECT cluster_key FROM mart.clusters WHERE status = 'active' AND cluster_key NOT IN "
            "(SELECT cluster_key FROM mart.flow_versions WHERE in_force) ORDER BY cluster_key"
        ).fetchall()
        return sorted({row[0] for row in rows} | changed_regimes(connection))


def retraining_starts(plant: Plant, keys: list[str]) -> dict[str, datetime]:
    """Return from when on regimes learn, UTC, of which an open verdict says that they moved.

    Only of those that have a flow for their readings: a first one learns from all of `[training]`.
    """
    return moved_since(plant, list(_champions(plant, keys)))


def train_cluster_flows(
    plant: Plant,
    keys: list[str] | None = None,
    *,
    reason: str,
    promoted_by: str,
    learn_from: Mapping[str, datetime] | None = None,
    challenge: bool = True,
    object_to: Objection | None = None,
    run_id: str | None = None,
) -> dict[str, FlowSummary]:
    """Train the flows of some clusters together and put those in use that prove themselves.

    The first flow of a regime, or the first one since its readings changed, comes into use. Any other one is
    compared with the flow in use on held-out readings, see `challenges`. One that does not come into use is
    registered all the same, and can be promoted by a person.

    Arguments:
        plant: The plant.
        keys: Cluster keys; all in use if None.
        reason: Why, for the registry.
        promoted_by: Who or what, for the registry.
        learn_from: From when on some of the regimes learn, UTC, by cluster key: up to now instead of the window of
            `[training]`, without the anomalies in alarm events that nobody has confirmed as normal. A new flow of
            these has to be better by `drift.min_gain`, not only no worse. `retraining_starts` has what open verdicts
            ask for.
        challenge: Whether a flow has to prove itself against the one in use at all.
        object_to: Says why a flow must not take the place of the one in use although it describes readings well
            enough; an empty text if nothing speaks against it.
        run_id: The run in which this happens, for the registry; None outside of runs.

    Raises:
        UnknownClusterError: A key is not in use.
        NotFittedError: There are no regimes, readings have not been assigned to them yet, or there are too few since
            `learn_from`.
    """
    from pwflow_core.modelling import FlowSettings, train_flows

    started = utc_now()
    model_id, model = load_cluster_model(plant)
    keys = check_cluster_keys(model.keys, keys)
    in_force = _champions(plant, keys)
    starts = learn_from or {}
    windows = _windows(plant, keys, starts)
    fleets: dict[str, Fleet | None] = {}
    sets = {}
    for key in keys:
        sets[key], fleets[key] = _training_set(plant, model, key, windows[key], in_force.get(key))
    if empty := [key for key, rows in sets.items() if not len(rows.X)]:
        raise NotFittedError(
            f"Cluster {', '.join(empty)} has no readings to learn from: materialize its cluster_assignments "
            "partition first, or widen [training] in pwflow.toml."
        )
    for key in starts:
        _refuse_too_few(plant, key, windows[key], sets[key])
    _warn_where_nothing_is_new(plant, sets, in_force)
    if stray := sorted(set(plant.config.flow.clusters) - set(model.keys)):
        _log.warning("[flow.clusters] names %s, which is not a regime in use: it has no effect", ", ".join(stray))
    settings = {key: FlowSettings(**_flow_settings(plant.config, key)) for key in keys}
    champions = in_force if challenge else {}
    begun = {key: load_champion(plant, key, in_force[key], len(model.columns)) for key in starts if key in in_force}
    rows = [_split(model, key, training, begun.get(key)) for key, training in sets.items()]
    _log.info("training %d flows on %s readings", len(keys), f"{sum(len(r.X) for r in rows):,}")
    flows = train_flows(
        rows, list(settings.values()), random_state=plant.config.flow.random_state, on_progress=_follow(settings)
    )
    trained = {}
    for key, flow in zip(keys, flows, strict=True):
        champion, version = champions.get(key), plant.models.put(flow.to_bytes())
        held_out, outcome = _summarise(flow, sets[key]), NOT_FINITE
        if np.isfinite(held_out) or not sets[key].n_held_out:
            outcome = challenge_champion(
                plant, model, key, flow, version, windows[key], champion, fleets[key], is_refit=key in starts
            )
        if object_to and outcome.is_won and champion not in (None, version):
            objection = object_to(plant, key, flow, windows[key], fleets[key])
            outcome = replace(outcome, is_won=False, sentence=objection) if objection else outcome
        trained[key] = TrainedFlow(
            flow=flow,
            version=version,
            settings=settings[key],
            started_from=in_force[key] if begun.get(key) is not None else None,
            window=windows[key],
            rows=sets[key],
            fleet=fleets[key],
            held_out_log_density=held_out,
            champion=champion,
            challenge=outcome,
        )
        history = flow.history
        _log.info(
            "%s: held-out log-density %.3f nats after %d steps (%s)", key, held_out, history.best_step, history.stopped
        )
    decisions = register_flows(plant, model_id, model, trained, reason, promoted_by, started, run_id)
    return {
        key: FlowSummary(
            made.version,
            made.rows.n_learned,
            made.rows.n_held_out,
            made.held_out_log_density,
            made.flow.history,
            made.flow.is_gaussian,
            decisions[key],
        )
        for key, made in trained.items()
    }


def _follow(settings: Mapping[str, FlowSettings]) -> Callable[[TrainingProgress], None]:
    """Return what follows a training in the log."""
    pace = Pace(_log, "gradient steps", sum(each.max_steps for each in settings.values()), may_end_early=True)
    done: dict[int, int] = {}

    def follow(progress: TrainingProgress) -> None:
        pace.advance(progress.step - done.get(progress.cluster, 0))
        done[progress.cluster] = progress.step

    return follow


def _champions(plant: Plant, keys: list[str]) -> dict[str, str]:
    """Return the flow in use of each regime that has one for its readings as they are now."""
    with plant.warehouse.snapshot() as connection:
        changed = changed_regimes(connection)
        found = {key: version_in_force(connection, key) for key in keys if key not in changed}
    return {key: version for key, version in found.items() if version is not None}


def _windows(plant: Plant, keys: list[str], starts: Mapping[str, datetime]) -> dict[str, TrainingWindow]:
    """Return what each regime learns from; one that a person added, from the time on that it was found in."""
    with plant.warehouse.snapshot() as connection:
        found_from = dict(connection.execute("SELECT cluster_key, found_from FROM mart.clusters").fetchall())
    since = {key: TrainingWindow.since(start, plant.config) for key, start in starts.items()}
    return since | {
        key: TrainingWindow.configured(plant.config)
        if found_from.get(key) is None
        else replace(TrainingWindow.since(found_from[key], plant.config), without_events=False)  # a person approved it
        for key in keys
        if key not in since
    }


def _warn_where_nothing_is_new(plant: Plant, sets: Mapping[str, RegimeRows], in_force: Mapping[str, str]) -> None:
    """Say of which regimes the flow in use has learned from the same readings already."""
    with plant.warehouse.snapshot() as connection:
        known = dict(
            connection.execute("SELECT cluster_key, data_hash FROM mart.flow_versions WHERE in_force").fetchall()
        )
    for key in in_force:
        if known.get(key) == sets[key].hash:
            _log.warning(
                "%s: nothing new to learn: the flow in use learned from the same %s readings, up to %s UTC. For later "
                "ones, widen [training] in pwflow.toml, or fill in learn_from in the launchpad",
                key,
                f"{sets[key].n_learned:,}",
                f"{sets[key].last:%Y-%m-%d %H:%M}",
            )


def _flow_settings(config: PlantConfig, key: str) -> dict[str, Any]:
    """Return what the configuration says of the flow of a regime, as arguments of `FlowSettings`."""
    common = config.flow.model_dump(include={"kind", "transforms", "hidden", "max_steps", "min_rows"})
    common["device"] = config.compute.device
    own = config.flow.clusters.get(key)
    return common | (own.model_dump(exclude_none=True) if own else {}) | {"threads": config.compute.threads}


def _training_set(
    plant: Plant, model: ClusterModel, key: str, window: TrainingWindow, champion: str | None
) -> tuple[RegimeRows, Fleet | None]:
    """Return what a flow learns from, as a typical machine would have read it, and the fleet that this goes by."""
    with plant.warehouse.snapshot() as connection:
        rows = fetch_rows(plant, connection, model, key, window, TRAINING_FOLDS)
        before = None if champion is None else read_fleet(connection, key, champion)
        suspects = read_suspects(connection, key)
    fleet = derive_fleet(plant.config, rows, before, suspects)
    if fleet is not None:
        _log.info("%s: machines differ; location and scale of %d are taken out", key, len(fleet.corrections))
    return correct_rows(rows, fleet, suspects), fleet


def _split(model: ClusterModel, key: str, training: RegimeRows, start: ClusterFlow | None) -> ClusterRows:
    """Return a training set as the training takes it, beside the Gaussian or the flow that the training starts from.

    After a drift there is little to learn from: a flow that goes on from the one in use has only the difference to
    learn.
    """
    from pwflow_core.modelling import ClusterRows

    part, position = model.locate(key)
    learn = ~training.held_out
    return ClusterRows(
        X=training.X[learn],
        weight=training.weight[learn],
        X_held_out=training.X[training.held_out],
        weight_held_out=training.weight[training.held_out],
        mean=part.seeds.means[position],
        covariance=part.seeds.covariances[position],
        start=start,
    )


def _refuse_too_few(plant: Plant, key: str, window: TrainingWindow, rows: RegimeRows) -> None:
    """Refuse a refit from a time since which there is too little to learn from, to calibrate on or to judge by.

    Raises:
        NotFittedError: Says how many readings are needed.
    """
    with plant.warehouse.snapshot() as connection:
        n_judging, n_blocks = count_rows(plant, connection, key, window, CALIBRATION_FOLDS)
        n_flagged = count_flagged(connection, key, window)
    n_learned = rows.n_learned
    least_learned = plant.config.flow.min_rows
    least_judging = plant.config.scoring.min_calibration_rows
    if n_learned >= least_learned and n_judging >= least_judging and n_blocks >= FEWEST_BLOCKS:
        return
    flagged = (
        f" ({n_flagged:,} more are anomalies in alarm events: where those are normal, `pwflow mark CASE --normal`)"
        if n_flagged
        else ""
    )
    raise NotFittedError(
        f"Cluster {key} has {n_learned:,} readings to learn from and {n_judging:,} to judge by, in {n_blocks} time "
        f"blocks, since {window.readings.start:%Y-%m-%d %H:%M}{flagged}; {least_learned:,} and {least_judging:,} in "
        f"{FEWEST_BLOCKS} are needed: wait for more, or learn from an earlier time."
    )


def _summarise(flow: ClusterFlow, training: RegimeRows) -> float:
    """Return the mean log-density of the readings that stopped the training; NaN if there were none."""
    weight = training.weight[training.held_out]
    if not weight.sum() > 0:
        return float("nan")
    return float(np.average(flow.log_prob(training.X[training.held_out]), weights=weight))
