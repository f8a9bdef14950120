"""The last night, as the watch needs it: models and rules, what was scored, and the cases as they were then."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pwflow_core.edge.bundle import Bundle, open_bundle
from pwflow_core.errors import ModelFileError
from pwflow_core.modelling.serialization import pack, unpack

__all__ = ["BUNDLE", "CASES", "FACTS", "POINTER", "Night", "last_times", "later_part", "read_night"]

POINTER = "night"
"""File with the name of the folder of the last night, in the folder of the watch."""
BUNDLE = "bundle"
CASES = "cases.duckdb"
FACTS = "night.json"
_STATE = "edge_state"


@dataclass(frozen=True, eq=False)
class Night:
    """What the warehouse said when it was last copied.

    Attributes:
        folder: Its folder; it goes once there is a later one.
        bundle: The models and rules.
        facts: Facts about it, see `copying`.
    """

    folder: Path
    bundle: Bundle
    facts: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What tells it from others."""
        return self.folder.name

    @property
    def commit(self) -> int:
        """Number of the commit of the warehouse that it is of."""
        return int(self.facts["commit"])

    @property
    def scored_until(self) -> Mapping[str, int]:
        """Time of the last reading of each machine that has a score, µs since 1970."""
        found: Mapping[str, int] = self.facts["scored_until"]
        return found

    @property
    def files(self) -> Mapping[str, int]:
        """How many bytes of each file of the source were read, by its whole path."""
        found: Mapping[str, int] = self.facts["files"]
        return found

    @cached_property
    def read_until(self) -> Mapping[str, int]:
        """Time of the last reading of each machine that the warehouse has, µs since 1970."""
        return last_times(self.bundle.files["state"])


def read_night(folder: Path) -> Night | None:
    """Return the last night of a folder of the watch; None before the first.

    Raises:
        ModelFileError: It is damaged.
    """
    pointer = folder / POINTER
    while pointer.exists():
        found = folder / pointer.read_text()
        try:
            facts = json.loads((found / FACTS).read_text(encoding="utf-8"))
            return Night(found, open_bundle(found / BUNDLE), facts)
        except (OSError, ValueError, ModelFileError) as error:
            if folder / pointer.read_text() == found:  # else a later one took its place just now
                raise ModelFileError(
                    f"The copy of the warehouse in {found} is damaged ({error}): remove {pointer}, and start the watch "
                    "again."
                ) from error
    return None


def last_times(state: bytes) -> dict[str, int]:
    """Return the time of the last reading of each machine in a state of the scorer, µs since 1970."""
    arrays, document = unpack(state, _STATE)
    return dict(zip(document["machines"], arrays["last_at"].tolist(), strict=True))


def later_part(state: bytes, read_until: Mapping[str, int]) -> bytes:
    """Return the part of a state that is later than what a night has read, of the machines that it knows.

    Where both end with the same reading, the night counts: it knows the readings too that came late.
    """
    arrays, document = unpack(state, _STATE)
    kept = [
        place
        for place, (machine, at) in enumerate(zip(document["machines"], arrays["last_at"].tolist(), strict=True))
        if machine in read_until and at > read_until[machine]
    ]
    part = {name: [document[name][place] for place in kept] for name in ("machines", "segments")}
    return pack(_STATE, {name: array[kept] for name, array in arrays.items()}, {**document, **part})
