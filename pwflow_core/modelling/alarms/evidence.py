"""How far each view is trusted: by what it would have seen of faults made from the regime's own readings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from pwflow_core.modelling.alarms.faults import KINDS, inject_faults

Array = NDArray[np.float64]

_SHARPNESS = 10.0
_FAULTS_OF_A_KIND = 100


def trust(
    statistics: Callable[[Array], Array],
    X: Array,
    normal: Array,
    others: Array,
    spread: Array,
    rng: np.random.Generator,
) -> Array:
    """Return the weight of each view, shape (V,); they sum to 1.

    w_v ∝ exp(10 a_v), with a_v the mean over the kinds of fault of the chance that a faulty reading has a larger
    statistic than a normal one (the area under the ROC curve). A view that is .1 behind counts for a third of the best.

    Arguments:
        statistics: Views' statistics of readings, shape (N, V).
        X: Normal readings that taught no view, raw units, shape (N, D).
        normal: Their statistics, shape (N, V).
        others: Readings of other times and regimes, shape (M, D).
        spread: Standard deviation of each sensor, raw units, shape (D,).
        rng: Source of chance.

    """
    faulty = [inject_faults(X, others, spread, kind, _FAULTS_OF_A_KIND, rng) for kind in KINDS]
    seen = statistics(np.concatenate(faulty)).reshape(len(KINDS), _FAULTS_OF_A_KIND, -1)
    area = np.mean([[_area(normal[:, v], kind[:, v]) for v in range(normal.shape[1])] for kind in seen], axis=0)
    weight = np.exp(_SHARPNESS * (area - area.max()))
    return np.asarray(weight / weight.sum())


def _area(normal: Array, faulty: Array) -> float:
    """Return the chance that a faulty value is larger than a normal one, a tie counting half."""
    rank = rankdata(np.concatenate([normal, faulty]))[len(normal) :].sum()
    return float((rank / len(faulty) - (len(faulty) + 1) / 2) / len(normal))
