"""Angles and counters that begin again: what looks like a jump is none."""

from __future__ import annotations

import math

from pwflow_core.onboarding.columns import ColumnProfile, Steps
from pwflow_core.onboarding.names import guess_unit, has_word, words
from pwflow_core.onboarding.sampling import Sample
from pwflow_core.onboarding.vocabulary import ANGLES, TOTALS

__all__ = ["find_period", "is_totaliser", "is_wrapping_counter", "wrap_of"]

_TURNS = (360.0, math.tau, 400.0)
"""Degrees, radians, gon."""
_SECTORS = 72
_ENOUGH = 100


def find_period(profile: ColumnProfile, steps: Steps) -> float | None:
    """Return what a full turn of an angle is, in its unit; None if the column is none.

    It is called like an angle or has degrees as its unit, stays within a turn, and jumps over the edge, both ways.
    """
    if profile.low is None or profile.high is None or steps.n < _ENOUGH:
        return None
    named = bool(set(words(profile.name)) & ANGLES) or guess_unit(profile.name) == "°"
    if not named or not steps.far_down or not steps.far_up:
        return None
    return next((turn for turn in _TURNS if _is_within(turn, profile.low, profile.high)), None)


def _is_within(turn: float, low: float, high: float) -> bool:
    """Whether values go nearly all the way round, and not farther."""
    edge = turn * (1 + 1e-6)
    return high - low > 0.9 * turn and ((low >= 0 and high <= edge) or (low >= -edge / 2 and high <= edge / 2))


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


def is_wrapping_counter(steps: Steps, *, is_whole: bool, name: str = "") -> bool:
    """Whether numbers only go up, but for the steps with which they begin again at their low end.

    They are whole, or their column is called like a total.
    """
    return (
        (is_whole or has_word(name, TOTALS))
        and steps.n >= _ENOUGH
        and steps.up >= 0.5
        and 0 < steps.down <= 0.05
        and steps.down == steps.far_down
    )
