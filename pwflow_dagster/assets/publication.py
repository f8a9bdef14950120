"""Publication: what analysts open."""

from typing import TYPE_CHECKING

import dagster as dg

from pwflow_dagster.metadata import column_lineage, column_schema, small_table
from pwflow_dagster.resources import PlantResource
from pwflow_dagster.steps import running

if TYPE_CHECKING:
    from pwflow_core.plant import Plant

__all__ = ["build"]

EXAMPLE_SQL = """```sql
SELECT machine_id, ts, cluster_key, anomaly_score
FROM mart.anomaly_scores
WHERE is_anomaly
ORDER BY anomaly_score DESC
LIMIT 20;
```"""


def build(plant_name: str) -> list[dg.AssetsDefinition]:
    """Return `published_warehouse` of a plant."""
    scores_key, contributions_key, events_key, health_key = (
        dg.AssetKey([plant_name, name])
        for name in ("anomaly_scores", "sensor_contributions", "anomaly_events", "cluster_health")
    )

    @dg.asset(
        key_prefix=plant_name,
        group_name="4_publication",
        owners=["team:data-engineering"],
        kinds={"duckdb"},
        deps=[scores_key, contributions_key, events_key, health_key],
        description=(
            "The read-only DuckDB file for SQL users. It is swapped in as a whole: a reader never waits, and never "
            "sees half a night."
        ),
    )
    def published_warehouse(
        context: dg.AssetExecutionContext, plant: dg.ResourceParam[PlantResource]
    ) -> dg.MaterializeResult:
        from pwflow_core.pipeline.publishing import publish_warehouse

        with running(context):
            opened = plant.open()
            summary = publish_warehouse(opened)
            n_deleted = _collect_model_files(context, opened)
            schema = column_schema(opened, "mart", "anomaly_scores")
            return dg.MaterializeResult(
                metadata={
                    "file": dg.MetadataValue.path(str(summary.path)),
                    "size (MB)": round(summary.size_bytes / 1e6, 1),
                    "dagster/row_count": summary.n_rows["anomaly_scores"],
                    "rows by table": small_table(
                        {"table": f"mart.{table}", "rows": count} for table, count in summary.n_rows.items()
                    ),
                    "model files deleted": n_deleted,
                    "try": dg.MetadataValue.md(EXAMPLE_SQL),
                    "dagster/column_schema": schema,
                    "dagster/column_lineage": column_lineage(
                        {column.name: [(scores_key, column.name)] for column in schema.columns}
                    ),
                }
            )

    return [published_warehouse]


def _collect_model_files(context: dg.AssetExecutionContext, plant: "Plant") -> int:
    """Delete the model files that nothing needs any more; if that fails, what was published is published."""
    from pwflow_core.pipeline.retention import collect_model_files

    try:
        return len(collect_model_files(plant))
    except Exception as error:  # the store may be anything that fsspec opens, with errors of its own
        context.log.warning(f"Old model files could not be deleted, the next run tries again: {error}")
        return 0
