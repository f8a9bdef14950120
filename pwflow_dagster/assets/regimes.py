"""Regimes: the clusters of every segment, the readings of each, and the flow that describes it."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from pwflow_dagster.metadata import column_lineage, column_schema, inline_image, small_table, thumbnail
from pwflow_dagster.names import PREVIOUS, REASON_TAG, asset_key
from pwflow_dagster.partitions import add_clusters, selected_clusters
from pwflow_dagster.resources import PlantResource
from pwflow_dagster.steps import decided_by, deciding_run, running

if TYPE_CHECKING:
    from pwflow_core.pipeline.flows.registry import FlowDecision
    from pwflow_core.pipeline.regimes.naming import RegimeNames
    from pwflow_core.plant import Plant

__all__ = ["ClusterFlowConfig", "build"]

OWNERS = ["team:process-engineering"]
NEW_FLOWS_IN_USE = "new_flows_are_in_use"


class ClusterFlowConfig(dg.Config):
    """Run configuration of `cluster_flow`."""

    only_missing: bool = Field(
        default=False, description="Train only those regimes of the run that have no flow for their readings yet."
    )
    challenge: bool = Field(
        default=True,
        description="Whether a new flow has to prove itself against the one in use. Without it, it comes into use.",
    )
    learn_from: str | None = Field(
        default=None,
        description=(
            "Learn from the readings from this time on (ISO 8601, UTC) instead of the window of [training], without "
            "what alarmed and was not confirmed as normal. The new flow then has to be better by drift.min_gain. "
            "Without it, regimes of which an open verdict says that they moved learn from the readings since then."
        ),
    )
    put_in_use: str | None = Field(
        default=None,
        description=(
            "Instead of training: the flow version to put in use, or its first digits; `previous` for the one that "
            "was in use before."
        ),
    )
    is_rollback: bool = Field(default=False, description="Whether what is put in use counts as going back to it.")
    reason: str = Field(default="", description="Why, for the registry.")


def build(
    plant_name: str, partitions: dg.DynamicPartitionsDefinition, backfills: dg.BackfillPolicy
) -> list[dg.AssetsDefinition]:
    """Return `cluster_model`, `cluster_assignments` and `cluster_flow` of a plant."""
    return [
        _cluster_model(plant_name, partitions),
        _cluster_assignments(plant_name, partitions, backfills),
        _cluster_flow(plant_name, partitions, backfills),
    ]


def _cluster_model(plant_name: str, partitions: dg.DynamicPartitionsDefinition) -> dg.AssetsDefinition:
    readings_key = asset_key(plant_name, "readings")

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
    ) -> dg.MaterializeResult[None]:
        from pwflow_core.pipeline.regimes.finding import fit_cluster_model
        from pwflow_core.reporting import draw_regimes

        with running(context):
            opened = plant.open()
            reason = context.run.tags.get(REASON_TAG, "materialized in Dagster")
            summary = fit_cluster_model(opened, made_by=decided_by(context.run), reason=reason)
            keys = [key for of_segment in summary.clusters.values() for key in of_segment]
            add_clusters(context.instance, partitions, keys)
            names = _names(opened)
            return dg.MaterializeResult(
                metadata={
                    "dagster/row_count": len(keys),
                    "regimes": small_table(
                        {"segment": segment, "regime": names.label(key), "weight": round(summary.weights[key], 4)}
                        for segment, of_segment in summary.clusters.items()
                        for key in of_segment
                    ),
                    "what became of the regimes before": small_table(
                        {
                            "cluster_key": relation.cluster_key,
                            "former": relation.former_key or "",
                            "overlap": relation.overlap and round(relation.overlap, 4),
                            "relation": relation.relation,
                        }
                        for relation in summary.lineage
                    ),
                    "map of the regimes": inline_image(draw_regimes(opened), "The regimes of each segment"),
                    "new": ", ".join(summary.minted) or "none",
                    "retired": ", ".join(summary.retired) or "none",
                    "segments with too few readings": small_table(
                        {"segment": segment, "readings": count} for segment, count in summary.thin_segments.items()
                    ),
                    "readings learned from": summary.n_rows,
                    "stretches unlike the rest, not learned from": small_table(
                        {
                            "stretch": stretch.stretch_id,
                            "machine": stretch.machine_id,
                            "from": f"{stretch.started_at:%Y-%m-%d %H:%M}",
                            "to": f"{stretch.ended_at:%Y-%m-%d %H:%M}",
                            "readings": stretch.n_readings,
                            "sensors": ", ".join(stretch.top_sensors),
                        }
                        for stretch in summary.stretches
                    ),
                    "model": summary.cluster_model_id,
                    "dagster/column_schema": column_schema(opened, "mart", "clusters"),
                    "dagster/column_lineage": column_lineage({"segment": [(readings_key, "segment")]}),
                },
                data_version=dg.DataVersion(summary.cluster_model_id),
            )

    return cluster_model


def _cluster_assignments(
    plant_name: str, partitions: dg.DynamicPartitionsDefinition, backfills: dg.BackfillPolicy
) -> dg.AssetsDefinition:
    readings_key = asset_key(plant_name, "readings")
    model_key = asset_key(plant_name, "cluster_model")

    @dg.asset(
        key_prefix=plant_name,
        group_name="2_regimes",
        owners=OWNERS,
        kinds={"duckdb", "scikitlearn"},
        partitions_def=partitions,
        backfill_policy=backfills,
        deps=[readings_key, model_key],
        description=(
            "The readings that each regime could have produced, with the probability of the regime. A reading "
            "between two regimes is a candidate of both. Only readings that are new are assigned."
        ),
    )
    def cluster_assignments(context: dg.AssetExecutionContext, plant: dg.ResourceParam[PlantResource]) -> None:
        from pwflow_core.pipeline.regimes.assigning import assign_readings

        with running(context):
            opened = plant.open()
            schema = column_schema(opened, "core", "cluster_assignments")
            names = _names(opened)
            lineage = column_lineage(
                {
                    "cluster_key": [(model_key, "cluster_key")],
                    "reading_id": [(readings_key, "reading_id")],
                }
            )
            for key, summary in assign_readings(opened, selected_clusters(context, opened)).items():
                context.add_asset_metadata(
                    {
                        "dagster/partition_row_count": summary.n_readings,
                        "new candidates": summary.n_new,
                        "regime": names.label(key),
                        "dagster/column_schema": schema,
                        "dagster/column_lineage": lineage,
                    },
                    partition_key=key,
                )

    return cluster_assignments


def _cluster_flow(
    plant_name: str, partitions: dg.DynamicPartitionsDefinition, backfills: dg.BackfillPolicy
) -> dg.AssetsDefinition:
    assignments_key = asset_key(plant_name, "cluster_assignments")

    @dg.asset(
        key_prefix=plant_name,
        group_name="2_regimes",
        owners=OWNERS,
        kinds={"pytorch"},
        partitions_def=partitions,
        backfill_policy=backfills,
        deps=[assignments_key],
        check_specs=[
            dg.AssetCheckSpec(
                NEW_FLOWS_IN_USE,
                asset=asset_key(plant_name, "cluster_flow"),
                description=(
                    "Each flow that a run trained came into use. One that did not prove better is refused, and its "
                    "regime keeps the flow before. Only warns."
                ),
            )
        ],
        description=(
            "The normalizing flow of each regime: what normal looks like there. Materializing a partition trains "
            "that regime alone: on its readings since it moved if an open verdict says so, else on all of [training]. "
            "It warns before it starts if the flow in use has learned from the same ones. The new flow comes into "
            "use if it proves no worse than the old one on readings that neither learned from; the others stay as "
            "they are."
        ),
    )
    # a bare result: Dagster does not take one with its type beside a check
    def cluster_flow(
        context: dg.AssetExecutionContext, config: ClusterFlowConfig, plant: dg.ResourceParam[PlantResource]
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        from pwflow_core.pipeline.flows.training import (
            clusters_without_flow,
            retraining_starts,
            train_cluster_flows,
        )
        from pwflow_core.pipeline.scoring.objections import find_objection
        from pwflow_core.reporting import draw_training, draw_training_small
        from pwflow_core.reporting.texts import Texts

        with running(context):
            opened = plant.open()
            keys = selected_clusters(context, opened)
            reason = config.reason or context.run.tags.get(REASON_TAG, "materialized in Dagster")
            by = decided_by(context.run)
            schema = column_schema(opened, "mart", "flow_versions")
            lineage = column_lineage({"cluster_key": [(assignments_key, "cluster_key")]})
            shown, words = {"dagster/column_schema": schema, "dagster/column_lineage": lineage}, Texts("en")
            names = _names(opened)
            if config.put_in_use is not None:
                for key in keys:
                    decision = _switch(opened, key, config, by, reason, deciding_run(context.run))
                    named = {"regime": names.label(key)}
                    context.add_asset_metadata(_describe_decision(decision) | named | shown, partition_key=key)
                return dg.MaterializeResult(check_results=[_judge([], names)])
            if config.only_missing:
                missing = clusters_without_flow(opened)
                keys = [key for key in keys if key in missing]
            start = _parse_time(config.learn_from)
            summaries = train_cluster_flows(
                opened,
                keys,
                reason=reason,
                promoted_by=by,
                learn_from=retraining_starts(opened, keys) if start is None else dict.fromkeys(keys, start),
                challenge=config.challenge,
                object_to=find_objection,
                run_id=deciding_run(context.run),
            )
            for key, summary in summaries.items():
                history = summary.history
                stride = max(1, len(history.steps) // 20)
                context.add_asset_metadata(
                    {
                        "regime": names.label(key),
                        "held-out log-density (nats)": round(summary.held_out_log_density, 3),
                        "readings learned from": summary.n_rows,
                        "readings that stopped the training": summary.n_held_out,
                        "training seconds": round(history.seconds, 1),
                        "gradient step that was kept": history.best_step,
                        "why the training stopped": words.label("stopped", history.stopped),
                        "kind of model": "Gaussian" if summary.is_gaussian else "flow",
                        "training curve": thumbnail(draw_training_small(history), f"Training of {key}"),
                        "training curve in full": inline_image(draw_training(history), f"Training of {key}"),
                        "training curve (nats)": small_table(
                            {"step": step, "train": round(float(train), 4), "held out": round(float(held_out), 4)}
                            for step, train, held_out in list(
                                zip(history.steps, history.train, history.held_out, strict=True)
                            )[::stride]
                        ),
                    }
                    | _describe_decision(summary.decision)
                    | shown,
                    partition_key=key,
                )
            decisions = [summary.decision for summary in summaries.values()]
            return dg.MaterializeResult(check_results=[_judge(decisions, names)])

    return cluster_flow


def _judge(decisions: "Sequence[FlowDecision]", names: "RegimeNames") -> dg.AssetCheckResult:
    """Say which of the flows that a run trained did not come into use, regime by regime."""
    refused = [f"{names.label(made.cluster_key)}: {made.reason}" for made in decisions if made.decision == "refused"]
    in_use = f"{len(decisions)} trained, all in use" if decisions else "nothing was trained"
    return dg.AssetCheckResult(
        passed=not refused,
        check_name=NEW_FLOWS_IN_USE,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(refused) or in_use,
        metadata={
            "by regime": small_table(
                {
                    "regime": names.label(made.cluster_key),
                    "decision": made.decision.replace("_", " "),
                    "why": made.reason,
                }
                for made in decisions
            )
        },
    )


def _names(plant: "Plant") -> "RegimeNames":
    """Return what people call the regimes: partitions have their keys alone."""
    from pwflow_core.pipeline.regimes.naming import read_names

    with plant.warehouse.snapshot() as connection:
        return read_names(connection)


def _switch(
    plant: "Plant", key: str, config: ClusterFlowConfig, decided_by: str, reason: str, run_id: str
) -> "FlowDecision":
    """Move the pointer of a regime to a version that was trained before."""
    from pwflow_core.pipeline.flows.registry import promote, rollback

    if config.put_in_use == PREVIOUS:
        return rollback(plant, key, decided_by=decided_by, reason=reason, run_id=run_id)
    switch = rollback if config.is_rollback else promote
    return switch(plant, key, config.put_in_use or "", decided_by=decided_by, reason=reason, run_id=run_id)


def _describe_decision(decision: "FlowDecision") -> dict[str, str | float]:
    figures = {
        "gain on recent held-out readings (nats)": decision.gain_recent,
        "standard error of that gain (nats)": decision.gain_recent_error,
        "gain on the readings of the flow before (nats)": decision.gain_reference,
    }
    return {
        "flow version": decision.flow_version,
        "decision": decision.decision.replace("_", " "),
        "why": decision.reason,
        "flow before": decision.previous_version or "none",
        **{name: round(figure, 3) for name, figure in figures.items() if figure is not None},
    }


def _parse_time(text: str | None) -> datetime | None:
    from pwflow_core.warehouse import in_utc

    if text is None:
        return None
    try:
        return in_utc(datetime.fromisoformat(text))
    except ValueError:
        raise dg.Failure(
            description=f"Expected learn_from as an ISO 8601 time such as 2026-05-01T00:00, got {text!r}: correct it.",
            allow_retries=False,
        ) from None
