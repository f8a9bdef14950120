"""Scoring: one slice of log-densities per regime, scores derived from all slices, contributions, events, cases."""

import dagster as dg

from pwflow_dagster.metadata import column_lineage, column_schema, small_table
from pwflow_dagster.names import asset_key
from pwflow_dagster.partitions import selected_clusters
from pwflow_dagster.resources import PlantResource
from pwflow_dagster.steps import decider, running

__all__ = ["build"]

OWNERS = ["team:process-engineering"]
MOST_SHOWN = 20
NO_FLOOD = "no_flood_of_cases"


def build(
    plant_name: str, partitions: dg.DynamicPartitionsDefinition, backfills: dg.BackfillPolicy
) -> list[dg.AssetsDefinition]:
    """Return the assets from `component_log_density` to `cases` of a plant."""
    return [
        _component_log_density(plant_name, partitions, backfills),
        _anomaly_scores(plant_name),
        _sensor_contributions(plant_name),
        _anomaly_events(plant_name),
        _cluster_health(plant_name),
        _cases(plant_name),
    ]


def _component_log_density(
    plant_name: str, partitions: dg.DynamicPartitionsDefinition, backfills: dg.BackfillPolicy
) -> dg.AssetsDefinition:
    assignments_key = asset_key(plant_name, "cluster_assignments")
    flow_key = asset_key(plant_name, "cluster_flow")

    @dg.asset(
        key_prefix=plant_name,
        group_name="3_scoring",
        owners=OWNERS,
        kinds={"pytorch", "duckdb"},
        partitions_def=partitions,
        backfill_policy=backfills,
        deps=[assignments_key, flow_key],
        description=(
            "log p_k(x): how probable each reading is in each of its candidate regimes. One slice per regime; only "
            "what the flow in use has not scored yet is scored."
        ),
    )
    def component_log_density(context: dg.AssetExecutionContext, plant: dg.ResourceParam[PlantResource]) -> None:
        from pwflow_core.pipeline.scoring.densities import score_slices

        with running(context):
            opened = plant.open()
            schema = column_schema(opened, "core", "component_log_density")
            lineage = column_lineage(
                {
                    "cluster_key": [(assignments_key, "cluster_key")],
                    "reading_id": [(assignments_key, "reading_id")],
                    "flow_version": [(flow_key, "flow_version")],
                }
            )
            for key, summary in score_slices(opened, selected_clusters(context, opened)):
                context.add_asset_metadata(
                    {
                        "dagster/partition_row_count": summary.n_readings,
                        "readings scored in this run": summary.n_new,
                        "readings per second": summary.rows_per_second,
                        "flow version": summary.flow_version or "none yet",
                        **({"why nothing is judged": summary.problem} if summary.problem else {}),
                        "dagster/column_schema": schema,
                        "dagster/column_lineage": lineage,
                    },
                    partition_key=key,
                )

    return component_log_density


