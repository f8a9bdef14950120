"""Identity: which of the regimes found now is which of those before, told by the readings that they share.

One earlier regime gives its key to at most one new one, so that the overlaps that are kept are as large as possible
together. Overlap is readings in both over readings in either (Jaccard).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

__all__ = ["CHANGED", "Relation", "count_shared", "match_regimes", "relate_regimes"]

Counts = NDArray[np.int64]

CHANGED = ("changed", "split", "merged")
"""Relations of a regime that kept its key, but whose flow no longer describes its readings."""

_LEAST_OVERLAP = 1 / 3
"""To keep a key: of two regimes of one size, half of the readings of each are in the other."""
_HARDLY_CHANGED = 0.9
"""With this overlap the members hardly changed: the flow stays, and its slice."""
_MOST = 0.5
_NOTICEABLE = 0.25


@dataclass(frozen=True)
class Relation:
    """What a regime is to one before, as `mart.cluster_lineage` keeps it.

    Attributes:
        cluster_key: The regime; of relation retired: the one that is no more.
        former_key: The one before; None if new or retired.
        overlap: Their overlap, 0 to 1; None likewise.
        relation: `kept`, `changed`, `split`, `merged`, `new` or `retired`.
    """

    cluster_key: str
    former_key: str | None
    overlap: float | None
    relation: str


def count_shared(before: NDArray[np.intp], now: NDArray[np.intp], n_before: int, n_now: int) -> Counts:
    """Count the readings that each regime before shares with each one now, shape (n_before, n_now).

    Arguments:
        before: Regime of each reading before, shape (N,).
        now: Regime of each reading now, shape (N,).
        n_before: Regimes before.
        n_now: Regimes now.
    """
    shared = np.zeros((n_before, n_now), dtype=np.int64)
    np.add.at(shared, (before, now), 1)
    return shared


def match_regimes(shared: Counts) -> dict[int, int]:
    """Return for the regimes now that continue one before which one it is; more than a third has to overlap."""
    overlap = _overlap(shared)
    eligible = np.where(overlap > _LEAST_OVERLAP, overlap, 0.0)
    rows, columns = linear_sum_assignment(eligible, maximize=True)
    return {int(now): int(before) for before, now in zip(rows, columns, strict=True) if eligible[before, now] > 0}


def relate_regimes(
    shared: Counts, matches: dict[int, int], before: Sequence[str], now: Sequence[str]
) -> list[Relation]:
    """Say what became of every regime of a segment.

    A regime is split if at least two of now consist mostly of its readings and have a quarter of them each. Regimes
    are merged if one of now has most of the readings of at least two. Otherwise one that is continued is kept with an
    overlap of at least 90%, and changed below.

    Arguments:
        shared: What `count_shared` returned.
        matches: What `match_regimes` returned.
        before: Keys of the regimes before.
        now: Keys of those now.
    """
    overlap = _overlap(shared)
    of_before = shared / np.maximum(shared.sum(axis=1, keepdims=True), 1)
    of_now = shared / np.maximum(shared.sum(axis=0, keepdims=True), 1)
    child, parent = (of_now > _MOST) & (of_before >= _NOTICEABLE), of_before > _MOST
    split = child & (child.sum(axis=1, keepdims=True) > 1)
    merged = parent & (parent.sum(axis=0, keepdims=True) > 1)
    relations = []
    for position, key in enumerate(now):
        formers = np.flatnonzero(split[:, position] | merged[:, position]).tolist()
        if position in matches and matches[position] not in formers:
            formers.append(matches[position])
        for former in formers:
            share = float(overlap[former, position])
            relation = "kept" if share >= _HARDLY_CHANGED else "changed"
            if split[former, position]:
                relation = "split"
            elif merged[former, position]:
                relation = "merged"
            relations.append(Relation(key, before[former], share, relation))
        if not formers:
            relations.append(Relation(key, None, None, "new"))
    continued = set(matches.values())
    return relations + [
        Relation(key, None, None, "retired") for position, key in enumerate(before) if position not in continued
    ]


def _overlap(shared: Counts) -> NDArray[np.float64]:
    either = shared.sum(axis=1, keepdims=True) + shared.sum(axis=0, keepdims=True) - shared
    return np.asarray(shared / np.maximum(either, 1), dtype=np.float64)
