"""Ingestion: what arrived, and the valid readings in it."""

import dagster as dg

from pwflow_dagster.cycles import wait_for_cycle
from pwflow_dagster.metadata import column_lineage, column_schema, small_table
from pwflow_dagster.names import asset_key
from pwflow_dagster.resources import PlantResource
from pwflow_dagster.steps import running

__all__ = ["build"]

OWNERS = ["team:data-engineering"]


def build(plant_name: str) -> list[dg.AssetsDefinition]:
    """Return `raw_readings` and `readings` of a plant."""
    return [_raw_readings(plant_name), _readings(plant_name)]


def _raw_readings(plant_name: str) -> dg.AssetsDefinition:
    @dg.asset(
        key_prefix=plant_name,
        group_name="1_ingestion",
        owners=OWNERS,
        kinds={"duckdb"},
        description=(
            "Everything that arrived, as it arrived. Takes each file of the source once; reads a file again only "
            "if it changed. A file that cannot be read is refused with a reason and the others go on."
        ),
    )
    def raw_readings(
        context: dg.AssetExecutionContext, plant: dg.ResourceParam[PlantResource]
    ) -> dg.MaterializeResult[None]:
        from pwflow_core.pipeline.source.ingest import ingest_files

        with running(context):
            wait_for_cycle(context, plant_name)
            opened = plant.open()
            summary = ingest_files(opened)
            return dg.MaterializeResult(
                metadata={
                    "dagster/row_count": summary.n_raw,
                    "rows read in this run": summary.n_rows,
                    "files new": summary.n_new,
                    "files changed": summary.n_changed,
                    "files unchanged": summary.n_unchanged,
                    "files refused": small_table(
                        {"file": file, "reason": reason} for file, reason in summary.refused.items()
                    ),
                    "dagster/column_schema": column_schema(opened, "ingest", "raw_readings"),
                },
                data_version=dg.DataVersion(summary.version),
            )

    return raw_readings


def _readings(plant_name: str) -> dg.AssetsDefinition:
    raw_key = asset_key(plant_name, "raw_readings")

    @dg.asset(
        key_prefix=plant_name,
        group_name="1_ingestion",
        owners=OWNERS,
        kinds={"duckdb", "sql"},
        deps=[raw_key],
        description=(
            "Valid readings: typed, in UTC, one per machine and time, inside the physical limits of the sensors; "
            "whether each can be judged, and what the models see of the readings before it. "
            "What is refused is kept in mart.rejected_readings with its reason."
        ),
    )
    def readings(
        context: dg.AssetExecutionContext, plant: dg.ResourceParam[PlantResource]
    ) -> dg.MaterializeResult[None]:
        from pwflow_core.pipeline.readings.deriving import derive_readings

        with running(context):
            opened = plant.open()
            summary = derive_readings(opened)
            schema = column_schema(opened, "core", "readings")
            taken = {"machine_id", "ts", "segment", "row_number", "file_id"}
            taken |= {column.name for column in schema.columns if column.type == "DOUBLE"}
            return dg.MaterializeResult(
                metadata={
                    "dagster/row_count": summary.n_readings,
                    "new readings": summary.n_new,
                    "changed readings": summary.n_changed,
                    "readings by quality": small_table(
                        {"quality": quality, "readings": count} for quality, count in summary.by_quality.items()
                    ),
                    "features over time": ", ".join(f.name for f in summary.features.features) or "none",
                    "why these features": summary.features.why,
                    "refused in this run": small_table(
                        {"reason": reason, "rows or values": count} for reason, count in summary.rejected.items()
                    ),
                    "dagster/column_schema": schema,
                    "dagster/column_lineage": column_lineage(
                        {column.name: [(raw_key, column.name)] for column in schema.columns if column.name in taken}
                    ),
                },
                data_version=dg.DataVersion(summary.version),
            )

    return readings