def _anomaly_scores(plant_name: str) -> dg.AssetsDefinition:
    readings_key = asset_key(plant_name, "readings")
    density_key = asset_key(plant_name, "component_log_density")

    @dg.asset(
        key_prefix=plant_name,
        group_name="3_scoring",
        owners=OWNERS,
        kinds={"duckdb", "sql"},
        deps=[density_key, readings_key],
        description=(
            "Every reading with its calibrated probability: a p-value against held-out readings of the same "
            "regime, and minus its logarithm as the anomaly score. A reading that cannot be judged has a status "
            "that says why, and no score."
        ),
    )
    def anomaly_scores(
        context: dg.AssetExecutionContext, plant: dg.ResourceParam[PlantResource]
    ) -> dg.MaterializeResult[None]:
        from pwflow_core.pipeline.scoring.detectability import measure_detectability
        from pwflow_core.pipeline.scoring.scores import derive_scores

        with running(context):
            opened = plant.open()
            summary = derive_scores(opened)
            sight = measure_detectability(opened)
            return dg.MaterializeResult(
                metadata={
                    "dagster/row_count": sum(summary.n_by_status.values()),
                    "readings derived in this run": summary.n_derived,
                    "anomalies": summary.n_anomalies,
                    "readings by status": small_table(
                        {"status": status, "readings": count} for status, count in summary.n_by_status.items()
                    ),
                    "false-alarm rate per reading": summary.rate.alpha,
                    **(
                        {
                            "false alarms per week": summary.rate.alarms_per_week,
                            "readings per week": summary.rate.readings_per_week,
                        }
                        if summary.rate.alarms_per_week is not None
                        else {}
                    ),
                    "calibration": small_table(
                        {
                            "cluster_key": key,
                            "held-out readings": made.n_rows,
                            "count as independent": round(made.n_effective),
                            "ignored": made.n_set_aside,
                            "tail scale (nats)": made.tail_scale,
                            "tail shape": made.tail_shape,
                        }
                        for key, made in summary.calibration.items()
                    ),
                    "regimes that cannot alarm yet": ", ".join(summary.silent) or "none",
                    "regimes whose alarms rest on the fitted tail": ", ".join(summary.extrapolated) or "none",
                    "regimes probed in this run": ", ".join(sight.probed) or "none",
                    "smallest faults that alarm (standard deviations)": small_table(
                        {
                            "cluster_key": seen.cluster_key,
                            "sensor": seen.sensor,
                            "lasting shift": _rounded(seen.shift_sigma),
                            "spike": _rounded(seen.spike_sigma),
                            "blind": seen.reason or "no",
                        }
                        for seen in sight.sight
                    ),
                    "model set": summary.model_set_id,
                    "dagster/column_schema": column_schema(opened, "mart", "anomaly_scores"),
                    "dagster/column_lineage": column_lineage(
                        {
                            **{name: [(readings_key, name)] for name in ("reading_id", "machine_id", "ts", "segment")},
                            **{
                                name: [(density_key, "log_density")]
                                for name in ("log_density", "p_value", "anomaly_score", "is_anomaly")
                            },
                            "cluster_key": [(density_key, "cluster_key"), (density_key, "log_density")],
                            "flow_version": [(density_key, "flow_version")],
                            "status": [(readings_key, "quality")],
                            "reason": [(readings_key, "reason")],
                        }
                    ),
                },
            )

    return anomaly_scores


def _sensor_contributions(plant_name: str) -> dg.AssetsDefinition:
    readings_key = asset_key(plant_name, "readings")
    flow_key = asset_key(plant_name, "cluster_flow")
    scores_key = asset_key(plant_name, "anomaly_scores")

    @dg.asset(
        key_prefix=plant_name,
        group_name="3_scoring",
        owners=OWNERS,
        kinds={"pytorch", "duckdb"},
        deps=[scores_key, flow_key],
        description=(
            "Which sensors caused each anomaly, what they read and what they should have read given the "
            "others. The contributions of a reading add up to its anomaly score. Only anomalies that are new, or "
            "that were scored again, are explained."
        ),
    )
    def sensor_contributions(
        context: dg.AssetExecutionContext, plant: dg.ResourceParam[PlantResource]
    ) -> dg.MaterializeResult[None]:
        from pwflow_core.pipeline.scoring.contributions import explain_anomalies

        with running(context):
            opened = plant.open()
            summary = explain_anomalies(opened)
            return dg.MaterializeResult(
                metadata={
                    "dagster/row_count": summary.n_rows,
                    "anomalies explained in this run": summary.n_new,
                    "anomalies explained": summary.n_explained,
                    "anomalies without an explanation: no value of a sensor, or no model file": summary.n_incomplete,
                    "caused first by": small_table(
                        {"sensor": sensor, "anomalies": count} for sensor, count in summary.blame.items()
                    ),
                    "dagster/column_schema": column_schema(opened, "mart", "sensor_contributions"),
                    "dagster/column_lineage": column_lineage(
                        {
                            **{name: [(scores_key, name)] for name in ("reading_id", "machine_id", "ts", "scored_at")},
                            "contribution": [(scores_key, "anomaly_score"), (flow_key, "flow_version")],
                            "observed": [(readings_key, "reading_id")],
                        }
                    ),
                },
            )

    return sensor_contributions


