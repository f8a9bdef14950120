"""What arrives: readings of a source that came together, with the position to go on from after them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from pwflow_core.edge.lines import Readings

__all__ = ["Arrived", "Source", "join_readings"]


@dataclass(frozen=True, eq=False)
class Arrived:
    """Readings that arrived together.

    Attributes:
        readings: The readings.
        at: When the first of them arrived, seconds since 1970.
        positions: Where the source goes on from after them, by place.
        handle: What the source knows them by.
    """

    readings: Readings
    at: float
    positions: Mapping[str, str] = field(default_factory=dict)
    handle: Any = None


class Source(Protocol):
    """Where readings come from.

    Attributes:
        name: What its positions are kept under.
        refused: What arrived and is not a reading, by reason.
        is_over: Whether nothing more will come.
    """

    name: str
    refused: Counter[str]

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""

    def use(self, rules: Mapping[str, Any]) -> None:
        """Read from now on by the part `source` of the rules of a bundle."""

    def take(self, wait_seconds: float) -> Arrived | None:
        """Return what has arrived; wait for it for so long at most. None if nothing has."""

    def settle(self, arrived: Arrived) -> None:
        """Hear that readings are scored and on the disk."""

    def close(self) -> None:
        """Give back what it holds."""


def join_readings(parts: Sequence[Readings], n_sensors: int) -> Readings:
    """Return readings of several readers as one."""
    return Readings(
        [machine for part in parts for machine in part.machine],
        np.concatenate([np.empty(0, np.int64), *(part.at for part in parts)]),
        np.concatenate([np.empty((0, n_sensors)), *(part.values for part in parts)]),
        [segment for part in parts for segment in part.segment],
        np.concatenate([np.empty((0, n_sensors), np.bool_), *(part.not_numbers for part in parts)]),
    )
