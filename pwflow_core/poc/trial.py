"""What the contenders learn from, what sets their thresholds, and what they are judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["Stretch", "Trial", "TrialFacts"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TrialFacts:
    """What is known of the plant and of the sample, for people.

    Attributes:
        plant: Name of the plant.
        sensors: Names of the sensors that vary, in the order of the columns.
        n_readings: Readings in the warehouse.
        n_complete: Complete, valid readings in the training window.
        n_machines: Machines.
        n_segments: Known process conditions; the contenders are not told them.
        readings_per_week: Readings that the plant delivers in a week in which it runs.
        interval_seconds: The usual time from one reading to the next.
        block_readings: Readings of a time block that is held out as a whole.
        fault_source: `labelled` or `injected`.
        alpha: The false-alarm rate per reading of the configuration; None if it gives a budget instead.
        alarms_per_week: That budget of false events per week.
        faults_per_week: Labelled faults in a week in which the plant runs; None without labels.
    """

    plant: str
    sensors: tuple[str, ...]
    n_readings: int
    n_complete: int
    n_machines: int
    n_segments: int
    readings_per_week: float
    interval_seconds: float
    block_readings: int
    fault_source: str
    alpha: float | None
    alarms_per_week: float | None
    faults_per_week: float | None = None


@dataclass(frozen=True, eq=False)
class Stretch:
    """Readings to be judged, by machine and time, some of them faulty.

    Attributes:
        X: Raw units, shape (n, D).
        machine: Number of the machine of each, shape (n,).
        seconds: Time of each, in seconds, shape (n,).
        fault: Number of the fault that each is in, or −1, shape (n,).
        kinds: Kind of each fault, by number.
    """

    X: Array
    machine: NDArray[np.int64]
    seconds: Array
    fault: NDArray[np.int64]
    kinds: tuple[str, ...]

    def take(self, rows: Sequence[int] | NDArray[np.intp] | NDArray[np.bool_]) -> Stretch:
        """Return some of the readings; the faults keep their numbers."""
        return Stretch(self.X[rows], self.machine[rows], self.seconds[rows], self.fault[rows], self.kinds)


@dataclass(frozen=True, eq=False)
class Trial:
    """The readings of one comparison.

    Attributes:
        facts: What is known about them.
        learn: What contenders learn from, by machine and time, shape (N, D); each splits its own held-out rows off.
        held_out: Readings of the same time that none of them sees, for densities, shape (M, D).
        held_out_block: Stretch of time of each: readings of one are not independent, shape (M,).
        calibration: Readings of the same time that none of them sees, for thresholds, shape (C, D).
        calibration_block: Time block of each, shape (C,).
        judged: Readings that none of them sees, for alarms.
    """

    facts: TrialFacts
    learn: Array
    held_out: Array
    held_out_block: NDArray[np.intp]
    calibration: Array
    calibration_block: NDArray[np.intp]
    judged: Stretch

    def save(self, path: Path) -> None:
        """Write what a worker needs."""
        np.savez(path, learn=self.learn, held_out=self.held_out, calibration=self.calibration, judged=self.judged.X)