def _anomaly_events(plant_name: str) -> dg.AssetsDefinition:
    scores_key = asset_key(plant_name, "anomaly_scores")
    contributions_key = asset_key(plant_name, "sensor_contributions")

    @dg.asset(
        key_prefix=plant_name,
        group_name="3_scoring",
        owners=OWNERS,
        kinds={"duckdb", "sql"},
        deps=[scores_key, contributions_key],
        description=(
            "Anomalies of a machine that follow each other closely, as one event: start, end, peak, the sensors "
            "that caused it, and a plain sentence. Very few are an event only if one of them is extreme."
        ),
    )
    def anomaly_events(
        context: dg.AssetExecutionContext, plant: dg.ResourceParam[PlantResource]
    ) -> dg.MaterializeResult[None]:
        from pwflow_core.pipeline.scoring.events import derive_events

        with running(context):
            opened = plant.open()
            summary = derive_events(opened)
            return dg.MaterializeResult(
                metadata={
                    "dagster/row_count": summary.n_events,
                    "machines with events": summary.n_machines,
                    "anomalies in events": summary.n_anomalies,
                    "worst events": small_table(
                        {
                            "started_at": f"{event.started_at:%Y-%m-%d %H:%M:%S}",
                            "peak_score": round(event.peak_score, 2),
                            "readings": event.n_readings,
                            "what happened": event.summary,
                        }
                        for event in summary.worst
                    ),
                    "dagster/column_schema": column_schema(opened, "mart", "anomaly_events"),
                    "dagster/column_lineage": column_lineage(
                        {
                            **{name: [(scores_key, name)] for name in ("machine_id", "segment", "cluster_key")},
                            "event_id": [(scores_key, "reading_id")],
                            "started_at": [(scores_key, "ts")],
                            "ended_at": [(scores_key, "ts")],
                            "peak_score": [(scores_key, "anomaly_score")],
                            "n_readings": [(scores_key, "is_anomaly")],
                            "top_sensors": [(contributions_key, "contribution")],
                            "summary": [
                                (contributions_key, name)
                                for name in ("observed", "expected_low", "expected_high", "unit")
                            ],
                        }
                    ),
                },
            )

    return anomaly_events


def _cluster_health(plant_name: str) -> dg.AssetsDefinition:
    flow_key = asset_key(plant_name, "cluster_flow")
    scores_key = asset_key(plant_name, "anomaly_scores")
    contributions_key = asset_key(plant_name, "sensor_contributions")

    @dg.asset(
        key_prefix=plant_name,
        group_name="3_scoring",
        owners=OWNERS,
        kinds={"pytorch", "duckdb"},
        deps=[scores_key, contributions_key, flow_key],
        description=(
            "What is known about each night and regime: readings that could not be judged, by reason, the share of "
            "alarms beside ten times the false-alarm rate, and evidence that the regime moved, which may be looked at "
            "every night. Verdicts on drift follow from it. Only nights whose scores changed are derived."
        ),
    )
    def cluster_health(
        context: dg.AssetExecutionContext, plant: dg.ResourceParam[PlantResource]
    ) -> dg.MaterializeResult[None]:
        from pwflow_core.pipeline.decisions.verdicts import open_verdicts
        from pwflow_core.pipeline.drift.evidence import follow_drift
        from pwflow_core.pipeline.drift.health import derive_health
        from pwflow_core.pipeline.looking.status import next_step
        from pwflow_core.pipeline.regimes.naming import read_names

        with running(context):
            opened = plant.open()
            summary = derive_health(opened)
            drift = follow_drift(opened, run_id=context.run.run_id)
            with opened.warehouse.snapshot() as connection:
                wanted, names = open_verdicts(connection), read_names(connection)
            return dg.MaterializeResult(
                metadata={
                    "dagster/row_count": summary.n_rows,
                    "nights derived in this run": summary.n_nights,
                    "readings by channel": small_table(
                        {"channel": channel, "readings": count} for channel, count in summary.n_by_channel.items()
                    ),
                    "above their threshold": small_table(
                        {"day": night, "cluster_key": key, "channel": channel}
                        for night, key, channel in summary.exceeded[:MOST_SHOWN]
                    ),
                    "evidence of drift (log10)": small_table(
                        {
                            "regime": names.label(key),
                            "evidence": round(evidence, 2),
                            "threshold": round(drift.threshold, 2),
                        }
                        for key, evidence in drift.evidence.items()
                    ),
                    "verdicts of this run": small_table(
                        {
                            "verdict_id": verdict.verdict_id,
                            "day": verdict.night.isoformat(),
                            "verdict": verdict.verdict,
                            "what happened": names.spell_out(verdict.summary),
                        }
                        for verdict in drift.verdicts
                    ),
                    "verdicts that are open": small_table(
                        {
                            "verdict_id": verdict.verdict_id,
                            "day": verdict.night.isoformat(),
                            "what happened": names.spell_out(verdict.summary),
                            "next": next_step(verdict, opened.config.drift.policy),
                        }
                        for verdict in wanted
                    ),
                    "regimes with too few readings to follow": ", ".join(drift.unfollowed) or "none",
                    "dagster/column_schema": column_schema(opened, "mart", "cluster_health"),
                    "dagster/column_lineage": column_lineage(
                        {
                            "night": [(scores_key, "ts")],
                            "cluster_key": [(scores_key, "cluster_key")],
                            "channel": [(scores_key, "status")],
                            "evidence": [(flow_key, "flow_version")],
                            "share": [(scores_key, "status"), (scores_key, "is_anomaly")],
                            "n_readings": [(scores_key, "status"), (scores_key, "is_anomaly")],
                        }
                    ),
                },
            )

    return cluster_health


