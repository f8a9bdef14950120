"""The view of a plant that its nights are judged by: evidence, mixes of regimes, what came, and where values lie."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pwflow_core.modelling.drift import (
    UNIT_QUANTILES,
    Availability,
    Blocks,
    DriftReference,
    DriftState,
    SensorLevels,
    SensorName,
    advance,
    log_threshold,
    mix_blocks,
)
from pwflow_core.pipeline.drift.blocks import to_blocks
from pwflow_core.pipeline.readings.nights import from_ordinal, to_ordinal, to_ordinals
from pwflow_core.pipeline.regimes.model import ClusterModel
from pwflow_core.pipeline.source.source import read_source
from pwflow_core.plant import Plant
from pwflow_core.warehouse import quote_identifier, quote_literal, read_sql, run_script
from pwflow_core.warehouse.horizon import read_horizon

__all__ = ["RECENT_NIGHTS", "ClusterView", "MixView", "PlantView", "plant_threshold", "read_plant", "show_evidence"]

RECENT_NIGHTS = 30
"""Nights that a shift is measured on."""
_RARELY = 0.05


@dataclass(frozen=True, eq=False)
class ClusterView:
    """What is known of one regime.

    Attributes:
        key: Its key.
        segment: The segment that it belongs to.
        version: The flow in use.
        reference: What its nights are compared with.
        blocks: Block means of the nights to judge and of those before them.
        log_evidence: Log evidence by night.
    """

    key: str
    segment: str
    version: str
    reference: DriftReference
    blocks: Blocks
    log_evidence: dict[date, float]


@dataclass(frozen=True, eq=False)
class MixView:
    """The regimes of one segment, and the evidence that their shares changed.

    Attributes:
        segment: The segment.
        keys: Its regimes.
        night: Nights after the regimes were learned, days since 1970-01-01, shape (R,).
        counts: Readings of each regime in each of them, shape (R, K).
        before: Readings of each regime while they were learned, shape (K,).
        reference: What the shares are compared with.
        log_evidence: Log evidence by night.
    """

    segment: str
    keys: tuple[str, ...]
    night: NDArray[np.int64]
    counts: NDArray[np.int64]
    before: NDArray[np.int64]
    reference: DriftReference
    log_evidence: dict[date, float]


@dataclass(frozen=True, eq=False)
class PlantView:
    """A plant and the nights to judge.

    Attributes:
        nights: The nights to judge, in their order.
        threshold: Log evidence from which something has moved.
        sensors: Names and units of the sensors.
        clusters: The regimes whose drift can be followed.
        mixes: The segments with more than one regime.
        availability: Readings of each machine in each night, but for a last one in the middle of which the record ends.
        levels: Where the values of each sensor lie in the nights to judge.
        usual_levels: Where they lay while the regimes were learned: machine_id, levels.
        parts: What the nights to judge are like: night, part.
    """

    nights: list[date]
    threshold: float
    sensors: list[SensorName]
    clusters: list[ClusterView]
    mixes: list[MixView]
    availability: Availability | None
    levels: SensorLevels | None
    usual_levels: pd.DataFrame
    parts: pd.DataFrame


def plant_threshold(plant: Plant, model: ClusterModel) -> float:
    """Return the log evidence from which a regime, or the mix of a segment, has moved, by the budget of the plant."""
    n_mixes = sum(len(part.keys) > 1 for part in model.segments)
    return log_threshold(plant.config.drift.false_refits_per_5_years, len(model.keys) + n_mixes)


def show_evidence(log_evidence: float) -> float:
    """Return evidence as `mart.cluster_health` has it: log10, and nothing below −1, where it is none at all."""
    return max(log_evidence / math.log(10), -1.0)


def read_plant(connection: duckdb.DuckDBPyConnection, plant: Plant, model_id: str, model: ClusterModel) -> PlantView:
    """Read what the nights that have not been judged are judged by."""
    threshold = plant_threshold(plant, model)
    timezone = plant.config.schedule.timezone
    values = {"timezone": timezone, "open_from": read_horizon(connection)}
    run_script(connection, read_sql(__package__, "judging.sql"), values)
    learned = _learned(connection, model_id, timezone)
    stale = connection.execute(
        "SELECT DISTINCT night FROM night_parts ANTI JOIN core.judged_nights USING (night, part) "
        "WHERE night > ? ORDER BY night",
        [learned[1]],
    ).fetchall()
    nights = [row[0] for row in stale]
    known = {sensor.name: sensor for sensor in read_source(connection).sensors}
    sensors = [SensorName(name, known[name].unit) for name in model.columns if name in known]
    if not nights:
        return PlantView([], threshold, sensors, [], [], None, None, pd.DataFrame(), pd.DataFrame())
    levels, usual_levels = _read_levels(connection, model_id, [s.name for s in sensors], learned, nights, timezone)
    return PlantView(
        nights,
        threshold,
        sensors,
        _read_clusters(connection, model, nights),
        _read_mixes(connection, model, learned, threshold),
        _read_availability(connection, learned),
        levels,
        usual_levels,
        connection.execute("SELECT night, part FROM night_parts WHERE list_contains(?, night)", [nights]).df(),
    )


def _learned(connection: duckdb.DuckDBPyConnection, model_id: str, timezone: str) -> tuple[date, date]:
    """Return the first and last night of the time that nights are compared with.

    Of a model that only updates the weights, those since their mix moved; of one with flows of its own,
    what these learned from; of one that kept every regime and flow, what the flows in use learned from.
    """
    rows = connection.execute(
        """
        (SELECT since, night FROM mart.drift_verdicts
         WHERE answer = 'update_weights' AND status = 'done'
           AND decided_at >= (SELECT fitted_at FROM core.cluster_models WHERE cluster_model_id = $model)
         ORDER BY night DESC LIMIT 1)
        UNION ALL
        SELECT min(night_of(trained_from, $timezone)),
               min(night_of(trained_until, $timezone))
        FROM mart.flow_versions WHERE cluster_model_id = $model
        UNION ALL
        SELECT min(night_of(trained_from, $timezone)),
               min(night_of(trained_until, $timezone))
        FROM mart.flow_versions WHERE in_force
        UNION ALL
        SELECT coalesce(min(night), today()), coalesce(max(night), today()) FROM judged_scores
        """,
        {"model": model_id, "timezone": timezone},
    ).fetchall()
    return next((first, last) for first, last in rows if first is not None and last is not None)


def _read_clusters(
    connection: duckdb.DuckDBPyConnection, model: ClusterModel, nights: Sequence[date]
) -> list[ClusterView]:
    evidence = connection.execute(
        "SELECT cluster_key, night, state FROM core.drift_states WHERE night BETWEEN ? AND ?", [nights[0], nights[-1]]
    ).fetchall()
    views = []
    for key, version, reference in connection.execute(
        "SELECT cluster_key, flow_version, reference FROM core.drift_references WHERE reference IS NOT NULL "
        "ORDER BY cluster_key"
    ).fetchall():
        if key not in model.keys:
            continue
        blocks = connection.execute(
            "SELECT night, machine_id, block, n_readings, channels, sensors, improbable FROM core.drift_blocks "
            "WHERE cluster_key = ? AND flow_version = ? AND NOT is_reference AND night > ?",
            [key, version, nights[0] - timedelta(days=RECENT_NIGHTS)],
        ).df()
        by_night = {
            night: DriftState.from_dict(json.loads(state)).combined for of, night, state in evidence if of == key
        }
        views.append(
            ClusterView(
                key,
                model.locate(key)[0].segment,
                version,
                DriftReference.from_dict(json.loads(reference)),
                to_blocks(blocks),
                by_night,
            )
        )
    return views


def _read_mixes(
    connection: duckdb.DuckDBPyConnection, model: ClusterModel, learned: tuple[date, date], threshold: float
) -> list[MixView]:
    mixes = []
    for part in model.segments:
        if len(part.keys) < 2:
            continue
        frame = connection.execute(
            "SELECT night, cluster_key, sum(n_judged) AS n FROM judged_scores "
            "WHERE segment = $segment AND list_contains($keys, cluster_key) AND night >= $first GROUP BY ALL",
            {"segment": part.segment, "keys": list(part.keys), "first": learned[0]},
        ).df()
        table = frame.pivot_table(index="night", columns="cluster_key", values="n", fill_value=0)
        table = table.reindex(columns=list(part.keys), fill_value=0).sort_index()
        night = to_ordinals(table.index)
        counts = table.to_numpy(dtype=np.int64)
        is_learned = night <= to_ordinal(learned[1])
        try:
            reference = DriftReference.fit(mix_blocks(night[is_learned], counts[is_learned]), np.ones(len(part.keys)))
        except ValueError:
            continue  # too few nights to say what the mix usually is
        later, after = night[~is_learned], counts[~is_learned]
        state, evidence = DriftState.start(reference), {}
        for position in range(len(later)):
            if state.combined >= threshold:
                state = DriftState.start(reference)
            one = slice(position, position + 1)
            state = advance(reference, state, mix_blocks(later[one], after[one]))
            evidence[from_ordinal(later[position])] = state.combined
        before = counts[is_learned].sum(axis=0)
        mixes.append(MixView(part.segment, part.keys, later, after, before, reference, evidence))
    return mixes


def _read_availability(connection: duckdb.DuckDBPyConnection, learned: tuple[date, date]) -> Availability | None:
    frame = connection.execute(
        "SELECT machine_id, night, sum(n_readings) AS n_readings, sum(n_judged) AS n_judged FROM judged_scores "
        "WHERE night NOT IN (FROM cut_night) GROUP BY ALL"
    ).df()
    if frame.empty:
        return None
    day = to_ordinals(frame.night)
    frame = frame.assign(night=day).set_index(["machine_id", "night"])
    parts = []
    for machine in frame.index.unique("machine_id"):
        own = frame.loc[machine]
        whole = np.arange(own.index.min(), day.max() + 1)
        filled = own.reindex(whole, fill_value=0)
        usual = filled.n_judged[whole <= to_ordinal(learned[1])]
        limit = int(usual.quantile(_RARELY)) if len(usual) else 0
        parts.append(filled.assign(machine=machine, usual=limit))
    rows = pd.concat(parts)
    return Availability(
        night=rows.index.to_numpy(dtype=np.int64),
        machine=rows.machine.to_numpy().astype(np.str_),
        n_readings=rows.n_readings.to_numpy(dtype=np.int64),
        n_judged=rows.n_judged.to_numpy(dtype=np.int64),
        usual=rows.usual.to_numpy(dtype=np.int64),
    )


def _read_levels(
    connection: duckdb.DuckDBPyConnection,
    model_id: str,
    sensors: Sequence[str],
    learned: tuple[date, date],
    nights: Sequence[date],
    timezone: str,
) -> tuple[SensorLevels | None, pd.DataFrame]:
    """Return the levels of the nights to judge, and those of the time that the regimes were learned from."""

    def measure(first: date, last: date, *, by_night: bool) -> pd.DataFrame:
        query = read_sql(
            __package__,
            "sensor_levels.sql",
            quantiles=", ".join(f"approx_quantile(sensor_{i}, {list(UNIT_QUANTILES)})" for i in range(len(sensors))),
            values=", ".join(
                f"coalesce(reading.{quote_identifier(name)}, rejected.refused[{quote_literal(name)}]) AS sensor_{i}"
                for i, name in enumerate(sensors)
            ),
        )
        values = {"timezone": timezone, "first": first, "last": last, "by_night": by_night}
        return connection.execute(query, values).df()

    usual = connection.execute(
        "SELECT machine_id, levels FROM core.sensor_levels WHERE cluster_model_id = ?", [model_id]
    ).df()
    if usual.empty:
        usual = measure(*learned, by_night=False)[["machine_id", "levels"]]
    recent = measure(nights[0], nights[-1], by_night=True).merge(usual, on="machine_id", suffixes=("", "_usual"))
    if recent.empty:
        return None, usual
    return (
        SensorLevels(
            night=to_ordinals(recent.night),
            machine=recent.machine_id.to_numpy().astype(np.str_),
            recent=_stack(recent.levels, len(sensors)),
            reference=_stack(recent.levels_usual, len(sensors)),
        ),
        usual,
    )


def _stack(levels: pd.Series, n_sensors: int) -> NDArray[np.float64]:
    """Return levels as an array of shape (N, S, Q); NaN where a sensor has no values.

    DuckDB has NULL for these, which pandas holds as None or as the masked constant: neither has a length.
    """
    stacked = np.full((len(levels), n_sensors, len(UNIT_QUANTILES)), np.nan)
    for row, of_sensors in enumerate(levels):
        for position, quantiles in enumerate(of_sensors):
            if np.shape(quantiles) == (len(UNIT_QUANTILES),):
                stacked[row, position] = quantiles
    return stacked
