"""Timelines: what happened when, one row per machine or regime, one cell per night."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import matplotlib.dates as mdates
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from pwflow_core.reporting.drawing.canvas import Canvas, canvas
from pwflow_core.reporting.drawing.palette import STEPS, colour
from pwflow_core.reporting.drawing.time_axis import night_axis
from pwflow_core.reporting.names import clean_name, shorten_name
from pwflow_core.reporting.texts import Texts

__all__ = ["ALARM_STEPS", "HEALTH_STEPS", "Cell", "Mark", "draw_alarm_timeline", "draw_health_timeline"]

ALARM_STEPS = (1, 10, 50, 200)
"""Anomalies of a machine in a night from which its cell takes the next colour."""
HEALTH_STEPS = (1e-9, 1.0, 3.0, 10.0)
"""Times the threshold from which the cell of a regime takes the next colour."""

_ROW, _STRIP, _LABEL = 46, 15, 14


@dataclass(frozen=True)
class Cell:
    """One cell of a row: its night, its value and what its tooltip says."""

    night: date
    value: float
    text: str


@dataclass(frozen=True)
class Mark:
    """One mark above a row: its time, its weight (0 to 1), what its tooltip says, and where it leads, if anywhere."""

    at: datetime | date
    weight: float
    text: str
    link: str | None = None


def draw_alarm_timeline(
    cells: Mapping[str, Sequence[Cell]],
    marks: Mapping[str, Sequence[Mark]],
    nights: tuple[date, date],
    width: float,
    texts: Texts,
) -> Markup:
    """Draw anomalies per night and events of each machine.

    Arguments:
        cells: Anomalies per night, by machine.
        marks: Events, by machine.
        nights: First and last night.
        width: Pixels.
        texts: The words.
    """
    with canvas(width, _ROW * len(cells) + 44) as chart:
        axes = _rows(chart, len(cells), nights, _ROW, left=12)
        for row, (machine, of_machine) in enumerate(cells.items()):
            top = row * _ROW + 16
            axes.text(
                0,
                top - 4,
                shorten_name(machine, int(width / 9)),
                ha="left",
                va="bottom",
                color=colour("ink"),
                transform=axes.get_yaxis_transform(),
                weight="bold",
            )
            _strip(chart, axes, of_machine, nights, top + 12, _STRIP, ALARM_STEPS)
            for mark in marks.get(machine, ()):
                _place(chart, axes, mark, top + 4)
        night_axis(axes, texts, width, centre=0.5)
        chart.name_axes(axes, x=texts("axis.night"))
        return chart.to_svg(texts("chart.alarm_timeline"))


def draw_health_timeline(
    cells: Mapping[str, Sequence[Cell]],
    marks: Mapping[str, Sequence[Mark]],
    nights: tuple[date, date],
    width: float,
    texts: Texts,
) -> Markup:
    """Draw alarms per night and findings of drift of each regime.

    Arguments:
        cells: Share of alarms per night, in times the threshold, by cluster key.
        marks: Findings, by cluster key.
        nights: First and last night.
        width: Pixels.
        texts: The words.
    """
    row_height = 24
    with canvas(width, row_height * len(cells) + 44) as chart:
        axes = _rows(chart, len(cells), nights, row_height, left=58)
        for row, (key, of_regime) in enumerate(cells.items()):
            top = row * row_height + 3
            label = axes.text(
                -6 / (width - 70),
                top + 9,
                shorten_name(key, 8),
                ha="right",
                va="center",
                color=colour("ink"),
                transform=axes.get_yaxis_transform(),
            )
            chart.explain(label, key)
            _strip(chart, axes, of_regime, nights, top, row_height - 6, HEALTH_STEPS)
            for mark in marks.get(key, ()):
                _place(chart, axes, mark, top + 9, marker="D", size=5, name="blue")
        night_axis(axes, texts, width, centre=0.5)
        chart.name_axes(axes, x=texts("axis.night"))
        return chart.to_svg(texts("chart.health_timeline"))


def _rows(chart: Canvas, n_rows: int, nights: tuple[date, date], row_height: float, left: float) -> Axes:
    axes = chart.add_axes(left=left, top=4, bottom=36)
    first, last = (mdates.date2num(night) for night in nights)
    axes.set_xlim(first, last + 1)
    axes.set_ylim(max(n_rows, 1) * row_height + 4, 0)
    axes.yaxis.set_visible(False)
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    return axes


def _strip(
    chart: Canvas,
    axes: Axes,
    cells: Sequence[Cell],
    nights: tuple[date, date],
    top: float,
    height: float,
    steps: Sequence[float],
) -> None:
    first, last = (float(mdates.date2num(night)) for night in nights)
    axes.add_patch(Rectangle((first, top), last - first + 1, height, color=colour(STEPS[0]), linewidth=0))
    for cell in cells:
        step = int(np.searchsorted(steps, cell.value, side="right"))
        if not step:
            continue
        day = float(mdates.date2num(cell.night))
        patch = axes.add_patch(
            Rectangle((day + 0.04, top), 0.92, height, facecolor=colour(STEPS[step]), edgecolor="none")
        )
        chart.explain(patch, cell.text)


def _place(
    chart: Canvas, axes: Axes, mark: Mark, y: float, *, marker: str = "v", size: float = 4.0, name: str = "ink"
) -> None:
    moment = float(mdates.date2num(mark.at))
    (drawn,) = axes.plot(
        [moment if isinstance(mark.at, datetime) else moment + 0.5],
        [y],
        marker=marker,
        markersize=size + 3 * mark.weight,
        color=colour(name if mark.link else "muted"),
        markeredgecolor=colour("surface"),
        markeredgewidth=0.5,
        linestyle="none",
        clip_on=False,
    )
    if mark.link:
        drawn.set_url(mark.link)
    chart.explain(drawn, clean_name(mark.text))
