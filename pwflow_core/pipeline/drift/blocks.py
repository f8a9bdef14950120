"""Blocks: means over short stretches of time of what a flow makes of its readings, for the nights that changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pwflow_core.modelling.drift import Blocks
from pwflow_core.pipeline.decisions.verdicts import select_suspects
from pwflow_core.pipeline.flows.fleet import read_fleet
from pwflow_core.pipeline.readings.folds import HELD_OUT_FOLDS
from pwflow_core.pipeline.readings.nights import to_ordinals
from pwflow_core.pipeline.readings.timing import read_block_seconds
from pwflow_core.pipeline.regimes.model import ClusterModel
from pwflow_core.pipeline.scoring.densities import load_flow
from pwflow_core.pipeline.scoring.model_sets import create_pins
from pwflow_core.plant import Plant
from pwflow_core.storage import working_folder
from pwflow_core.warehouse import fetch_value, quote_columns, quote_literal, read_sql, run_script
from pwflow_core.warehouse.days import FreshDays, on_days, with_neighbours
from pwflow_core.warehouse.horizon import read_horizon
from pwflow_core.warehouse.streaming import Spool, copy_out, read_chunks_of_machines

__all__ = ["Followed", "FreshBlocks", "find_followed", "fresh_blocks", "to_blocks"]

_IMPROBABLE = 0.01
_N_UNKNOWN = """
    SELECT count(*) - (SELECT coalesce(sum(n_readings), 0) FROM nights)
    FROM mart.anomaly_scores AS score
    JOIN followed USING (cluster_key, flow_version)
    WHERE score.status = 'scored'
      AND score.ts >= followed.watched_from::TIMESTAMP AT TIME ZONE $timezone AT TIME ZONE 'UTC'
      AND score.ts >= $open_from
      AND score.ts < now() AT TIME ZONE 'UTC' + INTERVAL 1 DAY
