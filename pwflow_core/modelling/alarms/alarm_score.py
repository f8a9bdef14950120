"""The alarm score: views of a reading, each calibrated by itself, merged, and calibrated together."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwflow_core.errors import ModelFileError
from pwflow_core.modelling.alarms.conformity import Conformity
from pwflow_core.modelling.alarms.evidence import trust
from pwflow_core.modelling.alarms.margins import Margins
from pwflow_core.modelling.alarms.neighbours import Neighbours
from pwflow_core.modelling.alarms.scale import SurpriseScale
from pwflow_core.modelling.alarms.views import LEAST_SCALES, VIEWS, Views
from pwflow_core.modelling.calibration import SMALLEST_P, Calibration, calibrate
from pwflow_core.modelling.mixture import FlowMixture
from pwflow_core.modelling.serialization import pack, unpack

Array = NDArray[np.float64]

_FEWEST_TO_WEIGH = 50
_MOST_TO_WEIGH = 2000


@dataclass(frozen=True, eq=False)
class AlarmScore:
    r"""How improbable a reading is as one of normal operation.

    Each view's statistic becomes a surprise s_v = -log p_v by itself. They are merged as

        T = log sum_v w_v exp(s_v)

    minus the log of the weighted harmonic mean of the p_v: T is large where any view that is trusted is surprised. For
    p-values of any dependence that mean is off by a factor of about log(number of views) at most (Wilson 2019; Vovk
    and Wang 2020). The factor does not matter here, for T is calibrated once more, by rank on readings that taught
    no view: whatever the views have in common, and however they are weighted, p keeps its promise on the whole plant.

    All regimes are ranked together, so that one that lies far below the others stays there.

    Attributes:
        views: The views.
        scales: Scale of each view.
        weights: Trust in each view, shape (V,); they sum to 1.
        calibration: Of −T.

    References:
        Harmonic mean p-value: Wilson (2019). Merging p-values: Vovk, Wang (2020), arXiv:1212.4966.

    """

    views: Views
    scales: tuple[SurpriseScale, ...]
    weights: Array
    calibration: Calibration

    def to_bytes(self) -> bytes:
        """Write all but the flows as safetensors with JSON; the same score gives the same bytes."""
        tensors: dict[str, NDArray[Any]] = {"weights": self.weights}
        for name in ("low", "high", "spread"):
            tensors[f"conformity.{name}"] = getattr(self.views.conformity, name)
        for part in fields(Margins):
            tensors[f"margins.{part.name}"] = getattr(self.views.margins, part.name)
        for v, nearest in enumerate(self.views.neighbours):
            for name in ("centre", "forward", "references", "marks"):
                tensors[f"neighbours{v}.{name}"] = getattr(nearest, name)
        for v, scale in enumerate(self.scales):
            tensors |= {f"scale{v}.statistic": scale.statistic, f"scale{v}.surprise": scale.surprise}
        numbers = {part.name: getattr(self.calibration, part.name) for part in fields(Calibration)}
        for name in ("log_density", "p_value"):
            tensors[f"calibration.{name}"] = numbers.pop(name)
        document = {
            "views": list(VIEWS),
            "rare": self.views.conformity.rare,
            "slopes": [scale.slope for scale in self.scales],
            "calibration": {name: float(value) for name, value in numbers.items()},
        }
        return pack("alarm_score", tensors, document)

    @classmethod
    def from_bytes(cls, data: bytes, mixture: FlowMixture) -> AlarmScore:
        """Read what `to_bytes` wrote; with the same flows it scores bit-equal.

        Arguments:
            data: The bytes.
            mixture: The flows, which have files of their own.

        Raises:
            ModelFileError: The bytes are damaged, of another kind, or of other views.

        """
        arrays, document = unpack(data, "alarm_score")
        try:
            if document["views"] != list(VIEWS):
                raise ValueError(f"views {document['views']}, expected {list(VIEWS)}")
            low, high, spread = (arrays[f"conformity.{name}"] for name in ("low", "high", "spread"))
            views = Views(
                Conformity(mixture, low, high, spread, document["rare"]),
                Margins(*(arrays[f"margins.{part.name}"] for part in fields(Margins))),
                _neighbours(arrays),
            )
            scales = tuple(
                SurpriseScale(arrays[f"scale{v}.statistic"], arrays[f"scale{v}.surprise"], slope)
                for v, slope in enumerate(document["slopes"])
            )
            numbers: dict[str, Any] = document["calibration"]
            for name in ("n_rows", "n_set_aside"):
                numbers[name] = round(numbers[name])
            for name in ("log_density", "p_value"):
                numbers[name] = arrays[f"calibration.{name}"]
            return cls(views, scales, arrays["weights"], Calibration(**numbers))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(
                f"The alarm score file lacks a part or has a wrong one: {error}; fit it again."
            ) from error

    def view_surprises(self, X: Array) -> Array:
        """Return the surprise of every view, nats, shape (N, V), at least 0."""
        return _scaled(self.scales, self.views.statistics(X))

    def surprises(self, X: Array) -> Array:
        """Return −log p, nats, shape (N,), at least 0: without a ceiling, so that what lies further out says so."""
        return self.calibration.surprises(-_merged(self.view_surprises(X), self.weights))

    def p_values(self, X: Array) -> Array:
        """Return the chance that a normal reading is as odd, shape (N,), above 0 and at most 1."""
        return np.maximum(np.exp(-self.surprises(X)), SMALLEST_P)


def fit_alarm_score(
    views: Views,
    statistics: Array,
    X: Array,
    weight: Array,
    others: Array,
    *,
    blocks: NDArray[np.intp] | None = None,
    random_state: int = 0,
) -> AlarmScore:
    """Calibrate and weigh the views.

    With fewer than 50 readings to calibrate on, views are trusted alike.

    Arguments:
        views: The views.
        statistics: Their statistics of readings that taught none of them, shape (N, V).
        X: Those readings, raw units, shape (N, D).
        weight: Their weights, above zero, shape (N,).
        others: Readings to make faults from, shape (M, D).
        blocks: Stretch of time of each reading, shape (N,); None where they are independent.
        random_state: Seed of the faults.

    """
    scales = tuple(SurpriseScale.fit(statistics[:, v], weight, float(LEAST_SCALES[v])) for v in range(len(VIEWS)))
    weights = np.full(len(VIEWS), 1 / len(VIEWS))
    if len(X) >= _FEWEST_TO_WEIGH:
        some = np.linspace(0, len(X) - 1, min(len(X), _MOST_TO_WEIGH)).round().astype(np.intp)
        rng = np.random.default_rng(random_state)
        weights = trust(views.statistics, X[some], statistics[some], others, views.margins.spread, rng)
    total = _merged(_scaled(scales, statistics), weights)
    return AlarmScore(views, scales, weights, calibrate(-total, blocks=blocks, weight=weight))


def _neighbours(arrays: dict[str, NDArray[Any]]) -> tuple[Neighbours, Neighbours, Neighbours]:
    first, second, third = (
        Neighbours(*(arrays[f"neighbours{v}.{name}"] for name in ("centre", "forward", "references", "marks")))
        for v in range(3)
    )
    return first, second, third


def _scaled(scales: tuple[SurpriseScale, ...], statistics: Array) -> Array:
    return np.stack([scale(statistics[:, v]) for v, scale in enumerate(scales)], axis=1)


def _merged(surprises: Array, weights: Array) -> Array:
    top = surprises.max(axis=1)
    return np.asarray(top + np.log(np.exp(surprises - top[:, None]) @ weights))
