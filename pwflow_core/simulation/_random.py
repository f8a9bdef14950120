"""Independent random streams, each addressed by what it is for, so that any day can be drawn on its own."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """The purposes that draw random numbers. The values are part of the data: never renumber them."""

    PRODUCTION = 1
    PROCESS = 2
    NOISE = 3
    WEATHER = 4
    MACHINE = 5
    FAULT_PLAN = 6
    FAULT = 7
    BLEMISH = 8


def generator(seed: int, stream: Stream, *key: int) -> np.random.Generator:
    """Return the generator of one stream and key; equal arguments give equal numbers for ever."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, int(stream), *key])))
