"""Finding: the operating regimes of every segment, from readings that calibrate nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pwflow_core.errors import ModelFileError, NotFittedError
from pwflow_core.modelling.rows import TrainingData
from pwflow_core.modelling.seeds import ClusterSeeds
from pwflow_core.modelling.settings import FitSettings, FlowSettings
from pwflow_core.pipeline.readings.features import are_settled, read_features
from pwflow_core.pipeline.readings.folds import CALIBRATION_FOLDS, STOPPING_FOLDS, TRAINING_FOLDS
from pwflow_core.pipeline.readings.rate import affordable_readings
from pwflow_core.pipeline.readings.recurrence import Stretch, normal_stretches, screen_history
from pwflow_core.pipeline.readings.training_rows import LARGEST_READING_ID, select_training_rows, training_window
from pwflow_core.pipeline.regimes.in_force import ModelChange, minted_keys, put_model_in_force, regimes_to_assign
from pwflow_core.pipeline.regimes.matching import Relation, count_shared, match_regimes, relate_regimes
from pwflow_core.pipeline.regimes.model import (
    ClusterModel,
    SegmentClusters,
    load_cluster_model,
    model_id_in_force,
)
from pwflow_core.pipeline.source.source import read_source
from pwflow_core.plant import Plant
from pwflow_core.warehouse import fetch_value, quote_columns
from pwflow_core.warehouse.streaming import fetch_matrix

__all__ = [
    "ClusterModelSummary",
    "cluster_settings",
    "fit_cluster_model",
    "needs_cluster_model",
]

_log = logging.getLogger("pwflow.clusters")

_RARE = 0.01
_MIN_SEGMENT_ROWS = 30


@dataclass(frozen=True)
class ClusterModelSummary:
    """What fitting the regimes came to.

    Attributes:
        cluster_model_id: SHA-256 of the model.
        clusters: Cluster keys by segment.
        weights: Share of its segment by cluster key.
        minted: Keys that are new.
        retired: Keys that are no longer in use.
        lineage: What became of the regimes before.
        thin_segments: Segments with too few readings for any regime, with their number of readings.
        n_rows: Readings that were learned from.
        stretches: Stretches unlike the rest of the history, which were not learned from.
    """

    cluster_model_id: str
    clusters: dict[str, list[str]]
    weights: dict[str, float]
    minted: list[str]
    retired: list[str]
    lineage: list[Relation]
    thin_segments: dict[str, int]
    n_rows: int
    stretches: list[Stretch]


def cluster_settings(plant: Plant, connection: duckdb.DuckDBPyConnection) -> str:
    """Return, as JSON, everything that decides what the regimes are, other than the data."""
    source = read_source(connection)
    settings = {
        "sensors": read_features(connection).columns,
        "segments": source.segments,
        "clustering": plant.config.clustering.model_dump(),
        "training": plant.config.training.model_dump(mode="json"),
    }
    if called_normal := normal_stretches(connection):
        settings["called normal"] = called_normal
    return json.dumps(settings, sort_keys=True)


def needs_cluster_model(plant: Plant) -> bool:
    """Whether there are no regimes yet, or their configuration changed since they were fitted."""
    with plant.warehouse.snapshot() as connection:
        settings = fetch_value(connection, "SELECT settings FROM core.cluster_models WHERE in_force")
        if settings is None or not are_settled(connection, plant.config):
            return True
        return bool(settings != cluster_settings(plant, connection))


def fit_cluster_model(
    plant: Plant, *, made_by: str = "pwflow", reason: str = "the regimes were found again"
) -> ClusterModelSummary:
    """Find the operating regimes of every segment and put them in use.

    A regime that continues an earlier one keeps that one's key, see `identity`, and its flow as long as its readings
    hardly changed; any other key is new and never was in use before.

    Arguments:
        plant: The plant.
        made_by: Who or what, for the record.
        reason: Why, for the record.

    Raises:
        NotFittedError: No segment has enough valid readings.
        ConfigurationError: The budget of alarms is more than the plant has readings.
        RegimeError: Another run changed the regimes meanwhile.
    """
    stretches = screen_history(plant)
    with plant.warehouse.snapshot() as connection:
        settings = cluster_settings(plant, connection)
        sensors = list(read_features(connection).columns)
        replaced = model_id_in_force(connection)
        used = [row[0] for row in connection.execute("SELECT cluster_key FROM mart.clusters").fetchall()]
        sizes = _segment_sizes(plant, connection)
        if (budget := plant.config.scoring.alarms_per_week) is not None and sizes:
            affordable_readings(connection, budget)
    previous = _earlier_model(plant) if replaced else None
    mint = minted_keys(used)
    parts: list[SegmentClusters] = []
    lineage: list[Relation] = []
    n_rows = 0
    for segment, size in sizes.items():
        if size < max(_MIN_SEGMENT_ROWS, 2 * (len(sensors) + 1)):
            continue
        X, held_out, machine = _training_sample(plant, segment, size, sensors)
        with threadpool_limits(plant.config.compute.threads):
            seeds = _find_regimes(plant, size, X, held_out, machine)
        keys, relations = _identify(_part_before(previous, segment, sensors), X, seeds, mint)
        parts.append(SegmentClusters(segment, keys, seeds))
        lineage += relations
        n_rows += len(X)
        _log.info("segment %s: %d regimes in %s readings", segment, len(keys), f"{len(X):,}")
    if not parts:
        raise NotFittedError(
            f"Expected at least {_MIN_SEGMENT_ROWS} valid readings in a segment, got at most "
            f"{max(sizes.values(), default=0)}: add data, drop a segment column, or look at rejected_readings."
        )
    model = ClusterModel(tuple(sensors), tuple(parts))
    told = {relation.cluster_key for relation in lineage}
    lineage += [Relation(key, None, None, "retired") for key in (previous.keys if previous else ()) if key not in told]
    to_assign = regimes_to_assign(previous, model)
    change = ModelChange(model, replaced, to_assign, lineage, settings, n_rows, made_by, reason, {})
    model_id, retired = put_model_in_force(plant, change)
    return ClusterModelSummary(
        cluster_model_id=model_id,
        clusters={part.segment: list(part.keys) for part in parts},
        weights={
            key: float(weight) for part in parts for key, weight in zip(part.keys, part.seeds.weights, strict=True)
        },
        minted=sorted(set(model.keys) - set(used)),
        retired=retired,
        lineage=lineage,
        thin_segments={s: n for s, n in sizes.items() if s not in {part.segment for part in parts}},
        n_rows=n_rows,
        stretches=stretches,
    )


def _find_regimes(
    plant: Plant, size: int, X: NDArray[np.float64], held_out: NDArray[np.bool_], machine: NDArray[np.str_]
) -> ClusterSeeds:
    """Find the regimes of a segment of `size` readings; those that machines share although they lie apart."""
    from pwflow_core.modelling.alignment import find_shared_regimes
    from pwflow_core.modelling.fitting import choose_clusters

    clustering, fleet = plant.config.clustering, plant.config.fleet

    def find(rows: NDArray[np.float64], judging: NDArray[np.bool_]) -> ClusterSeeds:
        return choose_clusters(
            TrainingData.unlabelled(rows, np.ones(len(rows)), judging),
            FitSettings(
                n_clusters=clustering.n_clusters,
                candidates=_affordable(plant, size),
                method=clustering.method,
                selection=clustering.selection,
                random_state=clustering.random_state,
            ),
            FlowSettings(threads=plant.config.compute.threads),
            least_share=_least_share(plant, size),
        )

    pooled = find(X, held_out)
    if not fleet.correct_machines or clustering.method != "gmm":
        return pooled
    shared = find_shared_regimes(X, machine, held_out, pooled, find, fleet.min_machines)
    if shared is None:
        return pooled
    _log.info("machines differ: they share %d regimes; as they are, %d", shared.n_clusters, pooled.n_clusters)
    return shared


def _earlier_model(plant: Plant) -> ClusterModel | None:
    """Return the regimes in use; None if their file cannot be used, so that fitting again repairs it."""
    try:
        return load_cluster_model(plant)[1]
    except ModelFileError as error:
        _log.warning("every regime gets a new key, because the earlier ones cannot be read: %s", error)
        return None


def _segment_sizes(plant: Plant, connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    query = (
        "SELECT segment, count(training.reading_id) FROM core.readings LEFT JOIN "
        f"(SELECT reading_id FROM ({select_training_rows(plant.config.training)}) "
        f"WHERE fold IN {TRAINING_FOLDS}) AS training USING (reading_id) "
        "GROUP BY segment ORDER BY segment"
    )
    return dict(connection.execute(query, training_window(plant.config.training)).fetchall())


def _training_sample(
    plant: Plant, segment: str, size: int, sensors: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.str_]]:
    """Return readings of a segment in the order of machine and time, which of them only judge, and their machines."""
    most = plant.config.clustering.max_rows
    bound = LARGEST_READING_ID - 1 if size <= most else int(LARGEST_READING_ID * (most / size))
    with plant.warehouse.snapshot() as connection:
        X, others = fetch_matrix(
            connection,
            f"SELECT fold, machine_id, {quote_columns(sensors)} FROM ({select_training_rows(plant.config.training)}) "
            f"WHERE segment = $segment AND fold IN {TRAINING_FOLDS} AND reading_id <= $bound "
            "ORDER BY machine_id, ts",
            training_window(plant.config.training) | {"segment": segment, "bound": bound},
            sensors,
        )
    return X, np.isin(others["fold"], STOPPING_FOLDS), np.asarray(others["machine_id"]).astype(np.str_)


def _calibration_rows(size: int) -> float:
    """Return how many readings calibrate where `size` readings are learned from."""
    return size * len(CALIBRATION_FOLDS) / len(TRAINING_FOLDS)


def _affordable(plant: Plant, size: int) -> list[int]:
    """Return the numbers of regimes whose p-values `size` training readings leave enough others to calibrate."""
    enough = 2 * plant.config.scoring.min_calibration_rows
    return [k for k in plant.config.clustering.candidates if k * enough <= _calibration_rows(size)] or [1]


def _least_share(plant: Plant, size: int) -> float:
    """Return the share of the readings that a regime needs to be calibrated, with a margin; at least 1%."""
    return max(_RARE, 1.5 * plant.config.scoring.min_calibration_rows / _calibration_rows(size))


def _part_before(previous: ClusterModel | None, segment: str, sensors: list[str]) -> SegmentClusters | None:
    """Return the regimes that a segment had, unless the models saw other columns then."""
    if previous is None or previous.columns != tuple(sensors):
        return None
    return next((part for part in previous.segments if part.segment == segment), None)


def _identify(
    before: SegmentClusters | None, X: NDArray[np.float64], seeds: ClusterSeeds, mint: Iterator[str]
) -> tuple[tuple[str, ...], list[Relation]]:
    """Give the new regimes of a segment their keys, and say what each is to the earlier ones."""
    if before is None:
        keys = tuple(next(mint) for _ in range(seeds.n_clusters))
        return keys, [Relation(key, None, None, "new") for key in keys]
    now = seeds.responsibilities(X).argmax(axis=1)
    then = before.seeds.responsibilities(X).argmax(axis=1)
    shared = count_shared(then, now, before.seeds.n_clusters, seeds.n_clusters)
    matches = match_regimes(shared)
    keys = tuple(before.keys[matches[k]] if k in matches else next(mint) for k in range(seeds.n_clusters))
    return keys, relate_regimes(shared, matches, before.keys, keys)
