"""The assets, one module per group, from left to right in the graph."""

from __future__ import annotations

import dagster as dg

from pwflow_core.config import PlantConfig
from pwflow_dagster.assets import ingestion, publication, regimes, scoring
from pwflow_dagster.names import PLANT_TAG, asset_key
from pwflow_dagster.run_records import usual_pause

__all__ = ["build_assets"]

_MUST_ARRIVE = ("raw_readings", "published_warehouse")


def build_assets(
    config: PlantConfig, partitions: dg.DynamicPartitionsDefinition, backfills: dg.BackfillPolicy
) -> list[dg.AssetsDefinition]:
    """Return all assets of a plant, their keys prefixed with its name, each with its plant as a tag and its code.

    What the nightly run begins and ends with must arrive as often as the schedule says.

    Arguments:
        config: The configuration of the plant.
        partitions: Its regimes.
        backfills: How many regimes a run is for where Dagster makes them again.
    """
    name = config.plant.name
    late = dg.FreshnessPolicy.time_window(fail_window=usual_pause(config))
    must_arrive = {asset_key(name, asset) for asset in _MUST_ARRIVE}

    def complete(spec: dg.AssetSpec) -> dg.AssetSpec:
        tagged = spec.merge_attributes(tags={PLANT_TAG: name})
        return tagged.replace_attributes(freshness_policy=late) if spec.key in must_arrive else tagged

    assets = [
        *ingestion.build(name),
        *regimes.build(name, partitions, backfills),
        *scoring.build(name, partitions, backfills),
        *publication.build(name),
    ]
    referring = dg.with_source_code_references(assets)
    return [made.map_asset_specs(complete) for made in referring if isinstance(made, dg.AssetsDefinition)]
