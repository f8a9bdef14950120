"""Publication: what analysts open, and what everybody else looks at."""

import logging
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from pwflow_core.redaction import hide_secrets
from pwflow_dagster.metadata import column_lineage, column_schema, small_table
from pwflow_dagster.names import asset_key
from pwflow_dagster.resources import PlantResource
from pwflow_dagster.run_records import read_runs
from pwflow_dagster.steps import decided_by, deciding_run, running

if TYPE_CHECKING:
    from pwflow_core.plant import Plant

__all__ = ["PlantReportConfig", "build", "tell_what_is_new"]

_log = logging.getLogger("pwflow.notifying")

EXAMPLE_SQL = """```sql
SELECT machine_id, ts, cluster_key, anomaly_score
FROM mart.anomaly_scores
WHERE is_anomaly
ORDER BY anomaly_score DESC
LIMIT 20;
```"""


class PlantReportConfig(dg.Config):
    """Run configuration of `plant_report`; what it does not say is as [report] in pwflow.toml has it."""

    languages: list[str] | None = Field(default=None, description="Languages to write the report in: en, ja.")
    days: int | None = Field(default=None, ge=1, description="Days of readings to show, from the last one backwards.")


def build(plant_name: str) -> list[dg.AssetsDefinition]:
    """Return `published_warehouse`, `plant_report` and `notifications` of a plant."""
    return [_published_warehouse(plant_name), _plant_report(plant_name), _notifications(plant_name)]


def _published_warehouse(plant_name: str) -> dg.AssetsDefinition:
    scores_key = asset_key(plant_name, "anomaly_scores")
    contributions_key = asset_key(plant_name, "sensor_contributions")
    events_key = asset_key(plant_name, "anomaly_events")
    health_key = asset_key(plant_name, "cluster_health")
    cases_key = asset_key(plant_name, "cases")

    @dg.asset(
        key_prefix=plant_name,
        group_name="4_publication",
        owners=["team:data-engineering"],
        kinds={"duckdb"},
        deps=[scores_key, contributions_key, events_key, health_key, cases_key],
        description=(
            "The read-only DuckDB file for SQL users. It is swapped in as a whole: a reader never waits, and never "
            "sees half a night."
        ),
    )
    def published_warehouse(
        context: dg.AssetExecutionContext, plant: dg.ResourceParam[PlantResource]
    ) -> dg.MaterializeResult[None]:
        from pwflow_core.pipeline.decisions.verdicts import Decider, settle_answered
        from pwflow_core.pipeline.publishing.publishing import publish_warehouse
        from pwflow_core.pipeline.publishing.removing import remove_old_readings
        from pwflow_core.pipeline.publishing.runs import record_runs

        with running(context):
            opened = plant.open()
            record_runs(opened, read_runs(context.instance, plant_name))
            settle_answered(opened, by=Decider(decided_by(context.run), deciding_run(context.run)))
            removal = remove_old_readings(opened)
            summary = publish_warehouse(opened)
            n_deleted = _collect_model_files(context, opened)
            schema = column_schema(opened, "mart", "anomaly_scores", as_published=True)
            return dg.MaterializeResult(
                metadata={
                    "file": dg.MetadataValue.path(str(summary.path)),
                    "size (MB)": round(summary.size_bytes / 1e6, 1),
                    "dagster/row_count": summary.n_rows["anomaly_scores"],
                    "rows by table": small_table(
                        {"table": f"mart.{table}", "rows": count} for table, count in summary.n_rows.items()
                    ),
                    "model files deleted": n_deleted,
                    "readings removed (retention)": removal.n_readings,
                    "try": dg.MetadataValue.md(EXAMPLE_SQL),
                    "dagster/column_schema": schema,
                    "dagster/column_lineage": column_lineage(
                        {column.name: [(scores_key, column.name)] for column in schema.columns}
                    ),
                }
            )

    return published_warehouse


