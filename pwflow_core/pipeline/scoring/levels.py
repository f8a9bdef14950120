"""The levels of the regimes: learned once for a cluster model, and kept however often a flow is trained again.

So retraining one regime changes the scores of its own readings alone. See `modelling/levels.py`.
"""

from __future__ import annotations

import duckdb
import numpy as np
import pandas as pd

from pwflow_core.modelling.levels import Levels, fit_levels
from pwflow_core.pipeline.readings.folds import CALIBRATION_FOLDS
from pwflow_core.pipeline.readings.training_rows import select_training_rows, training_window
from pwflow_core.pipeline.scoring.model_sets import create_pins
from pwflow_core.plant import Plant
from pwflow_core.warehouse import insert_frame, read_sql

__all__ = ["MadeLevels", "load_levels", "measure_levels", "write_levels"]

MadeLevels = dict[tuple[str, str], pd.DataFrame]
"""By cluster model and segment: the rows of `core.level_steps`."""


def measure_levels(plant: Plant) -> MadeLevels:
    """Learn the levels of the segments that have none under the cluster model in use.

    Raises:
        NotFittedError: No slice has been scored yet.
    """
    window = plant.config.training
    with plant.warehouse.snapshot() as connection:
        create_pins(connection)
        query = read_sql(
            __package__,
            "levels.sql",
            training_rows=select_training_rows(window),
            calibration_folds=str(CALIBRATION_FOLDS),
        )
        rows = connection.execute(query, training_window(window)).df()
        pins = connection.execute(
            "SELECT cluster_model_id, segment, cluster_key, weight FROM pins ORDER BY cluster_key"
        ).df()
    made = {}
    for segment, of_segment in rows.groupby("segment"):
        regimes = pins[pins.segment == segment].reset_index(drop=True)
        position = np.asarray(regimes.cluster_key.searchsorted(of_segment.cluster_key), dtype=np.intp)
        rank = of_segment.groupby("cluster_key").conformity.rank(method="max", pct=True)
        levels = fit_levels(rank.to_numpy(), position, of_segment.level.to_numpy(), regimes.weight.to_numpy())
        n_steps, n_regimes = levels.below.shape
        made[str(regimes.cluster_model_id[0]), str(segment)] = pd.DataFrame(
            {
                "cluster_key": np.tile(regimes.cluster_key, n_steps),
                "weight": np.tile(regimes.weight, n_steps),
                "level": np.repeat(levels.level, n_regimes),
                "share_below": levels.below.ravel(),
                "own_weight": levels.own_weight,
                "share_weight": levels.share_weight,
            }
        )
    return made


def write_levels(connection: duckdb.DuckDBPyConnection, made: MadeLevels) -> bool:
    """Keep levels of the cluster model that is still in use; return whether any were missing.

    Expects the temporary table `pins`.
    """
    missing = connection.execute(
        "SELECT DISTINCT cluster_model_id, segment FROM pins ANTI JOIN core.level_steps "
        "USING (cluster_model_id, segment)"
    ).fetchall()
    written = [key for key in missing if key in made]
    for model_id, segment in written:
        insert_frame(
            connection, "core.level_steps", made[model_id, segment], cluster_model_id=model_id, segment=segment
        )
    return bool(written)


def load_levels(
    connection: duckdb.DuckDBPyConnection, model_id: str, segment: str, keys: tuple[str, ...]
) -> Levels | None:
    """Return the levels of a segment, its regimes in the order of `keys`; None if they were never learned."""
    found = connection.execute(
        "SELECT level, cluster_key, weight, share_below, own_weight, share_weight FROM core.level_steps "
        "WHERE cluster_model_id = ? AND segment = ?",
        [model_id, segment],
    ).df()
    if not len(found):
        return None
    below = found.pivot(index="level", columns="cluster_key", values="share_below")[list(keys)]
    weights = found.groupby("cluster_key").weight.first()[list(keys)]
    own_weight, share_weight = float(found.own_weight[0]), float(found.share_weight[0])
    return Levels(below.index.to_numpy(), below.to_numpy(), weights.to_numpy(), own_weight, share_weight)
