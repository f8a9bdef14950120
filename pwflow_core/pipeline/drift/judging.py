"""Judging: what the evidence of the whole plant comes to, night by night; each finding is kept once."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime

import duckdb
import numpy as np
import pandas as pd

from pwflow_core.modelling.drift import ClusterEvidence, MixEvidence, Verdict, judge, measure_mix, measure_shift
from pwflow_core.modelling.drift.blocks import Blocks
from pwflow_core.pipeline.decisions.verdicts import Finding, identify_finding, insert_findings, show_evidence
from pwflow_core.pipeline.drift.view import RECENT_NIGHTS, PlantView, read_plant
from pwflow_core.pipeline.readings.nights import from_ordinal, to_ordinal
from pwflow_core.pipeline.regimes.model import ClusterModel
from pwflow_core.plant import Plant

__all__ = ["judge_nights"]

_log = logging.getLogger("pwflow.drift")


def judge_nights(plant: Plant, model_id: str, model: ClusterModel) -> list[Finding]:
    """Judge the nights whose evidence changed, and record what is found that is not known yet.

    What goes on is one finding: it is not recorded again while it is open, nor for thirty nights after a person
    dismissed it. An outage ends with the first night that has readings again.

    Arguments:
        plant: The plant.
        model_id: Id of the cluster model in force.
        model: That model.

    Returns:
        The new findings, in the order of the nights.
    """
    with plant.warehouse.snapshot() as connection:
        view = read_plant(connection, plant, model_id, model)
    if not view.nights:
        return []
    found = {night: _judge_night(plant, view, night) for night in view.nights}
    last = view.nights[-1]
    silent = sorted({machine for finding in found[last] for machine in _silent(finding)})
    with plant.warehouse.transaction() as connection:
        new = insert_findings(connection, [finding for of_night in found.values() for finding in of_night])
        _close_outages(connection, last, silent)
        _close_answered(connection)
        _write_mixes(connection, view)
        _keep_levels(connection, model_id, view.usual_levels)
        connection.execute("DELETE FROM core.judged_nights WHERE list_contains(?, night)", [list(found)])
        connection.register("parts", view.parts)
        connection.execute("INSERT INTO core.judged_nights SELECT night::DATE, part FROM parts")
        connection.unregister("parts")
    for finding in new:
        _log.warning("%s (%s)", finding.summary, finding.answer)
    return new


def _judge_night(plant: Plant, view: PlantView, night: date) -> list[Finding]:
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
    return [_to_finding(night, verdict, versions) for verdict in verdicts]


def _recent(blocks: Blocks, night: date) -> Blocks:
    last = to_ordinal(night)
    return blocks.take((blocks.night <= last) & (blocks.night > last - RECENT_NIGHTS))


def _to_finding(night: date, verdict: Verdict, versions: dict[str, str]) -> Finding:
    since = from_ordinal(verdict.since)
    # what is told of machines alone is told by when it began, so that every night of it is the same finding
    told = night if verdict.cluster_keys else since
    about = [*verdict.cluster_keys, *verdict.machine_ids, *verdict.sensors]
    return Finding(
        verdict_id=identify_finding(
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
        answer=verdict.answer,
    )


def _silent(finding: Finding) -> tuple[str, ...]:
    return finding.machine_ids if finding.verdict == "outage" else ()


def _close_outages(connection: duckdb.DuckDBPyConnection, night: date, silent: list[str]) -> None:
    connection.execute(
        "UPDATE mart.drift_verdicts SET status = 'done', decided_by = 'readings came again', decided_at = $now "
        "WHERE status = 'open' AND verdict = 'outage' AND night <= $night AND NOT list_has_any(machine_ids, $silent)",
        {"now": datetime.now(UTC).replace(tzinfo=None), "night": night, "silent": silent},
    )


def _close_answered(connection: duckdb.DuckDBPyConnection) -> None:
    """Close findings about regimes that are retired, or that a person or another run has learned again since."""
    now = datetime.now(UTC).replace(tzinfo=None)
    connection.execute(
        """
        UPDATE mart.drift_verdicts
        SET status = 'done', decided_by = 'the regimes were found anew', decided_at = $now
        WHERE status = 'open' AND len(cluster_keys) > 0 AND NOT list_has_any(
            cluster_keys, (SELECT coalesce(list(cluster_key), []) FROM mart.clusters WHERE status = 'active')
        )
        """,
        {"now": now},
    )
    connection.execute(
        """
        UPDATE mart.drift_verdicts AS found
        SET status = 'done', decided_by = 'another flow came into force', decided_at = $now
        WHERE status = 'open' AND answer = 'retrain' AND NOT EXISTS (
            FROM mart.flow_versions AS flow
            WHERE flow.in_force AND list_contains(found.cluster_keys, flow.cluster_key)
              AND flow.promoted_at <= found.made_at
        )
        """,
        {"now": now},
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
        if len(rows):
            connection.register("new_rows", rows)
            connection.execute(
                "INSERT INTO mart.cluster_health BY NAME SELECT * REPLACE (night::DATE AS night) FROM new_rows"
            )
            connection.unregister("new_rows")


def _keep_levels(connection: duckdb.DuckDBPyConnection, model_id: str, levels: pd.DataFrame) -> None:
    """Keep where the values of each sensor lay while the regimes were learned: they are measured once."""
    connection.execute("DELETE FROM core.sensor_levels")
    if levels.empty:
        return
    connection.register("usual_levels", levels)
    connection.execute(
        "INSERT INTO core.sensor_levels BY NAME "
        "SELECT $model AS cluster_model_id, machine_id, levels FROM usual_levels",
        {"model": model_id},
    )
    connection.unregister("usual_levels")
