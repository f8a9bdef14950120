"""Judging: what the evidence of the whole plant means, night by night; each verdict is kept once."""

from __future__ import annotations

import logging
from datetime import date

import duckdb
import numpy as np
import pandas as pd

from pwflow_core.modelling.drift import ClusterEvidence, MixEvidence, Verdict, judge, measure_mix, measure_shift
from pwflow_core.modelling.drift.blocks import Blocks
from pwflow_core.pipeline.decisions.kinds import find_kind
from pwflow_core.pipeline.decisions.verdicts import (
    Decider,
    StoredVerdict,
    close_ended,
    close_outdated,
    identify_verdict,
    open_verdicts,
    record_verdicts,
)
from pwflow_core.pipeline.drift.ending import find_ended
from pwflow_core.pipeline.drift.view import RECENT_NIGHTS, PlantView, read_plant, show_evidence
from pwflow_core.pipeline.readings.nights import from_ordinal, to_ordinal
from pwflow_core.pipeline.regimes.model import ClusterModel
from pwflow_core.plant import Plant
from pwflow_core.warehouse import insert_frame

__all__ = ["judge_nights"]

_log = logging.getLogger("pwflow.drift")


def judge_nights(plant: Plant, model_id: str, model: ClusterModel, *, by: Decider) -> list[StoredVerdict]:
    """Judge the nights whose evidence changed, and record what is found that is not known yet.

    What goes on is one verdict: it is not recorded again while it is open, nor for thirty nights after a person
    dismissed it. It is closed with the night after which it is over, see `find_ended`.

    Arguments:
        plant: The plant.
        model_id: Id of the cluster model in use.
        model: That model.
        by: Who or what judges, for the ledger.

    Returns:
        The new verdicts, in the order of the nights.
    """
    with plant.warehouse.snapshot() as connection:
        view = read_plant(connection, plant, model_id, model)
    if not view.nights:
        return []
    found = {night: _judge_night(plant, view, night) for night in view.nights}
    new: list[StoredVerdict] = []
    with plant.warehouse.transaction() as connection:
        waiting = open_verdicts(connection)
        for night, of_night in found.items():
            recorded = record_verdicts(connection, of_night, by=by)
            new += recorded
            ended = find_ended(view, night, of_night, [v for v in waiting if v.status == "open"])
            close_ended(connection, night, ended, by=by)
            waiting = [verdict for verdict in waiting if verdict.verdict_id not in ended] + recorded
        close_outdated(connection, by=by)
        _write_mixes(connection, view)
        _keep_levels(connection, model_id, view.usual_levels)
        connection.execute("DELETE FROM core.judged_nights WHERE list_contains(?, night)", [list(found)])
        insert_frame(connection, "core.judged_nights", view.parts)
    for verdict in new:
        _log.warning("%s (%s)", verdict.summary, verdict.answer)
    return new


def _judge_night(plant: Plant, view: PlantView, night: date) -> list[StoredVerdict]:
    of_night = {cluster.key: cluster.log_evidence.get(night, -np.inf) for cluster in view.clusters}
    is_moved = any(evidence >= view.threshold for evidence in of_night.values())
    clusters = [
        ClusterEvidence(
            cluster.key,
            cluster.segment,
            of_night[cluster.key],
            measure_shift(cluster.reference, _recent(cluster.blocks, night)) if is_moved else None,
        )
        for cluster in view.clusters
    ]
    mixes = []
    for mix in view.mixes:
        evidence = mix.log_evidence.get(night, -np.inf)
        rows = (mix.night <= to_ordinal(night)) & (mix.night > to_ordinal(night) - RECENT_NIGHTS)
        shift = (
            measure_mix(mix.reference, mix.before, mix.night[rows], mix.counts[rows])
            if evidence >= view.threshold
            else None
        )
        mixes.append(MixEvidence(mix.segment, mix.keys, evidence, shift))
    verdicts = judge(
        to_ordinal(night),
        clusters,
        threshold=view.threshold,
        sensors=view.sensors,
        mixes=mixes,
        availability=view.availability,
        levels=view.levels,
        min_effect=plant.config.drift.min_effect,
    )
    versions = {cluster.key: cluster.version for cluster in view.clusters}
    return [_to_stored(night, verdict, versions) for verdict in verdicts]


def _recent(blocks: Blocks, night: date) -> Blocks:
    last = to_ordinal(night)
    return blocks.take((blocks.night <= last) & (blocks.night > last - RECENT_NIGHTS))


def _to_stored(night: date, verdict: Verdict, versions: dict[str, str]) -> StoredVerdict:
    since = from_ordinal(verdict.since)
    # what is told of machines alone is told by when it began, so that every night of it is the same verdict
    told = night if verdict.cluster_keys else since
    about = [*verdict.cluster_keys, *verdict.machine_ids, *verdict.sensors]
    return StoredVerdict(
        verdict_id=identify_verdict(
            told, verdict.verdict, about, [versions[key] for key in verdict.cluster_keys if key in versions]
        ),
        night=night,
        verdict=verdict.verdict,
        cluster_keys=verdict.cluster_keys,
        machine_ids=verdict.machine_ids,
        sensors=verdict.sensors,
        since=since,
        effect_size=verdict.effect_size,
        summary=verdict.summary,
        answer=find_kind(verdict.verdict).answer,
    )


def _write_mixes(connection: duckdb.DuckDBPyConnection, view: PlantView) -> None:
    for mix in view.mixes:
        channel = f"mix of {mix.segment}"
        totals = dict(zip(mix.night.tolist(), mix.counts.sum(axis=1).tolist(), strict=True))
        rows = pd.DataFrame(
            [
                {
                    "night": night,
                    "channel": channel,
                    "evidence": show_evidence(evidence),
                    "threshold": show_evidence(view.threshold),
                    "verdict": "exceeded" if evidence >= view.threshold else "normal",
                    "n_readings": totals[to_ordinal(night)],
                }
                for night, evidence in mix.log_evidence.items()
            ]
        )
        connection.execute("DELETE FROM mart.cluster_health WHERE channel = ?", [channel])
        insert_frame(connection, "mart.cluster_health", rows)


def _keep_levels(connection: duckdb.DuckDBPyConnection, model_id: str, levels: pd.DataFrame) -> None:
    """Keep where the values of each sensor lay while the regimes were learned: they are measured once."""
    connection.execute("DELETE FROM core.sensor_levels")
    insert_frame(connection, "core.sensor_levels", levels, cluster_model_id=model_id)
