"""Champion and challenger: a new flow has to describe readings that its training did not see better than the old one.

They are compared on the folds that calibrate: what stopped a training chose its best step and its shares, and would
flatter the challenger.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pwflow_core.errors import ModelFileError
from pwflow_core.modelling.fleet import Fleet
from pwflow_core.modelling.validation import paired_gain
from pwflow_core.pipeline.flows.fleet import read_fleet
from pwflow_core.pipeline.flows.training_sets import RegimeRows, TrainingWindow, fetch_rows
from pwflow_core.pipeline.readings.folds import CALIBRATION_FOLDS
from pwflow_core.pipeline.regimes.model import ClusterModel
from pwflow_core.plant import Plant

if TYPE_CHECKING:
    from pwflow_core.modelling import ClusterFlow

__all__ = [
    "FEWEST_BLOCKS",
    "Challenge",
    "Gain",
    "challenge_champion",
    "compare_flows",
    "judge_refit",
    "judge_retraining",
    "load_champion",
]

_log = logging.getLogger("pwflow.flows")

FEWEST_BLOCKS = 8
"""With held-out readings from fewer time blocks, nobody can say how far off a gain may be."""

_TRIMMED_SHARE = 0.025
_N_ERRORS = 2.0
_SEED_NOISE = 0.05
"""Nats by which two flows of the same readings and other seeds can differ; .02 was seen with 250 held-out readings."""


@dataclass(frozen=True)
class Gain:
    """How much better one flow describes readings than another.

    Attributes:
        n_readings: Readings on which they were compared.
        mean: Weighted mean of the gain in log-density, nats per reading; NaN without readings.
        error: Its standard error, time blocks being the independent units; infinite with fewer than two of them.
        is_finite: Whether the new flow gave every reading a number.
    """

    n_readings: int
    mean: float
    error: float
    is_finite: bool = True


@dataclass(frozen=True)
class Challenge:
    """How a new flow did against the one in use.

    Attributes:
        is_won: Whether the new one comes into use.
        sentence: Why, in words.
        recent: Gain on the held-out readings of its own window; None if there was nothing to compare with.
        reference: Gain on the held-out readings of the old one's window; None likewise.
    """

    is_won: bool
    sentence: str
    recent: Gain | None = None
    reference: Gain | None = None


NOT_FINITE = Challenge(False, "it gives held-out readings no finite log-density")


def challenge_champion(
    plant: Plant,
    model: ClusterModel,
    key: str,
    flow: ClusterFlow,
    version: str,
    window: TrainingWindow,
    champion: str | None,
    fleet: Fleet | None = None,
    *,
    is_refit: bool,
) -> Challenge:
    """Compare a new flow with the one in use, if there is one that can be compared with.

    Arguments:
        plant: The plant.
        model: The cluster model in use.
        key: The regime.
        flow: Its new flow.
        version: SHA-256 of that one's file.
        window: What it could learn from; it is judged on the readings of this window that calibrate.
        champion: The flow in use; None if there is none, or the new one need not prove itself.
        fleet: The machines that the new one was trained with.
        is_refit: Whether it was retrained after drift, and has to be better by `drift.min_gain`.
    """
    if champion is None:
        return Challenge(True, "")
    if champion == version:
        return Challenge(True, "the same readings and seed gave the flow in use again")
    old = load_champion(plant, key, champion, flow.n_features)
    if old is None:
        return Challenge(True, "the flow in use cannot be read")
    with plant.warehouse.snapshot() as connection:
        row = connection.execute(
            "SELECT training_window, trained_until FROM mart.flow_versions WHERE cluster_key = ? AND flow_version = ?",
            [key, champion],
        ).fetchone()
        text, last = row or (None, None)
        old_window = TrainingWindow.from_json(text, plant.config).up_to(last)
        recent_rows = fetch_rows(plant, connection, model, key, window, CALIBRATION_FOLDS)
        reference_rows = fetch_rows(plant, connection, model, key, old_window, CALIBRATION_FOLDS)
        old_fleet = read_fleet(connection, key, champion)
    recent = compare_flows(old, flow, recent_rows, old_fleet, fleet)
    reference = compare_flows(old, flow, reference_rows, old_fleet, fleet)
    if is_refit:
        return judge_refit(recent, reference, plant.config.drift.min_gain)
    return judge_retraining(recent, reference)


def compare_flows(
    champion: ClusterFlow,
    challenger: ClusterFlow,
    rows: RegimeRows,
    old_fleet: Fleet | None = None,
    new_fleet: Fleet | None = None,
) -> Gain:
    """Compare two flows on readings that neither training saw, each with the machines that it was trained with.

    The gains are winsorised: the lowest and the highest 2.5% count as the next ones, so that a few impossible readings
    do not decide.
    """
    after = _log_prob(challenger, new_fleet, rows)
    if not np.isfinite(after).all():
        return Gain(len(after), float("nan"), float("inf"), is_finite=False)
    if not len(after) or not rows.weight.sum() > 0:
        return Gain(0, float("nan"), float("inf"))
    gain = after - _log_prob(champion, old_fleet, rows)
    gain = np.clip(gain, *np.quantile(gain, (_TRIMMED_SHARE, 1 - _TRIMMED_SHARE)))
    blocks, block = np.unique(rows.block, return_inverse=True)
    mean, error = paired_gain(np.zeros(len(gain)), gain, rows.weight, block)
    n = len(blocks)
    return Gain(len(gain), mean, error * float(np.sqrt(n / (n - 1))) if n > 1 else float("inf"))


def _log_prob(flow: ClusterFlow, fleet: Fleet | None, rows: RegimeRows) -> NDArray[np.float64]:
    if fleet is None:
        return flow.log_prob(rows.X)
    X, log_volume = fleet.correct(rows.X, rows.machine)
    return flow.log_prob(X) + log_volume


def judge_refit(recent: Gain, reference: Gain | None, min_gain: float) -> Challenge:
    """Judge a flow that was retrained after drift: it has to be better by a margin, and beyond chance."""
    is_won = recent.is_finite and recent.mean >= min_gain and recent.mean > _N_ERRORS * recent.error
    asked = f"{min_gain:g} nats and two standard errors are asked for"
    return Challenge(
        is_won, _sentence(recent, "recent held-out", "" if is_won else f", where {asked}"), recent, reference
    )


def judge_retraining(recent: Gain, reference: Gain | None) -> Challenge:
    """Judge a flow that a person had trained again: it must not be worse, beyond chance and beyond what seeds do."""
    is_won = recent.is_finite and (recent.n_readings == 0 or recent.mean >= -max(recent.error, _SEED_NOISE))
    lost = "" if is_won else f", worse by more than {_SEED_NOISE:g} nats and the standard error"
    return Challenge(is_won, _sentence(recent, "held-out", lost), recent, reference)


def _sentence(gain: Gain, kind: str, asked: str) -> str:
    if not gain.is_finite:
        return f"it gives {kind} readings no finite log-density"
    if gain.n_readings == 0:
        return f"there are no {kind} readings to compare it on"
    return f"gain {gain.mean:+.3f} ± {gain.error:.3f} nats on {gain.n_readings:,} {kind} readings{asked}"


def load_champion(plant: Plant, key: str, version: str, n_features: int) -> ClusterFlow | None:
    """Return the flow in use; None if its file cannot be read, or it is for another number of columns."""
    from pwflow_core.modelling import ClusterFlow

    try:
        flow = ClusterFlow.from_bytes(plant.models.get(version))
    except ModelFileError as error:
        _log.warning("%s: the flow in use cannot be compared with: %s", key, error)
        return None
    return flow if flow.n_features == n_features else None
