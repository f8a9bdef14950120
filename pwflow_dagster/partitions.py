"""Partitions: one per learned operating regime, added when the regimes are found."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from pwflow_core.plant import Plant

__all__ = ["add_clusters", "adjacent_groups", "cluster_partitions", "partition_range_tags", "selected_clusters"]


def cluster_partitions(plant_name: str) -> dg.DynamicPartitionsDefinition:
    """Return the partitions of a plant; each plant of a Dagster has its own."""
    return dg.DynamicPartitionsDefinition(name=f"{plant_name}_clusters")


def add_clusters(instance: dg.DagsterInstance, partitions: dg.DynamicPartitionsDefinition, keys: Sequence[str]) -> None:
    """Add partitions for clusters; those that are there already stay, and none is ever deleted."""
    instance.add_dynamic_partitions(str(partitions.name), list(keys))


def selected_clusters(context: dg.AssetExecutionContext, plant: Plant) -> list[str]:
    """Return the clusters that a run is for.

    A range of partitions skips retired clusters. One that is named alone is returned as it is, so that
    the step refuses it.
    """
    if context.has_partition_key:
        return [context.partition_key]
    from pwflow_core.pipeline.regimes.model import active_cluster_keys

    with plant.warehouse.snapshot() as connection:
        active = set(active_cluster_keys(connection))
    keys = list(context.partition_keys)
    if retired := [key for key in keys if key not in active]:
        context.log.info(f"Passing over retired clusters: {', '.join(retired)}")
    return [key for key in keys if key in active]


def partition_range_tags(keys: Sequence[str]) -> dict[str, str]:
    """Return the tags of a run over all partitions from the first to the last key, in order of insertion."""
    if not keys:
        return {}
    return {
        "dagster/asset_partition_range_start": keys[0],
        "dagster/asset_partition_range_end": keys[-1],
    }


def adjacent_groups(order: Sequence[str], keys: Collection[str]) -> list[list[str]]:
    """Return some keys in groups that lie side by side: a run over a range of partitions is for all that lie in it."""
    groups: list[list[str]] = [[]]
    for key in order:
        if key in keys:
            groups[-1].append(key)
        elif groups[-1]:
            groups.append([])
    return [group for group in groups if group]
