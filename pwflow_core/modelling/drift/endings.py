"""Endings: whether what was found of a cluster has gone again, by its latest nights."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from pwflow_core.modelling.drift.blocks import Blocks
from pwflow_core.modelling.drift.reference import DriftReference, stacked
from pwflow_core.modelling.drift.shift import LATEST_NIGHTS, MOSTLY, measure_effects

__all__ = ["has_no_strangers", "is_back", "latest_nights"]

_FEWEST_BLOCKS = 3
_SMALL = 0.5  # of what it was: what is off by less has come back


def latest_nights(blocks: Blocks, after: int, machines: Collection[str]) -> Blocks | None:
    """Return the blocks of the last three nights that some machines have after a night; None if they have fewer.

    Arguments:
        blocks: Of one cluster, in any order.
        after: Days since 1970-01-01.
        machines: Whose blocks count; all if there are none.
    """
    rows = blocks.night > after
    if machines:
        rows &= np.isin(blocks.machine, sorted(machines))
    nights = np.unique(blocks.night[rows])
    if len(nights) < LATEST_NIGHTS:
        return None
    return blocks.take(rows & (blocks.night >= nights[-LATEST_NIGHTS]))


def is_back(reference: DriftReference, latest: Blocks, effect: float, sensors: Sequence[int] = ()) -> bool:
    """Tell whether a cluster, or some of its machines, are back where they were.

    They are if what they are off by is most likely less than half of what it was, and surely less than all of it.

    Arguments:
        reference: Of the flow in use.
        latest: `latest_nights` of these machines.
        effect: How far they were off, standard deviations of a reading.
        sensors: Columns of the sensors that were off; without any, all that evidence is drawn from has to be back.
    """
    known, place = reference.known(latest)
    if len(known) < _FEWEST_BLOCKS:
        return False
    columns: NDArray[np.intp] = reference.n_channels + np.asarray(sensors, dtype=np.intp)
    if not len(columns):
        columns = np.delete(np.arange(stacked(known).shape[1]), reference.n_channels - 1)
    for machine in np.unique(place):
        rows = place == machine
        moved = stacked(known.take(rows)) - reference.typical[place[rows]]
        found = measure_effects(reference, known.take(rows), moved, float(reference.machine_share[machine]))
        size, error = np.abs(found.size[columns]), found.error[columns]
        if not ((size < _SMALL * effect) & (size + 2 * error < effect)).all():
            return False
    return True


def has_no_strangers(latest: Blocks) -> bool:
    """Tell whether no block consists mostly of readings that are improbable in their own cluster."""
    return not bool((latest.improbable >= MOSTLY).any())
