"""Verdicts: what the evidence of a whole plant means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pwflow_core.modelling.drift import sentences
from pwflow_core.modelling.drift.plant import Availability, ClusterEvidence, MixEvidence, SensorLevels
from pwflow_core.modelling.drift.sentences import SensorName
from pwflow_core.modelling.drift.shift import Effects, Shift
from pwflow_core.modelling.drift.units import Conversion, find_conversion

__all__ = ["Kind", "Verdict", "judge"]

Kind = Literal["regime_moved", "mix_moved", "new_regime", "sensor_suspected", "machine_moved", "outage"]

Array = NDArray[np.float64]

_OUTAGE = 0.5
_SMALL = 0.5  # of the largest effect: what moved less than this held still
_FEWEST_NIGHTS_OF_NEW = 2
_SMALLEST_SHARE_OF_NEW, _LARGEST_SHARE_OF_NEW = 0.02, 0.8
_BULK = 0.15  # of the offset of a new regime: what it may move the ordinary readings by, being mixed with some
_ALONE = 0.4  # of the largest offset: if no other sensor is off by more, it is that one sensor
_SEEN = 2.0  # standard errors
_CURRENT_NIGHTS = 3
_FEWEST_CLUSTERS, _MOST_CLUSTERS, _NEARLY_ALL = 2, 0.6, 0.8


@dataclass(frozen=True)
class Verdict:
    """One finding.

    Attributes:
        verdict: What happened.
        cluster_keys: Clusters that it is about, sorted.
        machine_ids: Machines that it is about, sorted.
        sensors: Sensors that moved, the one that moved most first.
        since: Night on which it began, days since 1970-01-01.
        effect_size: Largest shift, in standard deviations of a reading; of a mix, a new regime or an outage: share of
            the readings; of a change of units: the factor.
        summary: The same as a sentence.
    """

    verdict: Kind
    cluster_keys: tuple[str, ...]
    machine_ids: tuple[str, ...]
    sensors: tuple[str, ...]
    since: int
    effect_size: float
    summary: str


def judge(
    night: int,
    clusters: Sequence[ClusterEvidence],
    *,
    threshold: float,
    sensors: Sequence[SensorName],
    mixes: Sequence[MixEvidence] = (),
    availability: Availability | None = None,
    levels: SensorLevels | None = None,
    min_effect: float = 0.25,
    min_mix: float = 0.1,
) -> list[Verdict]:
    """Judge a night. The order of the clusters, mixes and rows does not matter.

    An outage is told whatever else there is. While a sensor reads in another unit, nothing else is concluded: it
    confuses every cluster. The mix of a segment is judged only where no cluster of it moved and no machine is out.

    Arguments:
        night: The night to judge, days since 1970-01-01.
        clusters: Evidence of every cluster in use.
        threshold: `log_threshold`.
        sensors: Names and units, in the order of the columns.
        mixes: Evidence of every segment with more than one cluster.
        availability: Readings per machine in the last nights; only outages of `night` count.
        levels: Levels of the sensors per machine in the last nights.
        min_effect: A smaller shift is never acted on, standard deviations of a reading.
        min_mix: A smaller change of mix is never acted on, share of the readings.
    """
    outages = _outages(night, availability) if availability is not None else []
    if levels is not None and (rescaled := _changes_of_unit(night, levels, sensors)):
        return [*outages, *rescaled]
    clusters = sorted(clusters, key=lambda c: c.cluster_key)
    moved = [(c, c.shift) for c in clusters if c.shift is not None and c.log_evidence >= threshold]
    shifted = [(c, s) for c, s in moved if max(s.effect, s.machine_effect) >= min_effect]
    found = _common_sensor(night, clusters, shifted, sensors, min_effect) if shifted else []
    if not found:
        fresh = [(c, s) for c, s in moved if _is_new_regime(s, min_effect)]
        found = _new_regimes(fresh, sensors)
        found += _moves([(c, s) for c, s in shifted if not _is_new_regime(s, min_effect)], sensors, min_effect)
    busy = {c.segment for c, _ in moved}
    if not outages:
        found += _mixes([m for m in mixes if m.segment not in busy and m.log_evidence >= threshold], min_mix)
    return [*outages, *found]


_Moved = list[tuple[ClusterEvidence, Shift]]


def _outages(night: int, availability: Availability) -> list[Verdict]:
    bad = (availability.usual > 0) & (availability.n_judged < _OUTAGE * availability.usual)
    verdicts = []
    for machine in np.unique(availability.machine[(availability.night == night) & bad]):
        rows = np.flatnonzero(availability.machine == machine)
        rows = rows[np.argsort(availability.night[rows])]
        rows = rows[availability.night[rows] <= night]
        since = _start_of_run(availability.night[rows], bad[rows])
        last = rows[-1]
        came, judged, usual = (
            int(a[last]) for a in (availability.n_readings, availability.n_judged, availability.usual)
        )
        verdicts.append(
            Verdict(
                verdict="outage",
                cluster_keys=(),
                machine_ids=(str(machine),),
                sensors=(),
                since=since,
                effect_size=1 - min(judged / usual, 1.0),
                summary=sentences.outage(str(machine), came, judged, usual, since),
            )
        )
    return verdicts


def _start_of_run(nights: NDArray[np.int64], bad: NDArray[np.bool_]) -> int:
    """Return the first night of the unbroken run of bad nights that ends with the last one."""
    good = np.flatnonzero(~bad)
    return int(nights[good[-1] + 1 if len(good) else 0])


def _changes_of_unit(night: int, levels: SensorLevels, sensors: Sequence[SensorName]) -> list[Verdict]:
    suspected: dict[tuple[int, Conversion], list[tuple[str, int]]] = {}
    for row in np.flatnonzero(levels.night == night):
        machine = levels.machine[row]
        for s in range(len(sensors)):
            conversion = find_conversion(levels.reference[row, s], levels.recent[row, s])
            if conversion is None:
                continue
            rows = np.flatnonzero((levels.machine == machine) & (levels.night <= night))
            rows = rows[np.argsort(levels.night[rows])]
            same = np.array([find_conversion(levels.reference[r, s], levels.recent[r, s]) == conversion for r in rows])
            since = _start_of_run(levels.night[rows], same)
            suspected.setdefault((s, conversion), []).append((str(machine), since))
    verdicts = []
    for (s, conversion), seen in sorted(suspected.items(), key=lambda item: item[0][0]):
        machines, since = tuple(sorted(m for m, _ in seen)), min(n for _, n in seen)
        verdicts.append(
            Verdict(
                verdict="sensor_suspected",
                cluster_keys=(),
                machine_ids=machines,
                sensors=(sensors[s].name,),
                since=since,
                effect_size=conversion.factor,
                summary=sentences.change_of_unit(sensors[s], conversion, machines, since),
            )
        )
    return verdicts


def _is_new_regime(shift: Shift, min_effect: float) -> bool:
    """Tell readings of another kind among those of a cluster from a cluster that moved as a whole."""
    part = shift.improbable
    if part is None or part.n_nights < _FEWEST_NIGHTS_OF_NEW:
        return False
    bulk = max(min_effect, _BULK * float(np.abs(part.offset).max(initial=0.0)))
    return (
        part.share >= _SMALLEST_SHARE_OF_NEW
        and part.share_there <= _LARGEST_SHARE_OF_NEW
        and part.effect_on_others < bulk
    )


def _new_regimes(fresh: _Moved, sensors: Sequence[SensorName]) -> list[Verdict]:
    verdicts = []
    for segment in sorted({c.segment for c, _ in fresh}):
        parts = [(c, s, s.improbable) for c, s in fresh if c.segment == segment and s.improbable is not None]
        _, _, most = max(parts, key=lambda part: part[2].share)
        order = np.argsort(-np.abs(most.offset))
        offset = np.abs(most.offset)[order]
        machines = tuple(sorted({m for _, _, part in parts for m in part.machines}))
        single = len(sensors) > 2 and offset[1] < _ALONE * offset[0]
        named = tuple(sensors[i].name for i in order if np.abs(most.offset[i]) > max(1.0, _ALONE * offset[0]))
        named = (sensors[int(order[0])].name,) if single else named
        since = min(s.since for _, s, _ in parts)
        keys = tuple(c.cluster_key for c, _, _ in parts)
        top = sensors[int(order[0])]
        verdicts.append(
            Verdict(
                verdict="sensor_suspected" if single else "new_regime",
                cluster_keys=keys,
                machine_ids=machines,
                sensors=named,
                since=since,
                effect_size=float(np.abs(most.offset).max()) if single else most.share,
                summary=sentences.improbable_sensor(top, most, keys, machines, since)
                if single
                else sentences.new_regime(most, keys, machines, named, since),
            )
        )
    return verdicts


def _common_sensor(
    night: int, clusters: Sequence[ClusterEvidence], shifted: _Moved, sensors: Sequence[SensorName], min_effect: float
) -> list[Verdict]:
    """Find the one sensor that moved in every cluster that can be judged, by the same amount or by the same factor.

    The evidence of some clusters comes later than that of the first, so all of them are asked which is nearer to what
    they show in their last three nights: nothing, or what the sensor shows in most of the others. A cluster
    whose readings now go to another one tells nothing; a fifth may show something else, being given such readings.
    """
    current = [(c, c.shift) for c in clusters if c.shift is not None and c.shift.until > night - _CURRENT_NIGHTS]
    if len(current) < _FEWEST_CLUSTERS:
        return []
    size, error = (np.stack([getattr(s.latest, part) for _, s in current]) for part in ("size", "error"))
    unit, typical = (np.stack([getattr(s, part) for _, s in current]) for part in ("reading_spread", "typical"))
    unit = np.where(unit > 0, unit, np.inf)
    raw = np.where(np.isfinite(unit), size * unit, 0.0)
    by_amount = np.median(raw, axis=0) / unit
    by_factor = np.median(raw / np.where(typical != 0, typical, np.inf), axis=0) * typical / unit
    common = np.zeros(len(sensors), dtype=bool)
    telling = np.zeros(size.shape, dtype=bool)
    for expected in (by_amount, by_factor):
        seen = np.abs(expected) > _SEEN * error
        along = (seen & (np.abs(size - expected) < np.abs(size))).sum(axis=0)
        enough = (along >= _FEWEST_CLUSTERS) & (along >= _NEARLY_ALL * seen.sum(axis=0))
        common |= enough & (seen.sum(axis=0) >= _MOST_CLUSTERS * len(current))
        telling |= seen
    if common.sum() != 1:
        return []
    top = int(common.argmax())
    there = [pair for pair, is_seen in zip(current, telling[:, top], strict=True) if is_seen]
    effect = float(np.median([abs(float(shift.latest.size[top])) for _, shift in there]))
    if effect < min_effect:
        return []
    machines = tuple(sorted({m for _, shift in there for m in _machines(shift, shift.machine_sensors, top)[0]}))
    since = min(shift.since for _, shift in shifted)
    return [
        Verdict(
            verdict="sensor_suspected",
            cluster_keys=tuple(c.cluster_key for c, _ in there),
            machine_ids=machines,
            sensors=(sensors[top].name,),
            since=since,
            effect_size=effect,
            summary=sentences.common_sensor(
                sensors[top], float(np.median(raw[:, top])), effect, len(there), machines, since
            ),
        )
    ]


def _moves(shifted: _Moved, sensors: Sequence[SensorName], min_effect: float) -> list[Verdict]:
    """Tell regimes that moved on all of their machines from machines that moved while others held still; or both."""
    verdicts: list[Verdict] = []
    asked: dict[tuple[tuple[str, ...], str], _Moved] = {}
    for cluster, shift in shifted:
        of_machines, top = _largest(shift)
        some, still = _machines(shift, of_machines, top)
        named = _named(_sure_on(shift, some), sensors, min_effect)
        alone = len(shift.machines) < 2 and _one_sensor_alone(shift, sensors)
        is_common = shift.common_effect >= min_effect
        if (still and some) or alone:
            asked.setdefault((tuple(some) or shift.machines, named[0] if named else ""), []).append((cluster, shift))
            if not is_common:
                continue
            named = _named(shift.machine_sensors.common, sensors, min_effect)
        if max(shift.effect, shift.common_effect) < min_effect:
            continue
        verdicts.append(
            Verdict(
                verdict="regime_moved",
                cluster_keys=(cluster.cluster_key,),
                machine_ids=shift.machines,
                sensors=named,
                since=shift.since,
                effect_size=max(shift.effect, shift.common_effect),
                summary=sentences.regime_moved(cluster.cluster_key, shift, sensors, named, shift.machines),
            )
        )
    for (machines, _), group in sorted(asked.items()):
        _, strongest = max(group, key=lambda pair: pair[1].machine_effect)
        keys = tuple(c.cluster_key for c, _ in group)
        named = _named(_sure_on(strongest, machines), sensors, min_effect)
        is_beyond = strongest.common_effect >= min_effect
        verdicts.append(
            Verdict(
                verdict="machine_moved",
                cluster_keys=keys,
                machine_ids=machines,
                sensors=named,
                since=min(s.since for _, s in group),
                effect_size=max(max(s.effect, s.machine_effect) for _, s in group),
                summary=sentences.machine_moved(keys, strongest, sensors, named, machines, is_beyond=is_beyond),
            )
        )
    return verdicts


def _largest(shift: Shift) -> tuple[Effects, int]:
    """Return the effects by machine, on sensors or on latents, where one machine moved most surely, and which one."""
    choices = [effects for effects in (shift.machine_sensors, shift.machine_latents) if effects.size.size]
    if not choices:
        return shift.machine_sensors, 0
    least = [np.abs(effects.size) - _SEEN * effects.error for effects in choices]
    best = int(np.argmax([values.max() for values in least]))
    return choices[best], int(least[best].max(axis=0).argmax())


def _machines(shift: Shift, effects: Effects, column: int) -> tuple[list[str], list[str]]:
    """Return the machines that moved in a column, and those that surely held still."""
    size, error = effects.size[:, column], effects.error[:, column]
    if len(size) == 0:
        return [], []
    strongest = int((np.abs(size) - error).argmax())
    along = size * np.sign(size[strongest])
    moved = along > np.maximum(3 * error, _SMALL * along[strongest])
    still = along + 2 * error < _SMALL * along[strongest]
    return (
        [m for m, is_one in zip(shift.machines, moved, strict=True) if is_one],
        [m for m, is_one in zip(shift.machines, still, strict=True) if is_one],
    )


def _sure_on(shift: Shift, machines: Sequence[str]) -> Array:
    """Return the sure effects on the sensors of some machines, or else of the cluster as a whole, shape (S,)."""
    rows = [i for i, machine in enumerate(shift.machines) if machine in machines]
    if not rows or len(rows) == len(shift.machines):
        return shift.sensors.sure
    return np.asarray(shift.machine_sensors.sure[rows].mean(axis=0))


def _named(size: Array, sensors: Sequence[SensorName], min_effect: float) -> tuple[str, ...]:
    """Name the sensors that moved, the one that moved most first, by their sure effects of shape (S,)."""
    order = np.argsort(-np.abs(size), kind="stable")
    limit = max(_SMALL * min_effect, 0.2 * float(np.abs(size).max(initial=0.0)), 1e-9)
    return tuple(sensors[i].name for i in order if abs(size[i]) >= limit)


def _one_sensor_alone(shift: Shift, sensors: Sequence[SensorName]) -> bool:
    """Tell whether one sensor moved against all the others, which held still."""
    size = np.abs(shift.sensors.sure)
    if len(sensors) < 3 or size.max() == 0:
        return False
    return bool(np.sort(size)[-2] < 0.2 * size.max())


def _mixes(mixes: Sequence[MixEvidence], min_mix: float) -> list[Verdict]:
    verdicts = []
    for mix in sorted(mixes, key=lambda m: m.segment):
        if mix.shift is None or mix.shift.effect < min_mix:
            continue
        order = np.argsort(mix.cluster_keys)
        keys = tuple(mix.cluster_keys[i] for i in order)
        verdicts.append(
            Verdict(
                verdict="mix_moved",
                cluster_keys=keys,
                machine_ids=(),
                sensors=(),
                since=mix.shift.since,
                effect_size=mix.shift.effect,
                summary=sentences.mix_moved(mix.segment, mix.cluster_keys, mix.shift),
            )
        )
    return verdicts
