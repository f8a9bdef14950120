"""What was measured of each contender, and how two of them compare."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pwflow_core.benchmarking.measures import mean_and_error
from pwflow_core.modelling.validation import paired_gain
from pwflow_core.poc.contenders import Contender
from pwflow_core.poc.detection import Detection

__all__ = ["LEAST_GAIN", "Gain", "Result", "density_gain", "detects_more", "is_calmer", "recall_gain"]

Array = NDArray[np.float64]

LEAST_GAIN = 0.02
"""Nats per reading, and share of the faults, below which a difference is of no use to anybody, however certain."""
_MOST = 0.9


@dataclass(frozen=True, eq=False)
class Result:
    """What was measured of one contender.

    Attributes:
        contender: Which one.
        error: Why there are no figures, or empty.
        log_density: Of each held-out reading, nats, shape (M,); empty without a density.
        block: Stretch of time of each, shape (M,).
        detection: How good its alarms are; None if it failed.
        figures: What the worker measured, by name.
        nightly_cpu_seconds: CPU seconds of scoring a night of the plant.
    """

    contender: Contender
    error: str = ""
    log_density: Array = field(default_factory=lambda: np.empty(0))
    block: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, dtype=np.intp))
    detection: Detection | None = None
    figures: dict[str, float | None] = field(default_factory=dict)
    nightly_cpu_seconds: float | None = None

    @property
    def key(self) -> str:
        """Return the name of the contender."""
        return self.contender.key

    @property
    def held_out(self) -> tuple[float, float] | None:
        """Return the mean log-density of the held-out readings and its standard error, nats; None without one."""
        return mean_and_error(self.log_density, self.block) if len(self.log_density) else None

    def figure(self, name: str) -> float | None:
        """Return a figure, None if there is none."""
        return self.figures.get(name)

    @property
    def full_refit_cpu_seconds(self) -> float | None:
        """CPU seconds of learning everything again."""
        return self.figure("train_cpu_seconds")

    @property
    def partial_refit_cpu_seconds(self) -> float | None:
        """CPU seconds of learning one regime again; where there is one only, that is everything."""
        return self.figure("partial_cpu_seconds") or self.full_refit_cpu_seconds

    @property
    def added_memory_mb(self) -> float | None:
        """Memory that learning added to the process, MB."""
        peak, before = self.figure("peak_memory_mb"), self.figure("memory_before_mb")
        return None if peak is None or before is None else peak - before


@dataclass(frozen=True)
class Gain:
    """A mean difference over the same readings, or the same faults, and its standard error."""

    mean: float
    error: float

    @property
    def is_clear(self) -> bool:
        """Whether it is more than two standard errors, and large enough to be of use."""
        return self.mean > max(2 * self.error, LEAST_GAIN)


def density_gain(before: Result, after: Result) -> Gain:
    """Return how much better the second one describes the held-out readings, nats per reading."""
    weight = np.ones(len(after.log_density))
    position = np.unique(after.block, return_inverse=True)[1]
    return Gain(*paired_gain(before.log_density, after.log_density, weight, position))


def recall_gain(before: Result, after: Result) -> Gain:
    """Return how much more of the faults the second one finds, as a share of them."""
    if before.detection is None or after.detection is None or not after.detection.n_faults:
        return Gain(0.0, 0.0)
    difference = after.detection.found.astype(np.float64) - before.detection.found
    return Gain(float(difference.mean()), float(difference.std() / np.sqrt(len(difference))))


def detects_more(before: Result, after: Result) -> bool:
    """Tell whether the second one clearly finds more faults, and clearly not by raising more false alarms."""
    if before.detection is None or after.detection is None:
        return False
    few, many = before.detection.n_false, after.detection.n_false
    return recall_gain(before, after).is_clear and many - few <= 2 * np.sqrt(many + few)


def is_calmer(before: Result, after: Result) -> bool:
    """Tell whether the second one clearly raises fewer false alarms, and finds most of the faults all the same."""
    if before.detection is None or after.detection is None or not before.detection.n_faults:
        return False
    many, few = before.detection.n_false, after.detection.n_false
    return many - few > 2 * np.sqrt(many + few) and after.detection.n_found >= _MOST * before.detection.n_found
