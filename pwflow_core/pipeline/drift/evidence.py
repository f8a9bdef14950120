"""Drift: evidence per regime and night that a regime moved; only what changed. What it means is judged in `judging`."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import date

import duckdb
import pandas as pd

from pwflow_core.modelling.drift import Blocks, DriftReference, DriftState, advance
from pwflow_core.pipeline.decisions.verdicts import ALL_CHANNELS, Decider, StoredVerdict
from pwflow_core.pipeline.drift.blocks import Followed, FreshBlocks, fresh_blocks, to_blocks
from pwflow_core.pipeline.drift.judging import judge_nights
from pwflow_core.pipeline.drift.view import plant_threshold, show_evidence
from pwflow_core.pipeline.readings.nights import to_ordinal
from pwflow_core.pipeline.regimes.model import load_cluster_model
from pwflow_core.pipeline.source.source import read_source
from pwflow_core.plant import Plant
from pwflow_core.warehouse import insert_frame, insert_row, utc_now
from pwflow_core.warehouse.days import find_fresh_days, remember_days

__all__ = ["DriftSummary", "follow_drift"]

_log = logging.getLogger("pwflow.drift")

_STEP = "drift"
_TABLES = ("core.drift_blocks", "core.drift_references", "core.drift_states")


@dataclass(frozen=True)
class DriftSummary:
    """What following the drift of the regimes came to.

    Attributes:
        n_nights: Nights of regimes whose evidence was drawn in this run.
        evidence: Evidence after the last night, as log10 of the e-value, by cluster key.
        threshold: Evidence from which a regime has moved, as a log10 too.
        unfollowed: Regimes whose flow has too few held-out readings to compare nights with.
        verdicts: Verdicts made in this run.
    """

    n_nights: int
    evidence: dict[str, float]
    threshold: float
    unfollowed: list[str]
    verdicts: list[StoredVerdict]


@dataclass(frozen=True, eq=False)
class _Night:
    """One night of one regime: the state after it, and the readings that it was drawn from."""

    night: date
    n_readings: int
    fingerprint: int
    state: DriftState


@dataclass(frozen=True, eq=False)
class _History:
    """The nights of one regime from the first that changed.

    Attributes:
        fresh: The regime, the flow, and the block means that are new.
        reference: What its nights are compared with; None if it has too few held-out readings.
        blocks: Block means of all nights from the first that changed.
        nights: Each of those nights, in their order.
    """

    fresh: FreshBlocks
    reference: DriftReference | None
    blocks: Blocks
    nights: list[_Night]


def follow_drift(plant: Plant, *, run_id: str | None = None) -> DriftSummary:
    """Draw the evidence of the nights whose scores changed, and of all that follow them.

    Evidence is a few numbers per regime and night that continue those of the night before: late readings change the
    night that they belong to, and the nights after it are replayed from their stored block means.

    Arguments:
        plant: The plant.
        run_id: The run in which this happens, for the ledger of verdicts.

    Raises:
        NotFittedError: Nothing has been scored yet.
        ModelFileError: A model file is missing or damaged.
    """
    model_id, model = load_cluster_model(plant)
    with plant.warehouse.snapshot() as connection:
        n_sensors = sum(sensor.name in model.columns for sensor in read_source(connection).sensors)
        changed = find_fresh_days(connection, _STEP, plant.config.schedule.timezone)
    threshold = plant_threshold(plant, model)
    histories = []
    for fresh in fresh_blocks(plant, model, n_sensors, changed):
        with plant.warehouse.snapshot() as connection:
            stored = _read_stored(connection, fresh.followed)
        histories.append(_replay(fresh, stored, threshold))
    with plant.warehouse.transaction() as connection:
        _forget_others(connection)
        for history in histories:
            _write(connection, history, threshold)
        remember_days(connection, _STEP, changed)
    n_nights = sum(len(history.nights) for history in histories)
    _log.info("evidence of drift drawn for %d nights of %d regimes", n_nights, len(histories))
    verdicts = judge_nights(plant, model_id, model, by=Decider("drift", run_id))
    with plant.warehouse.snapshot() as connection:
        return _summarise(connection, n_nights, threshold, verdicts)


@dataclass(frozen=True, eq=False)
class _Stored:
    """What earlier runs wrote about one regime.

    Attributes:
        reference: JSON; None if there is none yet.
        before: State after the last night before the first that changed, JSON; None if there is none.
        blocks: Block means from the first night that changed on, of nights that did not.
        nights: Readings of each night from that one on: night, n_readings, fingerprint.
    """

    reference: str | None
    before: str | None
    blocks: pd.DataFrame
    nights: list[tuple[date, int, int]]


def _read_stored(connection: duckdb.DuckDBPyConnection, followed: Followed) -> _Stored:
    about = {"key": followed.cluster_key, "version": followed.flow_version}
    of_flow = "cluster_key = $key AND flow_version = $version"
    first = min(followed.stale, default=date.max)
    reference = connection.execute(f"SELECT reference FROM core.drift_references WHERE {of_flow}", about).fetchone()
    before = connection.execute(
        f"SELECT state FROM core.drift_states WHERE {of_flow} AND night < $first ORDER BY night DESC LIMIT 1",
        about | {"first": first},
    ).fetchone()
    blocks = connection.execute(
        "SELECT night, machine_id, block, n_readings, channels, sensors, improbable FROM core.drift_blocks "
        f"WHERE {of_flow} AND NOT is_reference AND night >= $first AND NOT list_contains($stale, night)",
        about | {"first": first, "stale": list(followed.stale)},
    ).df()
    nights = [night for night in followed.nights if night[0] >= first]
    return _Stored(reference[0] if reference else None, before[0] if before else None, blocks, nights)


def _replay(fresh: FreshBlocks, stored: _Stored, threshold: float) -> _History:
    """Advance the evidence of a regime over the nights from the first that changed."""
    followed = fresh.followed
    is_reference = fresh.blocks.is_reference.to_numpy(dtype=bool)
    blocks = to_blocks(pd.concat([fresh.blocks[~is_reference], stored.blocks], ignore_index=True))
    if stored.reference is not None:
        reference = DriftReference.from_dict(json.loads(stored.reference))
    else:
        try:
            reference = DriftReference.fit(to_blocks(fresh.blocks[is_reference]), fresh.sensor_spread)
        except ValueError as error:
            _log.warning("%s: its drift cannot be followed: %s", followed.cluster_key, error)
            return _History(fresh, None, blocks, [])
    state = DriftState.from_dict(json.loads(stored.before)) if stored.before else DriftState.start(reference)
    nights = []
    for night, n_readings, fingerprint in stored.nights:
        if state.combined >= threshold:
            state = DriftState.start(reference)
        state = advance(reference, state, blocks.take(blocks.night == to_ordinal(night)))
        nights.append(_Night(night, n_readings, fingerprint, state))
    return _History(fresh, reference, blocks, nights)


def _forget_others(connection: duckdb.DuckDBPyConnection) -> None:
    """Drop what was kept of flows that score nothing any more; the health of their nights stays."""
    for table in _TABLES:
        connection.execute(
            f"DELETE FROM {table} WHERE (cluster_key, flow_version) NOT IN "
            "(SELECT (cluster_key, model) FROM core.progress WHERE step = 'score')"
        )


def _write(connection: duckdb.DuckDBPyConnection, history: _History, threshold: float) -> None:
    followed, reference = history.fresh.followed, history.reference
    about = {"key": followed.cluster_key, "version": followed.flow_version}
    named = {"cluster_key": followed.cluster_key, "flow_version": followed.flow_version}
    of_flow = "cluster_key = $key AND flow_version = $version"
    if not followed.has_reference:
        connection.execute(f"DELETE FROM core.drift_references WHERE {of_flow}", about)
        made: dict[str, object] = {
            "watched_from": followed.watched_from,
            "reference": json.dumps(reference.to_dict()) if reference else None,
            "made_at": utc_now(),
        }
        insert_row(connection, "core.drift_references", made | named)
    connection.execute(
        f"DELETE FROM core.drift_blocks WHERE {of_flow} AND "
        "CASE WHEN is_reference THEN $is_new ELSE list_contains($stale, night) END",
        about | {"stale": list(followed.stale), "is_new": not followed.has_reference},
    )
    insert_frame(connection, "core.drift_blocks", history.fresh.blocks, **named)
    if not followed.stale or reference is None:
        return
    since = about | {"first": min(followed.stale)}
    connection.execute(f"DELETE FROM core.drift_states WHERE {of_flow} AND night >= $first", since)
    connection.execute(
        "DELETE FROM mart.cluster_health "
        "WHERE cluster_key = $key AND night >= $first AND list_contains($channels, channel)",
        {"key": since["key"], "first": since["first"], "channels": [ALL_CHANNELS, *reference.channels]},
    )
    states = [
        {
            "night": night.night,
            "n_readings": night.n_readings,
            "fingerprint": night.fingerprint,
            "state": json.dumps(night.state.to_dict()),
        }
        for night in history.nights
    ]
    health = [
        {
            "night": night.night,
            "channel": channel,
            "evidence": show_evidence(float(evidence)),
            "threshold": show_evidence(threshold),
            "verdict": "exceeded" if evidence >= threshold else "normal",
            "n_readings": night.n_readings,
        }
        for night in history.nights
        for channel, evidence in [
            (ALL_CHANNELS, night.state.combined),
            *zip(reference.channels, night.state.log_evidence, strict=True),
        ]
    ]
    insert_frame(connection, "core.drift_states", pd.DataFrame(states), **named)
    insert_frame(connection, "mart.cluster_health", pd.DataFrame(health), cluster_key=followed.cluster_key)


def _summarise(
    connection: duckdb.DuckDBPyConnection, n_nights: int, threshold: float, verdicts: list[StoredVerdict]
) -> DriftSummary:
    latest = connection.execute(
        "SELECT cluster_key, arg_max(evidence, night) FROM mart.cluster_health "
        "SEMI JOIN (SELECT cluster_key FROM mart.clusters WHERE status = 'active') AS active USING (cluster_key) "
        "WHERE channel = ? GROUP BY cluster_key ORDER BY cluster_key",
        [ALL_CHANNELS],
    ).fetchall()
    unfollowed = connection.execute(
        "SELECT cluster_key FROM core.drift_references WHERE reference IS NULL ORDER BY cluster_key"
    ).fetchall()
    return DriftSummary(n_nights, dict(latest), show_evidence(threshold), [row[0] for row in unfollowed], verdicts)
