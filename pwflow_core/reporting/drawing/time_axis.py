"""Time axes: few ticks, written in the language of the report."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo

import matplotlib.dates as mdates
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pwflow_core.reporting.texts import Texts

__all__ = ["few_ticks", "night_axis", "time_axis"]

_PIXELS_PER_TICK = 64


def night_axis(axes: Axes, texts: Texts, width: float, centre: float = 0.0) -> None:
    """Let the x axis show nights.

    Arguments:
        axes: Their x is in days of matplotlib.
        texts: The words.
        width: Of the chart, in pixels.
        centre: Where the middle of a night lies, in days after its start.
    """
    first, last = axes.get_xlim()
    days = np.arange(np.ceil(first), np.floor(last - centre) + 1)
    every = max(1, int(np.ceil(len(days) / max(2, width // _PIXELS_PER_TICK))))
    shown = days[::every]
    axes.set_xticks(shown + centre, [texts.short_day(_moment(day)) for day in shown])


def time_axis(axes: Axes, texts: Texts, width: float) -> None:
    """Let the x axis, in UTC, show times of the plant: with the hour where days are not enough."""
    first, last = axes.get_xlim()
    axes.xaxis.set_major_locator(
        mdates.AutoDateLocator(minticks=2, maxticks=max(3, int(width / _PIXELS_PER_TICK)), tz=texts.zone)
    )
    hours = last - first < 4

    def write(day: float, _: object) -> str:
        moment = _moment(day, texts.zone)
        if not hours:
            return texts.short_day(moment)
        return texts.short_day(moment) if (moment.hour, moment.minute) == (0, 0) else f"{moment:%H:%M}"

    axes.xaxis.set_major_formatter(FuncFormatter(write))


def few_ticks(axes: Axes, most: int = 4) -> None:
    """Let the y axis have few ticks."""
    axes.yaxis.set_major_locator(MaxNLocator(most))


def _moment(day: float, zone: tzinfo = UTC) -> datetime:
    moment: datetime = mdates.num2date(day, tz=zone)
    return moment
