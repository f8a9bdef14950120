"""Blocks as the regimes of a plant would give them: what the tests of drift draw from."""

from __future__ import annotations

import numpy as np

from pwflow_core.modelling.drift import Blocks, DriftReference, SensorName, advance

MACHINES = ("M1", "M2", "M3")
UNIT = 0.5
SENSORS = [SensorName("current", "A"), SensorName("vibration", "mm/s"), SensorName("pressure", "bar")]
FIRST = 20_000
BLOCK_SPREAD = 0.6  # of a reading


def draw_blocks(
    seed, n_nights, per_night=6, first=FIRST, shift=None, machines=MACHINES, moved=MACHINES, heavy=False, weather=0.05
):
    """Draw the blocks of some nights; `shift` moves the three sensors of the machines `moved`, in readings' spreads.

    Each sensor is driven by a latent of its own, around 10 raw units; a standard deviation of a reading is 0.5.
    """
    rng = np.random.default_rng(seed)
    night = np.repeat(np.arange(first, first + n_nights), per_night * len(machines))
    machine = np.tile(np.repeat(machines, per_night), n_nights)
    shape = (len(night), 3)
    noise = rng.standard_t(3, shape) / np.sqrt(3) if heavy else rng.standard_normal(shape)
    common = np.repeat(rng.standard_normal((n_nights, 3)), per_night * len(machines), axis=0)
    latents = BLOCK_SPREAD * noise + weather * common
    if shift is not None:
        latents += np.isin(machine, moved)[:, None] * np.asarray(shift)
    return blocks_of(night, machine, latents)


def blocks_of(night, machine, latents, improbable=None):
    """Turn latents into blocks: log-density as under the model, sensors in raw units."""
    log_density = -0.5 * (latents**2).sum(axis=1) - 1.0
    return Blocks(
        night=np.asarray(night),
        machine=np.asarray(machine),
        n_readings=np.full(len(latents), 20),
        means=np.column_stack([log_density, latents]),
        sensors=10 + UNIT * latents,
        improbable=np.zeros(len(latents)) if improbable is None else np.asarray(improbable),
    )


def fit_reference(seed=0, n_nights=25, **options):
    """Fit a reference to nights long before those that are watched."""
    return DriftReference.fit(draw_blocks(seed, n_nights, first=FIRST - 1000, **options), np.full(3, UNIT))


def joined(*parts):
    """Put blocks one after the other."""
    names = ("night", "machine", "n_readings", "means", "sensors", "improbable")
    return Blocks(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def followed(reference, state, blocks):
    """Advance a state night by night; yields the state after each."""
    for night in np.unique(blocks.night):
        state = advance(reference, state, blocks.take(blocks.night == night))
        yield state
