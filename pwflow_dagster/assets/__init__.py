"""The assets, one module per group, from left to right in the graph."""

from __future__ import annotations

import dagster as dg

from pwflow_dagster.assets import ingestion, publication, regimes, scoring

__all__ = ["build_assets"]


def build_assets(plant_name: str, partitions: dg.DynamicPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Return all assets of a plant, their keys prefixed with its name."""
    return [
        *ingestion.build(plant_name),
        *regimes.build(plant_name, partitions),
        *scoring.build(plant_name, partitions),
        *publication.build(plant_name),
    ]