def _plant_report(plant_name: str) -> dg.AssetsDefinition:
    published_key = asset_key(plant_name, "published_warehouse")

    @dg.asset(
        key_prefix=plant_name,
        group_name="4_publication",
        owners=["team:process-engineering"],
        kinds={"html"},
        deps=[published_key],
        description=(
            "The plant in pictures, one HTML file that opens anywhere: alarms, events, regimes, data quality, models. "
            "It is made after the tables are published, so that they never wait for it, and only if something changed."
        ),
    )
    def plant_report(
        context: dg.AssetExecutionContext, config: PlantReportConfig, plant: dg.ResourceParam[PlantResource]
    ) -> dg.MaterializeResult[None]:
        from pwflow_core.reporting import build_reports, find_outdated, report_path

        with running(context):
            opened = plant.open()
            wanted = opened.config.report
            languages = wanted.languages if config.languages is None else config.languages
            if not languages:
                return dg.MaterializeResult(metadata={"file": "none: report.languages is empty"})
            targets = {language: report_path(opened.config, language) for language in languages}
            where: dict[str, dg.MetadataValue] = {}
            for language, target in targets.items():
                where[f"file ({language})"] = dg.MetadataValue.path(str(target))
                where[f"address, to copy into a browser ({language})"] = dg.MetadataValue.url(target.as_uri())
            outdated = find_outdated(opened, targets, days=config.days)
            if not outdated:
                return dg.MaterializeResult(metadata={**where, "built": "not again: nothing has changed since"})
            reports = build_reports(opened, outdated, days=config.days)
            return dg.MaterializeResult(
                metadata={
                    **where,
                    "size (MB)": round(max(r.size_bytes for r in reports) / 1e6, 1),
                    "seconds": round(sum(r.seconds for r in reports), 1),
                    "events": reports[0].n_events,
                    "events shown in full": reports[0].n_events_shown,
                    "regimes shown": reports[0].n_regimes_shown,
                    "pictures": reports[0].n_charts,
                }
            )

    return plant_report


def _notifications(plant_name: str) -> dg.AssetsDefinition:
    @dg.asset(
        key_prefix=plant_name,
        group_name="4_publication",
        owners=["team:process-engineering"],
        kinds={"apprise"},
        deps=[asset_key(plant_name, "published_warehouse")],
        description=(
            "What people and programs were told of what the run found, each thing once, as [notify] in pwflow.toml has "
            "it. A target that does not answer fails nothing: the sensor `notify` tries it again."
        ),
    )
    def notifications(
        context: dg.AssetExecutionContext, plant: dg.ResourceParam[PlantResource]
    ) -> dg.MaterializeResult[None]:
        with running(context):
            return dg.MaterializeResult(metadata=tell_what_is_new(plant.open()))

    return notifications


def tell_what_is_new(plant: "Plant") -> dict[str, str | int | dg.MetadataValue]:
    """Tell the targets what is new and return what came of it; nothing that goes wrong here fails what was scored."""
    from pwflow_core.notifying.delivering import is_wanted, tell

    if not is_wanted(plant.config):
        return {"targets": "none: pwflow.toml has no [notify.targets.NAME]"}
    try:
        told = tell(plant)
    except Exception as error:  # whatever it is: the scores are published
        _log.warning("People could not be told: %s", error)
        return {"error": hide_secrets(str(error))}
    sent: list[dict[str, str | int | float | bool | None]] = [
        {"target": name, "messages sent": count, "error": told.errors.get(name, "")}
        for name, count in told.n_sent.items()
    ]
    return {"new": told.n_new, "targets": small_table(sent)}


def _collect_model_files(context: dg.AssetExecutionContext, plant: "Plant") -> int:
    """Delete the model files that nothing needs any more; if that fails, what was published is published."""
    from pwflow_core.pipeline.flows.retention import collect_model_files

    try:
        return len(collect_model_files(plant))
    except Exception as error:  # the store may be anything that fsspec opens, with errors of its own
        context.log.warning(f"Old model files could not be deleted, the next run tries again: {error}")
        return 0
