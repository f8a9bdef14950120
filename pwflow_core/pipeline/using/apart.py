"""A plant on a warehouse of its own, to be thrown away: the steps of the pipeline run there, and the plant stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pwflow_core.config import PlantConfig, WarehouseConfig
from pwflow_core.plant import Plant
from pwflow_core.warehouse import open_warehouse

__all__ = ["open_apart"]


def open_apart(plant: Plant, folder: Path, config: PlantConfig | None = None) -> Plant:
    """Open the same plant on a new warehouse in `folder`, with another configuration if one is given."""
    warehouse = WarehouseConfig(
        url=f"duckdb:///{folder / 'warehouse.duckdb'}", published=str(folder / "published.duckdb")
    )
    config = (config or plant.config).model_copy(update={"warehouse": warehouse})
    return replace(plant, config=config, warehouse=open_warehouse(config))
