"""Ending: which open verdicts are over, because what they tell of is gone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np

from pwflow_core.modelling.drift import has_no_strangers, is_back, latest_nights, measure_mix
from pwflow_core.pipeline.decisions.kinds import find_kind
from pwflow_core.pipeline.decisions.verdicts import StoredVerdict
from pwflow_core.pipeline.drift.view import ClusterView, MixView, PlantView
from pwflow_core.pipeline.readings.nights import to_ordinal

__all__ = ["find_ended"]

_LATEST_NIGHTS = 3
_SMALL = 0.5


def find_ended(
    view: PlantView, night: date, found: Sequence[StoredVerdict], waiting: Sequence[StoredVerdict]
) -> dict[str, str]:
    """Return which verdicts are over after a night, by their ids, and how that shows. What cannot be told goes on.

    Arguments:
        view: The plant.
        night: The night.
        found: What was found in it.
        waiting: Open verdicts of earlier nights.
    """
    ended = {}
    for verdict in waiting:
        if verdict.night >= night or any(_is_about_the_same(verdict, other) for other in found):
            continue
        reason = _shows_end(view, night, verdict)
        if reason is not None:
            ended[verdict.verdict_id] = reason
    return ended


def _is_about_the_same(verdict: StoredVerdict, other: StoredVerdict) -> bool:
    if verdict.verdict != other.verdict:
        return False
    if find_kind(verdict.verdict).identity == "sensor" and verdict.sensors[:1] != other.sensors[:1]:
        return False
    about = "cluster_keys" if verdict.cluster_keys and other.cluster_keys else "machine_ids"
    return bool(set(getattr(verdict, about)) & set(getattr(other, about)))


def _shows_end(view: PlantView, night: date, verdict: StoredVerdict) -> str | None:
    ending = find_kind(verdict.verdict).ends
    if ending == "not_found":
        return (
            "it was not found again: readings came again" if _is_seen(view, night, verdict, view.availability) else None
        )
    if not verdict.cluster_keys:
        return "it was not found again" if _is_seen(view, night, verdict, view.levels) else None
    if ending == "mix":
        mixes = [mix for mix in view.mixes if set(mix.keys) & set(verdict.cluster_keys)]
        is_over = bool(mixes) and all(_is_mix_back(mix, night, verdict) for mix in mixes)
    else:
        clusters = [cluster for cluster in view.clusters if cluster.key in verdict.cluster_keys]
        is_over = len(clusters) == len(verdict.cluster_keys)
        is_over = is_over and all(_is_gone(view, cluster, night, verdict) for cluster in clusters)
    return "it was not seen any more in the last three days with readings" if is_over else None


def _is_seen(view: PlantView, night: date, verdict: StoredVerdict, seen: object) -> bool:
    """Tell whether all machines of a verdict were looked at in a night."""
    if seen is None:
        return False
    rows = seen.night == to_ordinal(night)  # type: ignore[attr-defined]
    return set(verdict.machine_ids) <= set(seen.machine[rows].tolist())  # type: ignore[attr-defined]


def _is_gone(view: PlantView, cluster: ClusterView, night: date, verdict: StoredVerdict) -> bool:
    ending = find_kind(verdict.verdict).ends
    blocks = cluster.blocks.take(cluster.blocks.night <= to_ordinal(night))
    latest = latest_nights(blocks, to_ordinal(verdict.night), verdict.machine_ids)
    if latest is None or (ending in ("strangers", "both") and not has_no_strangers(latest)):
        return False
    names = [sensor.name for sensor in view.sensors]
    sensors = [names.index(name) for name in verdict.sensors if name in names]
    return ending == "strangers" or is_back(cluster.reference, latest, verdict.effect_size or 0.0, sensors)


def _is_mix_back(mix: MixView, night: date, verdict: StoredVerdict) -> bool:
    rows = (mix.night <= to_ordinal(night)) & (mix.night > to_ordinal(verdict.night))
    latest = np.flatnonzero(rows)[-_LATEST_NIGHTS:]
    if len(latest) < _LATEST_NIGHTS:
        return False
    shift = measure_mix(mix.reference, mix.before, mix.night[latest], mix.counts[latest])
    return shift is not None and shift.effect < _SMALL * (verdict.effect_size or 0.0)
