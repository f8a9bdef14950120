"""A plant opened for work: its configuration with the warehouse and the model store that it names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pwflow_core.config import PlantConfig
from pwflow_core.model_store import ModelStore
from pwflow_core.warehouse import Warehouse, open_warehouse

__all__ = ["Plant"]


@dataclass(frozen=True)
class Plant:
    """What every step of the pipeline works on.

    Attributes:
        config: The validated configuration.
        warehouse: Where readings and scores are kept.
        models: Where trained models are kept.
    """

    config: PlantConfig
    warehouse: Warehouse
    models: ModelStore

    @classmethod
    def open(cls, config: PlantConfig) -> Plant:
        """Return the plant; nothing is read or written yet."""
        return cls(config, open_warehouse(config), ModelStore(config.models_url))

    @contextmanager
    def threads(self) -> Iterator[None]:
        """Let flows compute with as many threads as the configuration says in the block, and as before after it."""
        from pwflow_core.modelling.loop import using_threads

        with using_threads(self.config.compute.threads):
            yield
