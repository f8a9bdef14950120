"""Pictures of a fitted model for a notebook, each on a matplotlib axes; those of a plant are in its report.

What a model says is computed in `modelling`; here it is only drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pwflow_core.modelling import PiecewiseFlow, PiecewiseFlowDetector

__all__ = ["plot_calibration", "plot_contributions", "plot_density"]

_BINS = 60
_COLOURS = {"readings": "#9aa5b1", "model": "#1f5fa8", "off": "#c2410c"}


def plot_density(
    model: PiecewiseFlow, X: object, sensor: int | str = 0, *, n_samples: int = 20_000, ax: Axes | None = None
) -> Axes:
    """Draw how often a sensor reads what: in readings, and in readings that the model draws.

    Arguments:
        model: A fitted model.
        X: Readings in raw units, shape (N, D), best such that it did not learn from.
        sensor: Column, by position or by name.
        n_samples: Readings to draw from the model.
        ax: Where to draw; a new figure if None.

    Raises:
        ValueError: The sensor does not exist.

    """
    names = _names(model, X)
    d = _position(names, sensor)
    values = np.asarray(X, dtype=np.float64)[:, d]
    drawn = model.sample(n_samples)[0][:, d]
    low, high = np.quantile(np.concatenate([values, drawn]), [0.001, 0.999])
    edges = np.linspace(low, high if high > low else low + 1.0, _BINS + 1).tolist()
    ax = _axes(ax)
    ax.hist(values, edges, density=True, color=_COLOURS["readings"], label="readings")
    ax.hist(drawn, edges, density=True, histtype="step", color=_COLOURS["model"], label="drawn from the model")
    ax.set(xlabel=names[d], ylabel="density")
    ax.legend(frameon=False)
    return ax


def plot_contributions(detector: PiecewiseFlowDetector, reading: object, *, ax: Axes | None = None) -> Axes:
    """Draw what each sensor contributes to one reading being unusual, with what it reads and what was expected.

    Arguments:
        detector: A fitted detector.
        reading: One reading in raw units: a row of a frame, or of shape (D,) or (1, D).
        ax: Where to draw; a new figure if None.

    Raises:
        ValueError: More than one reading.

    """
    row = reading.to_frame().T if isinstance(reading, pd.Series) else reading
    names = _names(detector, row)
    frame = pd.DataFrame(np.atleast_2d(np.asarray(row, dtype=np.float64)), columns=names)
    if len(frame) != 1:
        raise ValueError(f"Expected one reading, got {len(frame)}: draw them one by one.")
    if not hasattr(detector, "feature_names_in_"):
        frame = frame.set_axis(range(len(names)), axis=1)
    p_value = float(detector.p_values(frame)[0])
    found = cast("pd.DataFrame", detector.contributions(frame))
    parts = {name: found[name].to_numpy()[0] for name in ("contribution", "observed", "expected", "low", "high")}
    order = np.argsort(parts["contribution"])
    ax = _axes(ax)
    ax.barh(np.arange(len(order)), parts["contribution"][order], color=_COLOURS["off"])
    ax.set_yticks(np.arange(len(order)), [names[d] for d in order])
    for place, d in enumerate(order):
        text = f"  {parts['observed'][d]:.4g}, expected {parts['low'][d]:.4g} to {parts['high'][d]:.4g}"
        ax.text(parts["contribution"][d], place, text, va="center", fontsize="small")
    ax.set(xlabel="contribution to the anomaly score", title=f"p = {p_value:.2g}")
    ax.margins(x=0.5)
    return ax


def plot_calibration(detector: PiecewiseFlowDetector, X: object, *, ax: Axes | None = None) -> Axes:
    """Draw which share of normal readings has at most each p-value; calibrated p-values lie on the diagonal.

    Arguments:
        detector: A fitted detector.
        X: Normal readings that it did not learn from, raw units, shape (N, D).
        ax: Where to draw; a new figure if None.

    """
    p_value = np.sort(detector.p_values(X))
    share = np.arange(1, len(p_value) + 1) / len(p_value)
    lowest = min(1 / len(p_value), float(p_value[0]))
    ax = _axes(ax)
    ax.plot([lowest, 1], [lowest, 1], color=_COLOURS["readings"], label="calibrated")
    ax.step(p_value, share, where="post", color=_COLOURS["model"], label="these readings")
    ax.set(xscale="log", yscale="log", xlabel="p-value", ylabel="share of readings with at most this p-value")
    ax.legend(frameon=False)
    return ax


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(6, 4), layout="constrained")[1]


def _names(model: Any, X: object) -> list[str]:  # noqa: ANN401 - either estimator
    found = getattr(X, "columns", getattr(model, "feature_names_in_", None))
    return [f"sensor {d}" for d in range(model.n_features_in_)] if found is None else [str(name) for name in found]


def _position(names: list[str], sensor: int | str) -> int:
    if isinstance(sensor, str) and sensor in names:
        return names.index(sensor)
    if isinstance(sensor, int | np.integer) and 0 <= sensor < len(names):
        return int(sensor)
    raise ValueError(f"Expected one of the sensors {', '.join(names)}, or its position, got {sensor!r}.")
