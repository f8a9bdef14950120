"""Scoring: one slice of log-densities per regime, and the scores that are derived from all slices."""

import dagster as dg

from pwflow_dagster.metadata import column_lineage, column_schema, small_table
from pwflow_dagster.partitions import selected_clusters
from pwflow_dagster.resources import PlantResource
from pwflow_dagster.steps import running

__all__ = ["build"]

OWNERS = ["team:process-engineering"]


def build(plant_name: str, partitions: dg.DynamicPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Return `component_log_density` and `anomaly_scores` of a plant."""
    readings_key, assignments_key, flow_key = (
        dg.AssetKey([plant_name, name]) for name in ("readings", "cluster_assignments", "cluster_flow")
    )

    @dg.asset(
        key_prefix=plant_name,
        group_name="3_scoring",
        owners=OWNERS,
        kinds={"pytorch", "duckdb"},
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=[assignments_key, flow_key],
        description=(
            "log p_k(x): how probable each reading is in each of its candidate regimes. One slice per regime; only "
            "what the flow in force has not scored yet is scored."
        ),
    )
    def component_log_density(context: dg.AssetExecutionContext, plant: dg.ResourceParam[PlantResource]) -> None:
        from pwflow_core.pipeline.slices import score_slices

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
                        "dagster/column_schema": schema,
                        "dagster/column_lineage": lineage,
                    },
                    partition_key=key,
                )

    @dg.asset(
        key_prefix=plant_name,
        group_name="3_scoring",
        owners=OWNERS,
        kinds={"duckdb", "sql"},
        deps=[component_log_density, readings_key],
        description=(
            "Every reading with its calibrated probability: a p-value against held-out readings of the same "
            "regime, and minus its logarithm as the anomaly score. A reading that cannot be judged has a status "
            "that says why, and no score."
        ),
    )
    def anomaly_scores(
        context: dg.AssetExecutionContext, plant: dg.ResourceParam[PlantResource]
    ) -> dg.MaterializeResult:
        from pwflow_core.pipeline.scores import derive_scores

        with running(context):
            opened = plant.open()
            summary = derive_scores(opened)
            density = component_log_density.key
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
                            "worth independent ones": round(made.n_effective),
                            "set aside": made.n_set_aside,
                            "tail scale (nats)": made.tail_scale,
                            "tail shape": made.tail_shape,
                        }
                        for key, made in summary.calibration.items()
                    ),
                    "regimes that cannot alarm yet": ", ".join(summary.silent) or "none",
                    "regimes whose alarms rest on the fitted tail": ", ".join(summary.extrapolated) or "none",
                    "model set": summary.model_set_id,
                    "dagster/column_schema": column_schema(opened, "mart", "anomaly_scores"),
                    "dagster/column_lineage": column_lineage(
                        {
                            **{name: [(readings_key, name)] for name in ("reading_id", "machine_id", "ts", "segment")},
                            **{
                                name: [(density, "log_density")]
                                for name in ("log_density", "p_value", "anomaly_score", "is_anomaly")
                            },
                            "cluster_key": [(density, "cluster_key"), (density, "log_density")],
                            "flow_version": [(density, "flow_version")],
                            "status": [(readings_key, "quality")],
                            "reason": [(readings_key, "reason")],
                        }
                    ),
                },
            )

    return [component_log_density, anomaly_scores]
