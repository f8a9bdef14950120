"""Which warehouse a URL means."""

from __future__ import annotations

from pwflow_core.config import PlantConfig
from pwflow_core.warehouse.base import Warehouse
from pwflow_core.warehouse.catalogs import Catalog, FileCatalog, PostgresCatalog
from pwflow_core.warehouse.file import FileWarehouse
from pwflow_core.warehouse.lake import LakeWarehouse

__all__ = ["open_warehouse"]


def open_warehouse(config: PlantConfig) -> Warehouse:
    """Return the warehouse of a plant; the first transaction makes it."""
    if not config.warehouse.is_lake:
        return FileWarehouse.from_config(config)
    catalog: Catalog
    if config.warehouse.path is None:
        catalog = PostgresCatalog(config.warehouse.postgres_options, config.warehouse.catalog_schema)
    else:
        catalog = FileCatalog(config.warehouse_path)
    return LakeWarehouse(
        catalog,
        config.lake_data,
        config.scratch_folder,
        wait_seconds=config.warehouse.wait_seconds,
        memory_limit=config.compute.memory_limit,
    )
