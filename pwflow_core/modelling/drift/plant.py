"""What is known of a plant on a night, as far as drift goes: what `judge` takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pwflow_core.modelling.drift.mix import MixShift
from pwflow_core.modelling.drift.shift import Shift

__all__ = ["Availability", "ClusterEvidence", "MixEvidence", "SensorLevels"]


@dataclass(frozen=True, eq=False)
class ClusterEvidence:
    """The evidence of one cluster.

    Attributes:
        cluster_key: Its key.
        segment: The segment that it belongs to.
        log_evidence: `DriftState.combined`.
        shift: What `measure_shift` found in the last nights; None if it cannot be judged.
    """

    cluster_key: str
    segment: str
    log_evidence: float
    shift: Shift | None


@dataclass(frozen=True, eq=False)
class MixEvidence:
    """The evidence of the mix of one segment.

    Attributes:
        segment: The segment.
        cluster_keys: Its clusters, in the order of the shares.
        log_evidence: `DriftState.combined` of the state that has seen `mix_blocks` of each night.
        shift: What `measure_mix` found; None if it cannot be judged.
    """

    segment: str
    cluster_keys: tuple[str, ...]
    log_evidence: float
    shift: MixShift | None


@dataclass(frozen=True, eq=False)
class Availability:
    """How many readings came of each machine in each of the last nights, nights without any included.

    Attributes:
        night: Days since 1970-01-01, shape (N,).
        machine: Shape (N,).
        n_readings: Readings that came, shape (N,).
        n_judged: Readings among them that could be judged, shape (N,).
        usual: Readings that a night of this machine has at least, as a rule (say the 5% quantile of its nights in the
            reference), shape (N,); 0 where nights without any are usual.
    """

    night: NDArray[np.int64]
    machine: NDArray[np.str_]
    n_readings: NDArray[np.int64]
    n_judged: NDArray[np.int64]
    usual: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SensorLevels:
    """Where the values of each sensor lie, per machine and night, all regimes and refused values included.

    Attributes:
        night: Days since 1970-01-01, shape (N,).
        machine: Shape (N,).
        recent: `UNIT_QUANTILES` of the values of the night, raw units, NaN without any, shape (N, S, Q).
        reference: The same quantiles of this machine in the reference, shape (N, S, Q).
    """

    night: NDArray[np.int64]
    machine: NDArray[np.str_]
    recent: NDArray[np.float64]
    reference: NDArray[np.float64]
