"""Regimes: the clusters of every segment, the readings of each, and the flow that describes it."""

import dagster as dg
from pydantic import Field

from pwflow_dagster.metadata import column_lineage, column_schema, inline_image, small_table
from pwflow_dagster.partitions import add_clusters, selected_clusters
from pwflow_dagster.resources import PlantResource
from pwflow_dagster.steps import running

__all__ = ["ClusterFlowConfig", "build"]

OWNERS = ["team:process-engineering"]


class ClusterFlowConfig(dg.Config):
    """Run configuration of `cluster_flow`."""

    only_missing: bool = Field(
        default=False, description="Train only those regimes of the run that have no flow in force yet."
    )


def build(plant_name: str, partitions: dg.DynamicPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Return `cluster_model`, `cluster_assignments` and `cluster_flow` of a plant."""
    readings_key = dg.AssetKey([plant_name, "readings"])

    @dg.asset(
        key_prefix=plant_name,
        group_name="2_regimes",
        owners=OWNERS,
        kinds={"scikitlearn"},
        deps=[readings_key],
        description=(
            "The operating regimes of the plant, found inside every segment. The number of regimes is chosen on "
            "held-out readings unless it is configured. A regime that stays what it was keeps its cluster key."
        ),
    )
    def cluster_model(
        context: dg.AssetExecutionContext, plant: dg.ResourceParam[PlantResource]
    ) -> dg.MaterializeResult:
        from pwflow_core.pipeline.clusters import fit_cluster_model
        from pwflow_core.reporting import draw_regimes

        with running(context):
            opened = plant.open()
            summary = fit_cluster_model(opened)
            keys = [key for of_segment in summary.clusters.values() for key in of_segment]
            add_clusters(context.instance, partitions, keys)
            return dg.MaterializeResult(
                metadata={
                    "dagster/row_count": len(keys),
                    "regimes": small_table(
                        {"segment": segment, "cluster_key": key, "weight": round(summary.weights[key], 4)}
                        for segment, of_segment in summary.clusters.items()
                        for key in of_segment
                    ),
                    "map of the regimes": inline_image(draw_regimes(opened), "The regimes of each segment"),
                    "new": ", ".join(summary.minted) or "none",
                    "retired": ", ".join(summary.retired) or "none",
                    "segments with too few readings": small_table(
                        {"segment": segment, "readings": count} for segment, count in summary.thin_segments.items()
                    ),
                    "readings learned from": summary.n_rows,
                    "model": summary.cluster_model_id,
                    "dagster/column_schema": column_schema(opened, "mart", "clusters"),
                    "dagster/column_lineage": column_lineage({"segment": [(readings_key, "segment")]}),
                },
                data_version=dg.DataVersion(summary.cluster_model_id),
            )

    @dg.asset(
        key_prefix=plant_name,
        group_name="2_regimes",
        owners=OWNERS,
        kinds={"duckdb", "scikitlearn"},
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=[readings_key, cluster_model],
        description=(
            "The readings that each regime could have produced, with the probability of the regime. A reading "
            "between two regimes is a candidate of both. Only readings that are new are assigned."
        ),
    )
    def cluster_assignments(context: dg.AssetExecutionContext, plant: dg.ResourceParam[PlantResource]) -> None:
        from pwflow_core.pipeline.clusters import assign_readings

        with running(context):
            opened = plant.open()
            schema = column_schema(opened, "core", "cluster_assignments")
            lineage = column_lineage(
                {
                    "cluster_key": [(cluster_model.key, "cluster_key")],
                    "reading_id": [(readings_key, "reading_id")],
                }
            )
            for key, summary in assign_readings(opened, selected_clusters(context, opened)).items():
                context.add_asset_metadata(
                    {
                        "dagster/partition_row_count": summary.n_readings,
                        "new candidates": summary.n_new,
                        "dagster/column_schema": schema,
                        "dagster/column_lineage": lineage,
                    },
                    partition_key=key,
                )

    @dg.asset(
        key_prefix=plant_name,
        group_name="2_regimes",
        owners=OWNERS,
        kinds={"pytorch"},
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=[cluster_assignments],
        description=(
            "The normalizing flow of each regime: what normal looks like there. Materializing a partition trains "
            "that regime alone, on its readings, and puts the new flow in force; the others stay as they are."
        ),
    )
    def cluster_flow(
        context: dg.AssetExecutionContext, config: ClusterFlowConfig, plant: dg.ResourceParam[PlantResource]
    ) -> None:
        from pwflow_core.pipeline.flows import clusters_without_flow, train_cluster_flows
        from pwflow_core.reporting import draw_training

        with running(context):
            opened = plant.open()
            keys = selected_clusters(context, opened)
            if config.only_missing:
                missing = clusters_without_flow(opened)
                keys = [key for key in keys if key in missing]
            reason = context.run.tags.get("pwflow/reason", "materialized in Dagster")
            promoted_by = f"dagster run {context.run.run_id}"
            summaries = train_cluster_flows(opened, keys, reason=reason, promoted_by=promoted_by)
            schema = column_schema(opened, "mart", "flow_versions")
            for key, summary in summaries.items():
                history = summary.history
                stride = max(1, len(history.steps) // 20)
                context.add_asset_metadata(
                    {
                        "held-out log-density (nats)": summary.held_out_log_density,
                        "readings learned from": summary.n_rows,
                        "readings that stopped the training": summary.n_held_out,
                        "training seconds": history.seconds,
                        "best step": history.best_step,
                        "stopped because": history.stopped,
                        "stayed a Gaussian": history.is_gaussian,
                        "flow version": summary.flow_version,
                        "training curve": inline_image(draw_training(history), f"Log-density of {key} by step"),
                        "training curve (nats)": small_table(
                            {"step": step, "train": round(float(train), 4), "held out": round(float(held_out), 4)}
                            for step, train, held_out in list(
                                zip(history.steps, history.train, history.held_out, strict=True)
                            )[::stride]
                        ),
                        "dagster/column_schema": schema,
                        "dagster/column_lineage": column_lineage(
                            {"cluster_key": [(cluster_assignments.key, "cluster_key")]}
                        ),
                    },
                    partition_key=key,
                )

    return [cluster_model, cluster_assignments, cluster_flow]
