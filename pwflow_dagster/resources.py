"""The one resource of the assets: the plant that a code location is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pwflow_core.config import PlantConfig

if TYPE_CHECKING:
    from pwflow_core.plant import Plant

__all__ = ["PlantResource"]


@dataclass(frozen=True)
class PlantResource:
    """Opens the plant when an asset needs it; nothing is read when definitions load."""

    config: PlantConfig

    def open(self) -> Plant:
        """Return the plant, ready for a step of the pipeline."""
        from pwflow_core.plant import Plant

        return Plant.open(self.config)
