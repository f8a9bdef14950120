"""How the sensors follow from what the machine does: a milling spindle with its coolant loop.

Latent processes (cutting load, speed override, nozzle, ambient temperature) drive every sensor through
nonlinear relations, so that sensors are tightly coupled given the regime. A day is a function of its own
random numbers and of those of the day before, which is run in to settle the thermal states: any day can be
simulated alone, and is the same whichever days are simulated with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from pwflow_core.simulation._random import Stream, generator
from pwflow_core.simulation.production import (
    MINUTES_PER_DAY,
    REGIMES,
    Timeline,
    machine_day_timeline,
)
from pwflow_core.simulation.sensors import SENSOR_INDEX, SENSORS

__all__ = ["ageing_shift", "simulate_machine_day"]

FloatArray = NDArray[np.float64]

# Per sensor, in the order of SENSORS.
_NOISE_RUNNING = np.array([8.0, 9.0, 0.16, 0.05, 0.25, 0.12, 0.16, 0.09])
_NOISE_STANDSTILL = np.array([1.5, 1.2, 0.03, 0.012, 0.20, 0.12, 0.04, 0.012])
_NOISE_MEMORY = np.array([0.5, 0.5, 0.6, 0.6, 0.7, 0.7, 0.6, 0.6])
_MACHINE_OFFSET = 0.25  # of the running noise

_LATENT_MEMORY = 0.90
_BEARING_MINUTES = 9.0
_COOLANT_MINUTES = 40.0
_ORBIT_MINUTES = 7.3
_PUMP_BAR = 20.0

AGEING_REGIME = "b_roughing"
AGEING_DAYS = 15
AGEING_END_SHIFT = {"spindle_current": 0.50, "vibration_rms": 0.21}
"""What a fully worn tool adds, in the unit of the sensor."""


def simulate_machine_day(seed: int, machine: int, day: int) -> tuple[FloatArray, Timeline]:
    """Simulate one machine on one day, healthy and with a new tool.

    Arguments:
        seed: Seed of the plant.
        machine: Index of the machine.
        day: Day of the plant, 0 is the first.

    Returns:
        Unrounded readings, shape (1440, 8), and the timeline that they follow.
    """
    before, today = (machine_day_timeline(seed, machine, d) for d in (day - 1, day))
    both = before.followed_by(today)
    latents = _draw_latents(seed, machine, day)
    values = _instrument_readings(both, latents, _ambient(seed, day))
    values += _noise(seed, machine, day, both, latents)
    values[:, SENSOR_INDEX["vibration_rms"]] = np.maximum(values[:, SENSOR_INDEX["vibration_rms"]], 0.02)
    return values[MINUTES_PER_DAY:], today


def ageing_shift(day: int, from_day: int) -> FloatArray:
    """Return what wear adds to each reading of the ageing regime on a day, shape (1440, 8), in raw units."""
    age_days = day - from_day + np.arange(MINUTES_PER_DAY) / MINUTES_PER_DAY
    end = np.zeros(len(SENSORS))
    for name, shift in AGEING_END_SHIFT.items():
        end[SENSOR_INDEX[name]] = shift
    return np.clip(age_days / AGEING_DAYS, 0.0, 1.0)[:, None] * end


@dataclass(frozen=True)
class _Latents:
    load: FloatArray
    override: FloatArray
    nozzle: FloatArray
    orbit: FloatArray


def _two_days(seed: int, stream: Stream, machine: int, day: int, columns: int) -> FloatArray:
    """Draw the standard normals of a day and of the day before it, shape (2880, columns)."""
    return np.concatenate(
        [generator(seed, stream, machine, d).standard_normal((MINUTES_PER_DAY, columns)) for d in (day, day + 1)]
    )


def _autoregressive(shocks: FloatArray, memory: float) -> FloatArray:
    """Filter standard normals to an AR(1) process of unit variance."""
    return np.asarray(lfilter([np.sqrt(1.0 - memory**2)], [1.0, -memory], shocks, axis=0))


def _lag(target: FloatArray, minutes: float) -> FloatArray:
    """Follow a target with a first-order lag, settled at the start."""
    keep = np.exp(-1.0 / minutes)
    filtered, _ = lfilter([1.0 - keep], [1.0, -keep], target, zi=np.array([keep * target[0]]))
    return np.asarray(filtered)


def _draw_latents(seed: int, machine: int, day: int) -> _Latents:
    shocks = _two_days(seed, Stream.PROCESS, machine, day, 4)
    process = _autoregressive(shocks[:, :3], _LATENT_MEMORY)
    bounded = 1.8 * np.tanh(process / 1.5)
    turns = np.arange(2 * MINUTES_PER_DAY) / _ORBIT_MINUTES + np.cumsum(0.01 * shocks[:, 3])
    return _Latents(bounded[:, 0], bounded[:, 1], bounded[:, 2], 2.0 * np.pi * turns)


def _ambient(seed: int, day: int) -> FloatArray:
    """Return the temperature of the hall over two days: day and night, and a little weather, in °C."""
    minute = np.arange(2 * MINUTES_PER_DAY)
    weather = [0.4 * float(generator(seed, Stream.WEATHER, d).standard_normal()) for d in (day, day + 1, day + 2)]
    slow = np.interp(minute, [0, MINUTES_PER_DAY, 2 * MINUTES_PER_DAY], weather)
    return 21.0 + 2.5 * np.cos(2.0 * np.pi * (minute / MINUTES_PER_DAY - 13.0 / 24.0)) + slow


def _instrument_readings(timeline: Timeline, latents: _Latents, ambient: FloatArray) -> FloatArray:
    """Compute the readings of noise-free instruments, shape (minutes, 8)."""

    def setting(name: str) -> FloatArray:
        return np.array([getattr(regime, name) for regime in REGIMES], dtype=np.float64)[timeline.regime]

    ramp, cut = timeline.ramp, timeline.cutting.astype(np.float64)
    load = 1.0 + setting("load_spread") * latents.load * cut
    yielding = np.where(setting("constant_power") > 0, 1.0 / (0.55 + 0.45 * load), 1.0)
    orbit = setting("orbit") * cut
    speed = ramp * (setting("speed") * yielding + setting("speed_spread") * latents.override * cut)
    speed = speed + orbit * np.sin(latents.orbit)

    # Adaptive feed: the control takes back feed where the cut is heavy.
    chip = setting("chip") * (1.0 - 0.55 * (load - 1.0))
    feed = cut * chip * speed
    # Kienzle: the cutting force grows with the chip thickness to the power of 3/4.
    chip_share = np.where(cut > 0, chip / np.where(cut > 0, setting("chip"), 1.0), 0.0)
    torque_current = cut * setting("torque_current") * load * chip_share**0.75
    acceleration = 6.0 * timeline.ramp_rate + 0.007 * orbit * np.cos(latents.orbit)
    current = 1.5 + 0.45 * speed / 1000.0 + np.sqrt(4.0 * ramp**2 + torque_current**2) + acceleration
    current = np.maximum(current, 0.8 + 0.1 * ramp)

    vibration = (
        0.25
        + 0.12 * ramp * speed / 1000.0
        + cut * setting("chatter") * latents.override**2
        + 0.045 * torque_current * np.sqrt(load)
        + 1.8 * ramp * np.exp(-(((speed - 3100.0) / 450.0) ** 2))  # a resonance that every ramp runs through
    )

    pump = 1.0 - (1.0 - ramp) ** 2
    opening = setting("nozzle") * (1.0 + 0.10 * latents.nozzle + 0.10 * (load - 1.0))
    pressure = pump * _PUMP_BAR / (1.0 + 0.75 * opening**2)
    coolant = _lag(ambient + 2.0 + 0.16 * current, _COOLANT_MINUTES)
    flow = 5.2 * opening * np.sqrt(pressure) * (1.0 + 0.004 * (coolant - 25.0))

    friction_heat = 0.42 * (np.abs(speed) / 1000.0) ** 1.5 + 0.012 * current**2
    bearing = _lag(0.5 * ambient + 0.5 * coolant + 1.5 + friction_heat, _BEARING_MINUTES)
    return np.column_stack([speed, feed, current, vibration, bearing, coolant, flow, 0.35 + pressure])


def _noise(seed: int, machine: int, day: int, timeline: Timeline, latents: _Latents) -> FloatArray:
    """Draw the autocorrelated noise of the instruments and the machine's own small offsets."""
    shocks = _two_days(seed, Stream.NOISE, machine, day, len(SENSORS))
    noise = np.column_stack([_autoregressive(shocks[:, column], memory) for column, memory in enumerate(_NOISE_MEMORY)])
    scale = _NOISE_STANDSTILL + (_NOISE_RUNNING - _NOISE_STANDSTILL) * timeline.ramp[:, None]
    growth = np.array([regime.noise_growth for regime in REGIMES])[timeline.regime] * timeline.cutting
    scale[:, :4] *= np.exp(growth * latents.override)[:, None]
    offset = _MACHINE_OFFSET * generator(seed, Stream.MACHINE, machine).uniform(-1.0, 1.0, len(SENSORS))
    return np.asarray(scale * (noise + offset))
