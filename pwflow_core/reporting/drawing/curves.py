"""Curves over nights and over steps: shares, evidence of drift, training, data quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import matplotlib.dates as mdates
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pwflow_core.reporting.drawing.canvas import Canvas, canvas
from pwflow_core.reporting.drawing.palette import SERIES, colour
from pwflow_core.reporting.drawing.time_axis import few_ticks, night_axis
from pwflow_core.reporting.texts import Texts

__all__ = ["channel_name", "draw_drift", "draw_quality", "draw_share", "draw_training_curve", "training_curve_png"]

_WIDTH, _HEIGHT = 350, 220


def draw_share(nights: Sequence[date], share: Sequence[float], texts: Texts) -> Markup:
    """Draw the share of a regime in all readings, in percent per night."""
    with canvas(_WIDTH, _HEIGHT) as chart:
        axes = chart.add_axes()
        percent = 100 * np.asarray(share, dtype=np.float64)
        days = mdates.date2num(list(nights))
        axes.fill_between(days, percent, color=colour("blue"), alpha=0.15, linewidth=0)
        axes.plot(days, percent, color=colour("blue"), linewidth=1.4, marker="o" if len(days) < 3 else "")
        axes.set_ylim(0, max(1.0, 1.15 * float(np.nanmax(percent, initial=0.0))))
        _over_nights(chart, axes, days, texts)
        chart.name_axes(axes, y=texts("axis.share_of_readings"), y_unit="%")
        return chart.to_svg(texts("chart.share"))


def draw_drift(
    nights: Sequence[date],
    channels: Mapping[str, Sequence[float]],
    threshold: Sequence[float],
    texts: Texts,
) -> Markup:
    """Draw the evidence of drift of a regime beside its threshold.

    Arguments:
        nights: Calendar days.
        channels: log10 of the e-value per night, by channel; `drift` is all of them together.
        threshold: log10 of the e-value that suffices, per night.
        texts: The words.
    """
    with canvas(_WIDTH, _HEIGHT) as chart:
        axes = chart.add_axes()
        days = mdates.date2num(list(nights))
        singles = [name for name in channels if name != "drift"]
        for name, series in zip(singles, SERIES[1:], strict=False):
            (line,) = axes.plot(days, channels[name], color=colour(series), linewidth=0.9, alpha=0.8)
            chart.explain(line, channel_name(name, texts))
        if "drift" in channels:
            (line,) = axes.plot(
                days, channels["drift"], color=colour("blue"), linewidth=2, marker="o" if len(days) < 3 else ""
            )
            chart.explain(line, texts("channel.drift"))
        axes.plot(days, threshold, color=colour("ink"), linewidth=1, linestyle=(0, (4, 3)))
        _over_nights(chart, axes, days, texts)
        chart.name_axes(axes, y=texts("axis.evidence"), y_unit="log₁₀")
        return chart.to_svg(texts("chart.drift"))


def channel_name(channel: str, texts: Texts) -> str:
    """Return what a channel of evidence is called."""
    if channel.startswith("latent_"):
        return texts("channel.latent", number=channel.removeprefix("latent_"))
    return texts.label("channel", channel)


def draw_quality(nights: Sequence[date], shares: Mapping[str, Sequence[float]], width: float, texts: Texts) -> Markup:
    """Draw the readings that could not be judged, in percent per night, stacked by reason."""
    with canvas(width, _HEIGHT) as chart:
        axes = chart.add_axes()
        days = mdates.date2num(list(nights))
        below = np.zeros(len(days))
        for (name, share), series in zip(shares.items(), SERIES, strict=False):
            percent = 100 * np.asarray(share, dtype=np.float64)
            bars = axes.bar(days, percent, 0.9, below, color=colour(series), linewidth=0)
            for bar, value, night in zip(bars, percent, nights, strict=True):
                if value > 0:
                    text = f"{texts.night(night)}: {texts.label('status', name)} {texts.percent(value / 100)}"
                    chart.explain(bar, text)
                else:
                    bar.set_visible(False)
            below += percent
        axes.set_ylim(0, max(0.1, 1.1 * float(below.max(initial=0.0))))
        _over_nights(chart, axes, days, texts)
        chart.name_axes(axes, y=texts("axis.share_of_readings"), y_unit="%")
        return chart.to_svg(texts("chart.quality"))


def draw_training_curve(
    steps: Sequence[int], train: Sequence[float], held_out: Sequence[float], best_step: int, texts: Texts
) -> Markup:
    """Draw how a flow was trained: log-density in nats by gradient step."""
    with canvas(_WIDTH, _HEIGHT) as chart:
        _training(chart, steps, train, held_out, best_step, texts)
        return chart.to_svg(texts("chart.training"))


def training_curve_png(
    steps: Sequence[int], train: Sequence[float], held_out: Sequence[float], best_step: int, texts: Texts
) -> bytes:
    """Return the same as a PNG, with a legend."""
    with canvas(620, 280) as chart:
        axes = _training(chart, steps, train, held_out, best_step, texts, right=160)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.03), frameon=False, labelcolor=colour("ink"))
        return chart.to_png()


def _training(
    chart: Canvas,
    steps: Sequence[int],
    train: Sequence[float],
    held_out: Sequence[float],
    best_step: int,
    texts: Texts,
    right: float = 12,
) -> Axes:
    axes = chart.add_axes(left=52, right=right)
    axes.plot(steps, train, color=colour("blue"), linewidth=1.1, label=texts("legend.train"))
    axes.plot(steps, held_out, color=colour("vermilion"), linewidth=1.6, label=texts("legend.held_out"))
    axes.axvline(best_step, color=colour("ink"), linewidth=0.8, linestyle=(0, (4, 3)), label=texts("legend.best"))
    _show_most(axes, np.asarray([*train, *held_out], dtype=np.float64))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    few_ticks(axes)
    chart.name_axes(axes, x=texts("axis.step"), y=texts("axis.log_density"), y_unit="nats")
    return axes


def _show_most(axes: Axes, values: NDArray[np.float64]) -> None:
    """Leave a few first values far below the others out of sight, so that the rest can be seen."""
    finite = values[np.isfinite(values)]
    if len(finite) >= 20:
        low, high = np.quantile(finite, 0.05), finite.max()
        axes.set_ylim(low - 0.15 * (high - low) - 1e-6, high + 0.1 * (high - low) + 1e-6)


def _over_nights(chart: Canvas, axes: Axes, days: NDArray[np.float64], texts: Texts) -> None:
    axes.set_xlim(float(days[0]) - 0.6, float(days[-1]) + 0.6)
    night_axis(axes, texts, chart.width)
    few_ticks(axes)
    chart.name_axes(axes, x=texts("axis.night"))