def _cases(plant_name: str) -> dg.AssetsDefinition:
    events_key = asset_key(plant_name, "anomaly_events")
    contributions_key = asset_key(plant_name, "sensor_contributions")
    health_key = asset_key(plant_name, "cluster_health")

    @dg.asset(
        key_prefix=plant_name,
        group_name="3_scoring",
        owners=OWNERS,
        kinds={"duckdb"},
        deps=[events_key, contributions_key, health_key],
        check_specs=[
            dg.AssetCheckSpec(
                NO_FLOOD,
                asset=asset_key(plant_name, "cases"),
                description="A run raised no more new cases than people can look at (cases.flood). Only warns.",
            )
        ],
        description=(
            "What a person handles: the events of one cause, and verdicts on drift, as one case that keeps its id. It "
            "closes by itself when its machines are normal again, and opens again if the same comes back. What was "
            "told is kept in mart.alarm_log, which no later model changes."
        ),
    )
    # a bare result: Dagster does not take one with its type beside a check
    def cases(context: dg.AssetExecutionContext, plant: dg.ResourceParam[PlantResource]) -> dg.MaterializeResult:  # type: ignore[type-arg]
        from pwflow_core.pipeline.cases.deriving import derive_cases
        from pwflow_core.pipeline.cases.view import next_step_of, read_cases
        from pwflow_core.pipeline.regimes.naming import read_names

        with running(context):
            opened = plant.open()
            summary = derive_cases(opened, by=decider(context.run))
            with opened.warehouse.snapshot() as connection:
                view = read_cases(connection, opened.config.schedule.timezone, most=0)
                names = read_names(connection)
            flood = (
                f"{summary.n_opened:,} new cases in one run, more than the {summary.flood} of cases.flood: look at the "
                "machines and regimes that they share first"
            )
            if summary.is_flood:
                context.log.warning(flood)
            return dg.MaterializeResult(
                metadata={
                    "dagster/row_count": summary.n_cases,
                    "go on": summary.n_active,
                    "events and verdicts told in this run": summary.n_told,
                    "new in this run": summary.n_opened,
                    "to decide": small_table(
                        {
                            "case_id": case.case_id,
                            "severity": case.severity,
                            "since": f"{case.since:%Y-%m-%d %H:%M}",
                            "what happened": names.spell_out(case.summary),
                            "next": next_step_of(case),
                        }
                        for case in view.to_decide[:MOST_SHOWN]
                    ),
                    "dagster/column_schema": column_schema(opened, "mart", "cases"),
                    "dagster/column_lineage": column_lineage(
                        {
                            "machine_ids": [(events_key, "machine_id")],
                            "sensors": [(contributions_key, "contribution")],
                            "since": [(events_key, "started_at")],
                            "last_seen": [(events_key, "ended_at")],
                            "n_events": [(events_key, "event_id")],
                            "peak_score": [(events_key, "peak_score")],
                            "verdict_ids": [(health_key, "evidence")],
                        }
                    ),
                },
                check_results=[
                    dg.AssetCheckResult(
                        passed=not summary.is_flood,
                        check_name=NO_FLOOD,
                        severity=dg.AssetCheckSeverity.WARN,
                        description=flood if summary.is_flood else f"{summary.n_opened:,} new cases in this run",
                        metadata={"new cases": summary.n_opened, "cases.flood": summary.flood},
                    )
                ],
            )

    return cases


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 2)
