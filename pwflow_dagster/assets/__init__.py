"""The assets, one module per group, from left to right in the graph."""

from __future__ import annotations

import dagster as dg

from pwflow_dagster.assets import ingestion, publication, regimes, scoring

__all__ = ["build_assets"]


def build_assets(
    plant_name: str, partitions: dg.DynamicPartitionsDefinition, backfills: dg.BackfillPolicy
) -> list[dg.AssetsDefinition]:
    """Return all assets of a plant, their keys prefixed with its name.

    Arguments:
        plant_name: Its name.
        partitions: Its regimes.
        backfills: How many regimes a run is for where Dagster makes them again.
    """
    return [
        *ingestion.build(plant_name),
        *regimes.build(plant_name, partitions, backfills),
        *scoring.build(plant_name, partitions, backfills),
        *publication.build(plant_name),
    ]
