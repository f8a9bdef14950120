"""What a regime sees: the smallest faults of each sensor that raise an alarm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from pwflow_core.modelling.alarms.detectability import BLIND_SIGMA
from pwflow_core.pipeline.scoring.sight import SensorSight
from pwflow_core.reporting.drawing.canvas import canvas
from pwflow_core.reporting.drawing.palette import colour
from pwflow_core.reporting.names import fit_name
from pwflow_core.reporting.texts import Texts

__all__ = ["draw_sight"]

_WIDTH, _ROW, _LABELS = 350, 19, 134
_LEAST, _MOST = 0.08, 3000.0
_FONT_PIXELS = 11


def draw_sight(sight: Sequence[SensorSight], texts: Texts) -> Markup:
    """Draw the smallest lasting shift and spike of each sensor that alarm, in standard deviations.

    Marks at the right edge stand for faults that raise no alarm, however large.
    """
    with canvas(_WIDTH, 70 + _ROW * len(sight)) as chart:
        axes = chart.add_axes(left=_LABELS, top=10)
        places = np.arange(len(sight))[::-1]
        for place, seen in zip(places, sight, strict=True):
            sizes = [_MOST if size is None else max(size, _LEAST) for size in (seen.shift_sigma, seen.spike_sigma)]
            (line,) = axes.plot(sizes, [place, place], color=colour("rule"), linewidth=3, solid_capstyle="round")
            chart.explain(line, _said(seen, texts))
            for size, series, mark in zip(sizes, ("blue", "vermilion"), ("o", "D"), strict=True):
                axes.plot([size], [place], mark, color=colour(series), markersize=5, clip_on=False)
            name = fit_name(seen.sensor, (_LABELS - 10) / _FONT_PIXELS)
            label = axes.annotate(
                name, (0, place), (-6, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                ha="right", va="center", color=colour("vermilion" if seen.is_blind else "muted"),
            )  # fmt: skip
            chart.explain(label, _said(seen, texts))
        axes.axvline(BLIND_SIGMA, color=colour("ink"), linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xscale("log")
        axes.set_xlim(_LEAST, _MOST)
        axes.set_ylim(-0.7, len(sight) - 0.3)
        axes.set_yticks([])
        axes.set_xticks([0.1, 1, 10, 100, 1000], ["0.1", "1", "10", "100", "1000"])
        axes.minorticks_off()
        axes.grid(axis="x", color=colour("grid"), linewidth=0.6)
        chart.name_axes(axes, x=texts("axis.fault_size"), x_unit="σ")
        return chart.to_svg(texts("chart.sight"))


def _said(seen: SensorSight, texts: Texts) -> str:
    shift, spike = (
        texts("regime.sees_none") if size is None else f"{texts.number(size)} {seen.unit}".strip()
        for size in (seen.shift, seen.spike)
    )
    return texts("regime.sees", sensor=seen.sensor, shift=shift, spike=spike)
