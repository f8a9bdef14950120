"""What the machines are told to do: regimes, and the timeline of one machine on one day.

A day has six jobs of four hours, alternating between the recipes, so that over a day each recipe meets warm
and cool hours alike. A job is a standstill for changing over, a start-up, alternating passes of roughing and
finishing, and a shut-down.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pwflow_core.simulation._random import Stream, generator

__all__ = ["MACHINES", "MINUTES_PER_DAY", "RECIPES", "REGIMES", "Regime", "Timeline", "machine_day_timeline"]

MACHINES = ("M1", "M2", "M3")
RECIPES = ("A", "B")
MINUTES_PER_DAY = 1440

_JOB_MINUTES = 240
_FIRST_DAY = -1  # the run-in day before the plant's first


@dataclass(frozen=True)
class Regime:
    """One operating regime and the set-points that make its shape.

    Attributes:
        name: Name in the truth; the recipe is its first letter.
        shape: What its cloud of readings looks like.
        speed: Spindle speed, rpm.
        speed_spread: Change of the speed per unit of the speed override, rpm.
        orbit: Amplitude of the deliberate, cyclic variation of the speed against chatter, rpm.
        constant_power: Whether the drive gives way in speed when the cut gets heavier.
        load_spread: Relative change of the cutting load per unit of its latent.
        chip: Feed per revolution at nominal load, mm.
        torque_current: Current that cutting at nominal load takes, A.
        chatter: Vibration at one unit of speed override off the stable speed, mm/s.
        noise_growth: How fast noise grows with the speed override (log per unit).
        nozzle: Opening of the coolant nozzle, 1 is nominal.
    """

    name: str
    shape: str
    speed: float = 0.0
    speed_spread: float = 0.0
    orbit: float = 0.0
    constant_power: bool = False
    load_spread: float = 0.0
    chip: float = 0.0
    torque_current: float = 0.0
    chatter: float = 0.0
    noise_growth: float = 0.0
    nozzle: float = 1.0


REGIMES = (
    Regime("a_standstill", "curved: bearing and coolant cool down at different rates"),
    Regime(
        "a_roughing",
        "curved: vibration is a parabola around the stable speed",
        speed=7600,
        speed_spread=420,
        load_spread=0.22,
        chip=0.34,
        torque_current=17,
        chatter=0.65,
        nozzle=1.25,
    ),
    Regime(
        "a_finishing",
        "heteroscedastic: noise grows with the speed",
        speed=9600,
        speed_spread=260,
        load_spread=0.12,
        chip=0.16,
        torque_current=6,
        chatter=0.05,
        noise_growth=0.5,
        nozzle=0.70,
    ),
    Regime("b_standstill", "curved: bearing and coolant cool down at different rates"),
    Regime(
        "b_roughing",
        "elongated and bent: at constant power the speed falls as the current rises",
        speed=4300,
        speed_spread=60,
        constant_power=True,
        load_spread=0.30,
        chip=0.42,
        torque_current=17.5,
        chatter=0.08,
        nozzle=1.32,
    ),
    Regime(
        "b_finishing",
        "ring: the speed is varied cyclically, and the current leads it by a quarter of a turn",
        speed=9700,
        speed_spread=12,
        orbit=520,
        load_spread=0.05,
        chip=0.13,
        torque_current=7,
        chatter=0.05,
        nozzle=0.62,
    ),
)
REGIME_NAMES = tuple(regime.name for regime in REGIMES)
STANDSTILL, ROUGHING, FINISHING = 0, 1, 2
STEADY, START_UP, SHUT_DOWN = 0, 1, 2
REGIMES_PER_RECIPE = 3
"""`REGIMES` lists the three of recipe A, then the three of recipe B."""


@dataclass(frozen=True)
class Timeline:
    """What one machine is told to do, minute by minute.

    Attributes:
        regime: Index into `REGIMES`, shape (minutes,). In a transient, the regime that is left or entered.
        phase: `STEADY`, `START_UP` or `SHUT_DOWN`, shape (minutes,).
        ramp: Share of the commanded speed, 0 at standstill and 1 in a pass, shape (minutes,).
        ramp_rate: Change of the ramp per minute, shape (minutes,).
    """

    regime: NDArray[np.int64]
    phase: NDArray[np.int64]
    ramp: NDArray[np.float64]
    ramp_rate: NDArray[np.float64]

    @property
    def recipe(self) -> NDArray[np.int64]:
        """Index into `RECIPES` of the recipe that is loaded, shape (minutes,)."""
        return self.regime // REGIMES_PER_RECIPE

    @property
    def cutting(self) -> NDArray[np.bool_]:
        """Whether the tool is in the cut, shape (minutes,)."""
        return np.asarray((self.phase == STEADY) & (self.regime % REGIMES_PER_RECIPE != STANDSTILL))

    def followed_by(self, later: Timeline) -> Timeline:
        """Join this timeline and a later one."""
        return Timeline(
            regime=np.concatenate([self.regime, later.regime]),
            phase=np.concatenate([self.phase, later.phase]),
            ramp=np.concatenate([self.ramp, later.ramp]),
            ramp_rate=np.concatenate([self.ramp_rate, later.ramp_rate]),
        )

    def regime_names(self) -> NDArray[np.str_]:
        """Return the name of the regime or transient per minute, as the truth has it."""
        names = np.array(REGIME_NAMES)[self.regime]
        names = np.where(
            self.phase == START_UP, np.array([f"{r.lower()}_start_up" for r in RECIPES])[self.recipe], names
        )
        return np.where(
            self.phase == SHUT_DOWN, np.array([f"{r.lower()}_shut_down" for r in RECIPES])[self.recipe], names
        )

    def passes(self, minimum_minutes: int) -> list[tuple[int, int]]:
        """List the passes that last at least so long, as (first minute, end minute)."""
        key = np.where(self.cutting, self.regime, -1)
        edges = np.flatnonzero(np.diff(key, prepend=-2, append=-2))
        return [
            (int(start), int(end))
            for start, end in pairwise(edges)
            if key[start] >= 0 and end - start >= minimum_minutes
        ]


def machine_day_timeline(seed: int, machine: int, day: int) -> Timeline:
    """Draw the timeline of one machine on one day (day -1 is the run-in day before the first)."""
    rng = generator(seed, Stream.PRODUCTION, machine, day - _FIRST_DAY)
    regime = np.zeros(MINUTES_PER_DAY, dtype=np.int64)
    phase = np.full(MINUTES_PER_DAY, STEADY, dtype=np.int64)
    ramp = np.zeros(MINUTES_PER_DAY)
    ramp_rate = np.zeros(MINUTES_PER_DAY)
    first_recipe = int(rng.integers(len(RECIPES)))
    for job in range(MINUTES_PER_DAY // _JOB_MINUTES):
        begin, end = job * _JOB_MINUTES, (job + 1) * _JOB_MINUTES
        base = REGIMES_PER_RECIPE * ((first_recipe + job) % len(RECIPES))
        running = begin + int(rng.integers(30, 65))
        cut_begin = running + int(rng.integers(5, 8))
        cut_end = end - int(rng.integers(4, 7))
        n_passes = int(rng.choice([4, 6]))
        lengths = rng.uniform(0.75, 1.25, n_passes)
        cuts = cut_begin + np.round(np.cumsum(lengths) / lengths.sum() * (cut_end - cut_begin)).astype(np.int64)

        regime[begin:running] = base + STANDSTILL
        regime[running:cut_begin] = base + ROUGHING
        regime[cut_end:end] = base + FINISHING
        phase[running:cut_begin], phase[cut_end:end] = START_UP, SHUT_DOWN
        ramp[cut_begin:cut_end] = 1.0
        for number, (start, stop) in enumerate(zip([cut_begin, *cuts[:-1]], cuts, strict=True)):
            regime[start:stop] = base + (ROUGHING if number % 2 == 0 else FINISHING)

        # The reading falls anywhere within the minute, so ramps are sampled at a random offset.
        up = (np.arange(cut_begin - running) + rng.uniform(0.1, 0.9)) / (cut_begin - running)
        down = (np.arange(end - cut_end) + rng.uniform(0.1, 0.9)) / (end - cut_end)
        ramp[running:cut_begin], ramp_rate[running:cut_begin] = _smooth_step(up), _smooth_step_slope(up)
        ramp[cut_end:end], ramp_rate[cut_end:end] = 1.0 - _smooth_step(down), -_smooth_step_slope(down)
    return Timeline(regime, phase, ramp, ramp_rate)


def _smooth_step(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x * x * (3.0 - 2.0 * x)


def _smooth_step_slope(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 6.0 * x * (1.0 - x)