"""
"""How many readings there are that are in no night of `nights`, or fewer than none."""


@dataclass(frozen=True)
class Followed:
    """A regime whose nights are followed by the flow in use.

    Attributes:
        cluster_key: The regime.
        flow_version: The flow.
        watched_from: The first night that can show drift.
        has_reference: Whether what nights are compared with was made before.
        stale: Nights whose evidence has to be drawn, or drawn again.
        nights: Every night with readings: the night, its readings, and their fingerprint.
    """

    cluster_key: str
    flow_version: str
    watched_from: date
    has_reference: bool
    stale: tuple[date, ...]
    nights: tuple[tuple[date, int, int], ...]


@dataclass(frozen=True, eq=False)
class FreshBlocks:
    """Block means that were just computed.

    Attributes:
        followed: The regime and the flow.
        blocks: One row per block: is_reference, night, machine_id, block, n_readings, channels, sensors, improbable.
        sensor_spread: Standard deviation of a reading of each sensor in the reference, shape (S,); empty without one.
    """

    followed: Followed
    blocks: pd.DataFrame
    sensor_spread: NDArray[np.float64]


def find_followed(connection: duckdb.DuckDBPyConnection, timezone: str, fresh: FreshDays) -> list[Followed]:
    """Return the regimes in use with the nights that need evidence; leaves `stale` as a temporary table.

    Nights are looked for in the days that changed, and in all where a regime has no reference yet, or where these with
    what was followed before do not hold as many readings as there are.

    Arguments:
        connection: An open connection.
        timezone: That of the schedule: a night is a calendar day there.
        fresh: The days that changed since the nights were last followed.

    Raises:
        NotFittedError: No slice has been scored yet.
    """
    create_pins(connection)
    values = {"timezone": timezone, "open_from": read_horizon(connection)}
    run_script(connection, read_sql(__package__, "followed.sql"), values)
    if fetch_value(connection, "SELECT count(*) FROM followed WHERE NOT has_reference"):
        fresh = replace(fresh, are_all=True)
    _find_nights(connection, fresh, values)
    if not fresh.are_all and fetch_value(connection, _N_UNKNOWN, values):
        _find_nights(connection, replace(fresh, are_all=True), values)
    rows = connection.execute(
        """
        SELECT
            cluster_key, flow_version, watched_from, has_reference,
            (SELECT list(night ORDER BY night) FROM stale WHERE stale.cluster_key = followed.cluster_key),
            (SELECT list((night, n_readings, fingerprint) ORDER BY night) FROM nights
             WHERE nights.cluster_key = followed.cluster_key)
        FROM followed
        ORDER BY cluster_key
        """
    ).fetchall()
    return [
        Followed(key, version, watched_from, has_reference, tuple(stale or ()), tuple(nights or ()))
        for key, version, watched_from, has_reference, stale, nights in rows
    ]


def fresh_blocks(plant: Plant, model: ClusterModel, n_sensors: int, fresh: FreshDays) -> Iterator[FreshBlocks]:
    """Compute the block means of every regime that has stale nights, or no reference yet.

    Arguments:
        plant: The plant.
        model: The cluster model in use.
        n_sensors: How many of the columns of the model are sensors; they come first.
        fresh: The days that changed since the nights were last followed.
    """
    with working_folder(plant.warehouse.folder, "drift") as folder:
        with plant.warehouse.snapshot() as connection:
            wanted = [
                followed
                for followed in find_followed(connection, plant.config.schedule.timezone, fresh)
                if followed.stale or not followed.has_reference
            ]
            block_seconds = read_block_seconds(connection)
            for followed in wanted:
                _copy_rows(plant, connection, followed, model, block_seconds, folder)
        for followed in wanted:
            yield _evaluate(plant, followed, model, n_sensors, folder)


def to_blocks(frame: pd.DataFrame) -> Blocks:
    """Return block means as the statistics take them, in the order of time."""
    frame = frame.sort_values(["night", "block", "machine_id"], ignore_index=True)

    def stacked(column: str) -> NDArray[np.float64]:
        return np.stack(frame[column].tolist()) if len(frame) else np.empty((0, 1))

    return Blocks(
        night=to_ordinals(frame.night),
        machine=frame.machine_id.to_numpy().astype(np.str_),
        n_readings=frame.n_readings.to_numpy(dtype=np.int64),
        means=stacked("channels"),
        sensors=stacked("sensors"),
        improbable=frame.improbable.to_numpy(dtype=np.float64),
    )


def _find_nights(connection: duckdb.DuckDBPyConnection, fresh: FreshDays, values: Mapping[str, object]) -> None:
    """Make the temporary tables `nights` and `stale`."""
    script = read_sql(__package__, "touched_nights.sql") + read_sql(
        __package__, "nights.sql", around_score=fresh.around("score.ts"), around_reading=fresh.around("reading.ts")
    )
    run_script(connection, script, {**values, "days": list(fresh.days), "are_all": fresh.are_all})


def _copy_rows(
    plant: Plant,
    connection: duckdb.DuckDBPyConnection,
    followed: Followed,
    model: ClusterModel,
    block_seconds: float,
    folder: Path,
) -> None:
    days = with_neighbours(followed.stale)
    rows = read_sql(
        __package__,
        "rows.sql",
        held_out_folds=str(HELD_OUT_FOLDS),
        suspects=select_suspects(),
        around_score=on_days("score.ts", days) if followed.has_reference else "true",
        around_reading=on_days("reading.ts", days) if followed.has_reference else "true",
    )
    values = {
        "key": followed.cluster_key,
        "version": followed.flow_version,
        "timezone": plant.config.schedule.timezone,
        "block_seconds": block_seconds,
        "with_reference": not followed.has_reference,
    }
    places, readings = _files(folder, followed)
    copy_out(connection, rows, values, places)
    copy_out(
        connection,
        f"SELECT reading_id, machine_id, {quote_columns(model.columns)} FROM core.model_readings "
        f"SEMI JOIN read_parquet({quote_literal(str(places))}) AS wanted USING (reading_id) "
        f"WHERE {on_days('ts', days) if followed.has_reference else 'true'}",
        {},
        readings,
    )


def _evaluate(plant: Plant, followed: Followed, model: ClusterModel, n_sensors: int, folder: Path) -> FreshBlocks:
    places, readings = _files(folder, followed)
    results = folder / f"{followed.cluster_key}.results.parquet"
    flow = load_flow(plant, followed.cluster_key, followed.flow_version, len(model.columns))
    with plant.warehouse.snapshot() as connection:
        fleet = read_fleet(connection, followed.cluster_key, followed.flow_version)
    channels = [f"channel_{position}" for position in range(1 + len(model.columns))]
    sensors = [f"sensor_{position}" for position in range(n_sensors)]
    with plant.threads(), plant.warehouse.scratch() as scratch:
        spool = Spool(scratch, {"reading_id": "BIGINT", **dict.fromkeys([*channels, *sensors], "DOUBLE")})
        chunks = read_chunks_of_machines(scratch, readings, model.columns, plant.config.compute.chunk_rows)
        for reading_id, X, machine in chunks:
            if fleet is not None:
                X, _ = fleet.correct(X, machine)
            found = flow.evaluate(X)
            values = np.column_stack([found.tempered_conformity, found.latents])
            spool.append(
                reading_id=reading_id,
                **dict(zip(channels, values.T, strict=True)),
                **dict(zip(sensors, X[:, :n_sensors].T, strict=True)),
            )
        spool.close(results)
        joined = (
            f"read_parquet({quote_literal(str(places))}) JOIN read_parquet({quote_literal(str(results))}) "
            "USING (reading_id)"
        )
        blocks = scratch.execute(
            f"""
            SELECT is_reference, night, machine_id, block, count(*) AS n_readings,
                   [{", ".join(f"avg({name})" for name in channels)}] AS channels,
                   [{", ".join(f"avg({name})" for name in sensors)}] AS sensors,
                   avg((p_value <= {_IMPROBABLE})::INTEGER) AS improbable
            FROM {joined}
            GROUP BY ALL
            ORDER BY is_reference, night, block, machine_id
            """
        ).df()
        spread = scratch.execute(
            f"SELECT {', '.join(f'stddev_samp({name})' for name in sensors)} FROM {joined} WHERE is_reference"
        ).fetchone()
    return FreshBlocks(followed, blocks, np.array([value or 0.0 for value in spread or ()], dtype=np.float64))


def _files(folder: Path, followed: Followed) -> tuple[Path, Path]:
    """Return the file of the places of the readings of a regime in time, and the one of their values."""
    return folder / f"{followed.cluster_key}.places.parquet", folder / f"{followed.cluster_key}.readings.parquet"
