"""What the report shows of the regimes: a sample of their readings beside what their flows say of them.

The warehouse is open only while the sample is read; models are loaded and asked after that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import duckdb
import numpy as np
from numpy.typing import NDArray

from pwflow_core.errors import ModelFileError, PwflowError
from pwflow_core.pipeline.flows.fleet import read_fleet
from pwflow_core.pipeline.flows.registry import read_training_history
from pwflow_core.pipeline.readings.features import check_columns
from pwflow_core.pipeline.readings.folds import HELD_OUT_FOLDS, TRAINING_FOLDS
from pwflow_core.pipeline.readings.training_rows import LARGEST_READING_ID
from pwflow_core.pipeline.regimes.model import ClusterModel, load_cluster_model
from pwflow_core.plant import Plant
from pwflow_core.reporting.facts import PlantFacts
from pwflow_core.warehouse import quote_columns, read_sql
from pwflow_core.warehouse.streaming import fetch_matrix

if TYPE_CHECKING:
    from pwflow_core.modelling import ClusterFlow, TrainingHistory

__all__ = ["RECENT_NIGHTS", "RegimeStudy", "load_flows", "load_regimes", "study_regimes"]

RECENT_NIGHTS = 7
_MOST_READINGS = 1_500
_HELD_OUT_SHARE = len(HELD_OUT_FOLDS) / len(TRAINING_FOLDS)  # of what the registry counts as seen in training
_SPARE = 1.5

_OF_FLEET = ("cluster_key", "flow_version", "machine_id")

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RegimeStudy:
    """One regime, its readings and its flow.

    Attributes:
        key: Cluster key.
        segment: Process condition that it belongs to.
        held_out: Readings that the flow did not learn from, columns of the model, shape (n, D).
        recent: Readings of the last nights, later than all that the flow learned from, shape (n, D).
        sampled: Readings that the flow drew, shape (n, D); empty without a flow.
        held_out_latents: Latents of the held-out readings, shape (n, D).
        recent_latents: Latents of the recent ones, shape (n, D).
        history: How the flow was trained; None without a flow that can be loaded.
        is_gaussian: Whether the flow is a plain Gaussian.
    """

    key: str
    segment: str
    held_out: Array
    recent: Array
    sampled: Array = field(default_factory=lambda: np.empty((0, 0)))
    held_out_latents: Array = field(default_factory=lambda: np.empty((0, 0)))
    recent_latents: Array = field(default_factory=lambda: np.empty((0, 0)))
    history: TrainingHistory | None = None
    is_gaussian: bool = False


def load_regimes(plant: Plant) -> tuple[ClusterModel | None, str]:
    """Return the cluster model in use, or None and the reason why there is none to work with."""
    try:
        _, model = load_cluster_model(plant)
        with plant.warehouse.snapshot() as connection:
            check_columns(connection, model.columns)
    except PwflowError as error:
        return None, str(error)
    return model, ""


def load_flows(plant: Plant, facts: PlantFacts) -> tuple[dict[str, ClusterFlow], dict[str, str]]:
    """Load the flows in use with how they were trained, by cluster key, and for others why they cannot be loaded."""
    from pwflow_core.modelling import ClusterFlow

    flows, problems = {}, {}
    for key, version in facts.in_force.items():
        try:
            flows[key] = flow = ClusterFlow.from_bytes(plant.models.get(version.flow_version))
        except ModelFileError as error:
            problems[key] = str(error)
            continue
        with plant.warehouse.snapshot() as connection:
            flow.history = read_training_history(connection, version.flow_version) or flow.history
    return flows, problems


def study_regimes(
    plant: Plant, facts: PlantFacts, model: ClusterModel, flows: Mapping[str, ClusterFlow], keys: list[str]
) -> list[RegimeStudy]:
    """Study some regimes of the cluster model.

    Arguments:
        plant: The plant.
        facts: What is known of it.
        model: The regimes in use.
        flows: Their flows, by cluster key; those that there are.
        keys: The regimes to study.
    """
    held_out, recent = _sample_readings(plant, facts, model.columns, keys)
    nothing = np.empty((0, len(model.columns)))
    studies = []
    for number, key in enumerate(keys):
        part, _ = model.locate(key)
        study = RegimeStudy(key, part.segment, held_out.get(key, nothing), recent.get(key, nothing))
        flow = flows.get(key)
        if flow is not None and flow.n_features == len(model.columns):
            study = RegimeStudy(
                key,
                part.segment,
                study.held_out,
                study.recent,
                flow.sample(4 * _MOST_READINGS, random_state=number),
                flow.latents(study.held_out),
                flow.latents(study.recent),
                flow.history,
                flow.is_gaussian,
            )
        studies.append(study)
    return studies


def _sample_readings(
    plant: Plant, facts: PlantFacts, columns: tuple[str, ...], keys: list[str]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the held-out readings and the recent ones of each regime."""
    recent_from = facts.last - timedelta(days=RECENT_NIGHTS)
    in_nights = facts.nights[facts.nights["night"] > facts.last_night - timedelta(days=RECENT_NIGHTS)]
    n_recent = in_nights.groupby("cluster_key")["n_readings"].sum()
    wanted: list[tuple[str, datetime, int, int]] = []
    for key in keys:
        version = facts.in_force.get(key)
        if version is not None and version.trained_until is not None:
            n_held_out = _HELD_OUT_SHARE * ((version.n_rows or 0) + (version.n_held_out or 0))
            wanted.append((key, version.trained_until, _bound(n_held_out), _bound(float(n_recent.get(key, 0)))))
        else:
            wanted.append((key, facts.last, LARGEST_READING_ID - 1, LARGEST_READING_ID - 1))
    values = {
        "keys": [row[0] for row in wanted],
        "untils": [row[1] for row in wanted],
        "held_out_bounds": [row[2] for row in wanted],
        "recent_bounds": [row[3] for row in wanted],
        "recent": recent_from,
        "folds": list(HELD_OUT_FOLDS),
        "most": _MOST_READINGS,
    }
    query = read_sql(__package__, "regime_readings.sql", columns=quote_columns(columns, "reading."))
    with plant.warehouse.snapshot() as connection:
        X, others = fetch_matrix(connection, query, values, columns)
        X = _typical(connection, X, {name: np.asarray(others[name]).astype(np.str_) for name in _OF_FLEET})
    seen = np.isfinite(X).all(axis=1)
    key_of, is_recent = np.asarray(others["cluster_key"]), np.asarray(others["is_recent"], dtype=bool)
    return (
        {key: X[seen & ~is_recent & (key_of == key)] for key in keys},
        {key: X[seen & is_recent & (key_of == key)] for key in keys},
    )


def _typical(connection: duckdb.DuckDBPyConnection, X: Array, of: Mapping[str, NDArray[np.str_]]) -> Array:
    """Return readings as a typical machine would have read them, where machines differ."""
    for key, version in sorted({*zip(of["cluster_key"].tolist(), of["flow_version"].tolist(), strict=True)}):
        if (fleet := read_fleet(connection, key, version)) is not None:
            rows = (of["cluster_key"] == key) & (of["flow_version"] == version)
            X[rows], _ = fleet.correct(X[rows], of["machine_id"][rows])
    return X


def _bound(n_readings: float) -> int:
    """Return the reading id below which there are about as many readings as are wanted."""
    share = min(1.0, _SPARE * _MOST_READINGS / max(n_readings, 1.0))
    return min(int(share * LARGEST_READING_ID), LARGEST_READING_ID - 1)
