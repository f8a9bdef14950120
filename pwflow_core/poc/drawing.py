"""The charts of the comparison: one row per model, its name above what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pwflow_core.reporting.drawing.canvas import Canvas, canvas
from pwflow_core.reporting.drawing.palette import colour
from pwflow_core.reporting.names import shorten_name

__all__ = ["Axis", "Bar", "Dot", "draw_bars", "draw_dots"]

_ROW, _BAR, _TEXT = 36, 11, 13
_MANY = 10_000


@dataclass(frozen=True)
class Axis:
    """What the values are: their name, their unit, and what the chart shows, for people who do not see it."""

    name: str
    unit: str
    label: str


@dataclass(frozen=True)
class Bar:
    """One model: its name, its parts as colour and length, and the value as it is written."""

    name: str
    parts: tuple[tuple[str, float], ...]
    text: str
    is_chosen: bool


@dataclass(frozen=True)
class Dot:
    """One model: its name, its value and the length of a whisker to each side, and the value as it is written."""

    name: str
    value: float
    whisker: float
    text: str
    colour: str
    is_chosen: bool


def draw_bars(bars: Sequence[Bar], axis: Axis, width: float) -> Markup:
    """Draw a bar per model; its parts are stacked.

    Arguments:
        bars: The models, from above.
        axis: What the values are.
        width: Pixels.
    """
    with canvas(width, _ROW * len(bars) + 44) as chart:
        axes = _rows(chart, len(bars))
        most = max((sum(length for _, length in bar.parts) for bar in bars), default=0.0)
        axes.set_xlim(0, 1.02 * most if most > 0 else 1.0)
        for row, bar in enumerate(bars):
            top, left = row * _ROW + _TEXT + 6, 0.0
            _write(axes, bar.name, bar.text, top - 3, is_chosen=bar.is_chosen, width=width)
            for name, length in bar.parts:
                drawn = axes.add_patch(Rectangle((left, top), length, _BAR, color=colour(name), linewidth=0))
                chart.explain(drawn, f"{bar.name}: {bar.text}")
                left += length
        return _finish(chart, axes, axis)


def draw_dots(dots: Sequence[Dot], axis: Axis, width: float) -> Markup:
    """Draw a dot with its whiskers per model; those far to the left of the others stand at the edge.

    Arguments:
        dots: The models, from above.
        axis: What the values are.
        width: Pixels.
    """
    with canvas(width, _ROW * len(dots) + 44) as chart:
        axes = _rows(chart, len(dots))
        low, high = _span(dots)
        axes.set_xlim(low, high)
        for row, dot in enumerate(dots):
            y = row * _ROW + _TEXT + 6 + _BAR / 2
            _write(axes, dot.name, dot.text, y - _BAR / 2 - 3, is_chosen=dot.is_chosen, width=width)
            is_far = dot.value < low
            place = low if is_far else dot.value
            if not is_far:
                ends = [max(low, dot.value - dot.whisker), dot.value + dot.whisker]
                axes.plot(ends, [y, y], color=colour(dot.colour), linewidth=2, solid_capstyle="butt")
            (drawn,) = axes.plot(
                [place], [y], marker="<" if is_far else "o", markersize=7, color=colour(dot.colour), clip_on=False
            )
            chart.explain(drawn, f"{dot.name}: {dot.text}")
        return _finish(chart, axes, axis)


def _span(dots: Sequence[Dot]) -> tuple[float, float]:
    """Return what the axis shows: all values, but for those farther below the median than the best lies above it."""
    values = np.array([dot.value for dot in dots])
    ends = np.array([[dot.value - dot.whisker, dot.value + dot.whisker] for dot in dots])
    middle, best = float(np.median(values)), float(values.max())
    shown = values >= middle - max(2 * (best - middle), 0.2)
    low, high = float(ends[shown].min()), float(ends[:, 1].max())
    room = 0.06 * max(high - low, 1e-3)
    return low - room, high + room


def _rows(chart: Canvas, n_rows: int) -> Axes:
    axes = chart.add_axes(left=12, right=14, top=2, bottom=38)
    axes.set_ylim(max(n_rows, 1) * _ROW + 4, 0)
    axes.yaxis.set_visible(False)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=colour("grid"), linewidth=0.6)
    axes.spines["left"].set_visible(False)
    return axes


def _write(axes: Axes, name: str, value: str, y: float, *, is_chosen: bool, width: float) -> None:
    weight = "bold" if is_chosen else "normal"
    shown = shorten_name(name, int(width / 11))
    for x, text, side in ((0, shown, "left"), (1, value, "right")):
        axes.text(
            x,
            y,
            text,
            ha=side,
            va="bottom",
            color=colour("ink"),
            weight=weight,
            transform=axes.get_yaxis_transform(),
        )


def _finish(chart: Canvas, axes: Axes, axis: Axis) -> Markup:
    axes.xaxis.set_major_locator(MaxNLocator(4 if chart.width < 500 else 8))
    if axes.get_xlim()[1] >= _MANY:  # a power of ten beside the axis would lie on its name
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _shortly(value)))
    chart.name_axes(axes, x=axis.name, x_unit=axis.unit)
    return chart.to_svg(axis.label)


def _shortly(value: float) -> str:
    return f"{value / 1e6:g} M" if abs(value) >= 1e6 else f"{value / 1e3:g} k" if value else "0"
