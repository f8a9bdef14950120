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

MadeLevels = dict[tuple[str, str], tuple[pd.DataFrame, pd.DataFrame]]
"""By cluster model and segment: the rows of `core.level_steps` and of `core.merged_steps`."""


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
        steps = pd.DataFrame(
            {
                "cluster_key": np.tile(regimes.cluster_key, n_steps),
                "weight": np.tile(regimes.weight, n_steps),
                "level": np.repeat(levels.level, n_regimes),
                "share_below": levels.below.ravel(),
            }
        )
        slope = np.append(np.diff(levels.p_value) / np.diff(levels.merged), 0.0)
        merged = pd.DataFrame({"merged": levels.merged, "p_value": levels.p_value, "slope": slope})
        made[str(regimes.cluster_model_id[0]), str(segment)] = steps, merged
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
        steps, merged = made[model_id, segment]
        insert_frame(connection, "core.level_steps", steps, cluster_model_id=model_id, segment=segment)
        insert_frame(connection, "core.merged_steps", merged, cluster_model_id=model_id, segment=segment)
    return bool(written)


def load_levels(
    connection: duckdb.DuckDBPyConnection, model_id: str, segment: str, keys: tuple[str, ...]
) -> Levels | None:
    """Return the levels of a segment, its regimes in the order of `keys`; None if they were never learned."""
    steps, merged = (
        connection.execute(
            f"SELECT * FROM core.{table} WHERE cluster_model_id = ? AND segment = ?", [model_id, segment]
        ).df()
        for table in ("level_steps", "merged_steps")
    )
    if not len(steps):
        return None
    below = steps.pivot(index="level", columns="cluster_key", values="share_below")[list(keys)]
    weights = steps.groupby("cluster_key").weight.first()[list(keys)]
    merged = merged.sort_values("merged")
    return Levels(
        below.index.to_numpy(),
        below.to_numpy(),
        weights.to_numpy(),
        merged.merged.to_numpy(),
        merged.p_value.to_numpy(),
    )
