"""Calibration of the flows: once for each, on readings that it never learned from, and kept as it is.

The readings are those of the window that the flow learned from: a flow that was retrained after drift is calibrated
on how its regime has been since, and one that comes back has the calibration that it had.
"""

from __future__ import annotations

import logging

import duckdb
import numpy as np
import pandas as pd

from pwflow_core.modelling.calibration import Calibration, calibrate
from pwflow_core.pipeline.decisions.verdicts import select_suspects
from pwflow_core.pipeline.flows.training_sets import TrainingWindow
from pwflow_core.pipeline.readings.folds import CALIBRATION_FOLDS
from pwflow_core.pipeline.readings.timing import read_block_seconds
from pwflow_core.pipeline.readings.training_rows import select_training_rows, training_window
from pwflow_core.pipeline.scoring.model_sets import create_pins
from pwflow_core.plant import Plant
from pwflow_core.warehouse import insert_frame, insert_row, read_sql, utc_now

__all__ = ["calibrate_flows", "load_calibration"]

_log = logging.getLogger("pwflow.calibration")

_Flow = tuple[str, str]


def calibrate_flows(plant: Plant) -> None:
    """Calibrate the flows that have scored their slice and have no calibration yet.

    Raises:
        NotFittedError: No slice has been scored yet.
    """
    with plant.warehouse.snapshot() as connection:
        create_pins(connection)
        held_out = _fetch_held_out(plant, connection)
    made: dict[_Flow, Calibration | None] = {}
    for version in held_out.flow_version.unique():
        of_flow = held_out[held_out.flow_version == version]
        key, rows = str(of_flow.cluster_key.iloc[0]), of_flow.dropna(subset="conformity")
        made[key, version] = calibrate(rows.conformity, blocks=rows.block) if len(rows) else None
        _log_calibration(key, made[key, version])
    if made:
        with plant.warehouse.transaction() as connection:
            _insert(connection, made)


def load_calibration(connection: duckdb.DuckDBPyConnection, key: str, version: str) -> Calibration | None:
    """Return the calibration of a flow; None if it had no readings to be calibrated on, or has not been yet."""
    row = connection.execute(
        "SELECT threshold, tail_scale, tail_shape, n_rows, n_effective, n_set_aside, tail_dependence "
        "FROM core.calibration WHERE cluster_key = ? AND flow_version = ? AND n_rows > 0",
        [key, version],
    ).fetchone()
    if row is None:
        return None
    steps = connection.execute(
        "SELECT conformity, p_value FROM core.calibration_steps WHERE cluster_key = ? AND flow_version = ? "
        "ORDER BY conformity",
        [key, version],
    ).fetchnumpy()
    return Calibration(np.asarray(steps["conformity"]), np.asarray(steps["p_value"]), *row)


def _fetch_held_out(plant: Plant, connection: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    block_seconds = read_block_seconds(connection)
    found = []
    for text in _fresh_windows(connection):
        learned = TrainingWindow.from_json(text, plant.config)
        window = learned.readings
        query = read_sql(
            __package__,
            "calibration.sql",
            training_rows=select_training_rows(window),
            calibration_folds=str(CALIBRATION_FOLDS),
            suspects=select_suspects(),
        )
        values = training_window(window) | {"block_seconds": block_seconds, "training_window": text}
        values |= {"without_events": learned.without_events, "timezone": plant.config.schedule.timezone}
        found.append(connection.execute(query, values).df())
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["flow_version"])


def _fresh_windows(connection: duckdb.DuckDBPyConnection) -> list[str | None]:
    """Return what the pinned flows without a calibration learned from, as the registry has it."""
    rows = connection.execute(
        "SELECT DISTINCT training_window FROM mart.flow_versions JOIN pins USING (cluster_key, flow_version) "
        "ANTI JOIN core.calibration USING (cluster_key, flow_version) ORDER BY training_window"
    ).fetchall()
    return [row[0] for row in rows]


def _log_calibration(key: str, made: Calibration | None) -> None:
    if made is None:
        _log.warning("%s has no held-out readings: it cannot be calibrated", key)
        return
    _log.info(
        "%s: calibrated on %s held-out readings, which count as %.0f independent ones",
        key,
        f"{made.n_rows:,}",
        made.n_effective,
    )
    if made.n_set_aside:
        _log.warning(
            "%s: %d held-out readings were ignored: a few stretches of time hold readings that all the others make "
            "impossible. If they are normal, tell by widening [training]; if not, by leaving that time out of it",
            key,
            made.n_set_aside,
        )


def _insert(connection: duckdb.DuckDBPyConnection, made: dict[_Flow, Calibration | None]) -> None:
    """Write what is still missing; a calibration that another run wrote meanwhile stays."""
    now = utc_now()
    known = set(connection.execute("SELECT cluster_key, flow_version FROM core.calibration").fetchall())
    for (key, version), calibration in made.items():
        if (key, version) in known:
            continue
        row = {"cluster_key": key, "flow_version": version, "calibrated_at": now, "n_rows": 0, "n_effective": 0.0}
        if calibration is not None:
            row |= {
                "n_rows": calibration.n_rows,
                "n_effective": calibration.n_effective,
                "n_set_aside": calibration.n_set_aside,
                "tail_dependence": calibration.tail_dependence,
                "threshold": calibration.threshold,
                "threshold_p_value": calibration.threshold_p_value,
                "tail_scale": calibration.scale,
                "tail_shape": calibration.shape,
            }
            steps = pd.DataFrame({"conformity": calibration.log_density, "p_value": calibration.p_value})
            insert_frame(connection, "core.calibration_steps", steps, cluster_key=key, flow_version=version)
        insert_row(connection, "core.calibration", row)
