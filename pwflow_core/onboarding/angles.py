"""Angles and counters that begin again: what looks like a jump is none."""

from __future__ import annotations

from pwflow_core.onboarding.columns import ColumnProfile, Steps
from pwflow_core.onboarding.names import guess_unit, words
from pwflow_core.onboarding.sampling import Sample
from pwflow_core.onboarding.vocabulary import ANGLES

__all__ = ["find_period", "is_totaliser", "is_wrapping_counter", "wrap_of"]

_TURN = 360.0
_SECTORS = 72
_ENOUGH = 100


def find_period(profile: ColumnProfile, steps: Steps) -> float | None:
    """Return what a full turn of an angle is, in its unit; None if the column is none.

    It is called like an angle or has degrees as its unit, stays within a turn, and jumps over the edge, both ways.
    """
    if profile.low is None or profile.high is None or steps.n < _ENOUGH:
        return None
    named = bool(set(words(profile.name)) & ANGLES) or guess_unit(profile.name) == "°"
    within = (profile.low >= 0 and profile.high <= _TURN) or (profile.low >= -_TURN / 2 and profile.high <= _TURN / 2)
    wide = profile.high - profile.low > 0.9 * _TURN
    jumps = steps.far_down > 0 and steps.far_up > 0
    return _TURN if named and within and wide and jumps else None


def wrap_of(sample: Sample, profile: ColumnProfile, steps: Steps) -> dict[str, float]:
    """Return the period of an angle and where to cut it open: where it is least often."""
    period = find_period(profile, steps)
    if period is None:
        return {}
    width = period / _SECTORS
    key = f"n{profile.column.key}"
    rows = (
        sample.connection.table("numbered")
        .filter(f"{key} IS NOT NULL")
        .aggregate(f"(floor(({key} % {period} + {period}) % {period} / {width}))::INT AS sector, count(*) AS n", "1")
        .fetchall()
    )
    counts = {int(sector) % _SECTORS: n for sector, n in rows}
    loads = [sum(counts.get((start + i) % _SECTORS, 0) for i in range(-6, 6)) for start in range(_SECTORS)]
    least = min(loads)
    empty = [sector for sector in range(_SECTORS) if loads[sector] == least]
    usual = max(range(_SECTORS), key=lambda sector: loads[sector])
    cut = max(empty, key=lambda sector: min((sector - usual) % _SECTORS, (usual - sector) % _SECTORS))
    return {"period": period, "cut": cut * width}


def is_totaliser(steps: Steps) -> bool:
    """Whether values mostly go up and never down, as no measurement does that has noise."""
    return steps.n >= _ENOUGH and steps.down == 0 and steps.up >= 0.5


def is_wrapping_counter(steps: Steps, *, is_whole: bool) -> bool:
    """Whether whole numbers only go up, but for the steps with which they begin again at their low end."""
    return (
        is_whole and steps.n >= _ENOUGH and steps.up >= 0.5 and 0 < steps.down <= 0.05 and steps.down == steps.far_down
    )
