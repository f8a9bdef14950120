"""Signals: what the sensors of an event read, beside what was expected, and the anomaly score above them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.dates as mdates
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from numpy.typing import NDArray

from pwflow_core.reporting.drawing.canvas import Canvas, canvas
from pwflow_core.reporting.drawing.palette import colour
from pwflow_core.reporting.drawing.points import add_points
from pwflow_core.reporting.drawing.time_axis import few_ticks, time_axis
from pwflow_core.reporting.texts import Texts

__all__ = ["Band", "Signal", "Trace", "draw_signals", "signals_png"]

Times = NDArray[np.datetime64]
Values = NDArray[np.float64]

_PANEL, _GAP = 96, 26


@dataclass(frozen=True, eq=False)
class Trace:
    """Values at times, shape (n,) each; a gap is a NaN."""

    times: Times
    values: Values


@dataclass(frozen=True, eq=False)
class Band:
    """What was expected at times: lower and upper end, shape (n,) each; a gap is a NaN."""

    times: Times
    low: Values
    high: Values


@dataclass(frozen=True, eq=False)
class Signal:
    """One sensor: its name and unit, what it read, what was expected, and what it read in the anomalies."""

    name: str
    unit: str
    trace: Trace
    band: Band
    anomalies: Trace


def draw_signals(
    signals: Sequence[Signal],
    score: Trace,
    threshold: float,
    span: tuple[np.datetime64, np.datetime64],
    width: float,
    texts: Texts,
) -> Markup:
    """Draw the score and the sensors of an event, one panel each, over one time axis.

    Arguments:
        signals: The sensors that caused it, the largest share first.
        score: Anomaly scores.
        threshold: The score from which a reading is an anomaly.
        span: Start and end of the event.
        width: Pixels.
        texts: The words.
    """
    height = _height(signals)
    with canvas(width, height) as chart:
        _draw(chart, signals, score, threshold, span, (width, height), texts)
        return chart.to_svg(texts("chart.signals"))


def signals_png(
    signals: Sequence[Signal],
    score: Trace,
    threshold: float,
    span: tuple[np.datetime64, np.datetime64],
    width: float,
    texts: Texts,
) -> bytes:
    """Return the same as a PNG, for a mail or a chat."""
    height = _height(signals)
    with canvas(width, height) as chart:
        panels = _draw(chart, signals, score, threshold, span, (width, height), texts)
        for axes, signal in zip(panels[1:], signals, strict=True):  # dots without length are not drawn in a PNG
            shown = signal.anomalies
            axes.plot(shown.times, shown.values, "o", markersize=3.5, color=colour("vermilion"), scaley=False)
        return chart.to_png()


def _height(signals: Sequence[Signal]) -> float:
    return (1 + len(signals)) * (_PANEL + _GAP) + 34


def _draw(
    chart: Canvas,
    signals: Sequence[Signal],
    score: Trace,
    threshold: float,
    span: tuple[np.datetime64, np.datetime64],
    size: tuple[float, float],
    texts: Texts,
) -> list[Axes]:
    """Draw the panels, that of the score first; return them."""
    width, height = size
    panels: list[Axes] = []
    for place in range(1 + len(signals)):
        top = place * (_PANEL + _GAP) + _GAP - 4
        panels.append(
            chart.add_axes(left=50, top=top, bottom=height - top - _PANEL, share=panels[0] if panels else None)
        )
    for axes in panels:
        axes.axvspan(span[0], span[1], color=colour("amber"), alpha=0.13, linewidth=0)  # type: ignore[arg-type]
        axes.tick_params(labelbottom=axes is panels[-1])
        few_ticks(axes, 3)
    top_panel = panels[0]
    top_panel.plot(score.times, score.values, color=colour("purple"), linewidth=1)
    top_panel.axhline(threshold, color=colour("ink"), linewidth=0.8, linestyle=(0, (4, 3)))
    top_panel.set_ylim(bottom=0)
    chart.name_axes(top_panel, y=texts("axis.anomaly_score"))
    for axes, signal in zip(panels[1:], signals, strict=True):
        axes.fill_between(
            signal.band.times, signal.band.low, signal.band.high, color=colour("green"), alpha=0.28, linewidth=0
        )
        axes.plot(signal.trace.times, signal.trace.values, color=colour("blue"), linewidth=1)
        days = np.asarray(mdates.date2num(signal.anomalies.times), dtype=np.float64)
        add_points(axes, np.column_stack([days, signal.anomalies.values]), "vermilion", 2.4, 1.0)
        chart.name_axes(axes, y=signal.name, y_unit=signal.unit)
    time_axis(panels[-1], texts, width)
    begin = texts.local(span[0].astype("datetime64[us]").item())
    chart.name_axes(panels[-1], x=texts("axis.time", zone=texts.zone, day=texts.night(begin)))
    return panels
