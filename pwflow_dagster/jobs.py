"""Jobs: the whole path, the nightly scoring, and the re-learning of one regime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

__all__ = ["NIGHTLY_SCORING", "RETRAIN_CLUSTER", "WHOLE_PATH", "build_jobs"]

WHOLE_PATH = "whole_path"
NIGHTLY_SCORING = "nightly_scoring"
RETRAIN_CLUSTER = "retrain_cluster"

_NIGHTLY = (
    "raw_readings",
    "readings",
    "cluster_assignments",
    "component_log_density",
    "anomaly_scores",
    "published_warehouse",
)
_RETRAIN = ("cluster_flow", "component_log_density", "anomaly_scores", "published_warehouse")


def build_jobs(plant_name: str) -> list[UnresolvedAssetJobDefinition]:
    """Return the jobs of a plant."""

    def keys(names: tuple[str, ...]) -> dg.AssetSelection:
        return dg.AssetSelection.assets(*([plant_name, name] for name in names))

    return [
        dg.define_asset_job(
            WHOLE_PATH,
            dg.AssetSelection.key_prefixes([plant_name]),
            description=(
                "From files to published scores: ingest, find the regimes, train the flows that are missing, score, "
                "publish. `pwflow run` starts it when there is something to learn."
            ),
        ),
        dg.define_asset_job(
            NIGHTLY_SCORING,
            keys(_NIGHTLY),
            description="Ingest what is new, score it with the models in force, publish. Trains nothing.",
        ),
        dg.define_asset_job(
            RETRAIN_CLUSTER,
            keys(_RETRAIN),
            description="Train the flow of one regime, score its slice again, derive what depends on it, publish.",
        ),
    ]
