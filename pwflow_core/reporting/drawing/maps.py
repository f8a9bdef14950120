"""Maps: where regimes lie, on the plane that shows most of what varies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pwflow_core.reporting.drawing.canvas import Canvas, canvas
from pwflow_core.reporting.drawing.palette import SERIES, colour
from pwflow_core.reporting.drawing.points import add_points
from pwflow_core.reporting.drawing.time_axis import few_ticks
from pwflow_core.reporting.names import shorten_name
from pwflow_core.reporting.projection import Plane
from pwflow_core.reporting.texts import Texts

__all__ = ["draw_regime_map", "regime_map_png"]

Array = NDArray[np.float64]

_STYLES = ("-", (0, (4, 2)), (0, (1, 1.5)))
_MOST_LISTED = 18


def draw_regime_map(plane: Plane, keys: Sequence[str], shown: str, points: Mapping[str, Array], texts: Texts) -> Markup:
    """Draw one regime among the others of its segment: readings as dots, regimes as ellipses of two deviations.

    Arguments:
        plane: The plane, with the regimes on it.
        keys: Cluster keys, in the order of the plane.
        shown: The one to bring out.
        points: Readings on the plane by cluster key, shape (n, 2) each.
        texts: The words.
    """
    with canvas(350, 260) as chart:
        axes = chart.add_axes(left=46)
        for key, of_regime in points.items():
            if key != shown:
                add_points(axes, of_regime[:150], "muted", 1.6, 0.3)
        if shown in points:
            add_points(axes, points[shown][:400], "blue", 2.2, 0.6)
        for position, key in enumerate(keys):
            axes.add_patch(
                _ellipse(plane, position, "blue" if key == shown else "muted", "-", 1.6 if key == shown else 0.8)
            )
        _frame(
            chart, axes, plane, np.concatenate([part for part in points.values() if len(part)] or [np.empty((0, 2))])
        )
        _name(chart, axes, plane, texts)
        return chart.to_svg(texts("chart.map", regime=shown))


def regime_map_png(planes: Mapping[str, tuple[Plane, Sequence[str]]], texts: Texts) -> bytes:
    """Return the regimes of several segments as a PNG, one map under the other.

    Arguments:
        planes: The plane of each segment with its cluster keys.
        texts: The words.
    """
    panel = 250
    height = panel * len(planes)
    with canvas(560, height) as chart:
        for number, (segment, (plane, keys)) in enumerate(planes.items()):
            axes = chart.add_axes(
                left=50, right=130, top=number * panel + 42, bottom=height - (number + 1) * panel + 38
            )
            listed = []
            for position in range(len(keys)):
                style = _STYLES[position // len(SERIES) % len(_STYLES)]
                listed.append(axes.add_patch(_ellipse(plane, position, SERIES[position % len(SERIES)], style, 1.6)))
            _frame(chart, axes, plane, np.empty((0, 2)))
            chart.figure.text(
                4 / 560,
                1 - (number * panel + 16) / height,
                shorten_name(segment, 60),
                weight="bold",
                color=colour("ink"),
            )
            more = [f"+ {len(keys) - _MOST_LISTED}"] if len(keys) > _MOST_LISTED else []
            axes.legend(
                [*listed[:_MOST_LISTED], *listed[:0], *([listed[-1]] if more else [])],
                [*keys[:_MOST_LISTED], *more],
                loc="upper left",
                bbox_to_anchor=(1.01, 1.03),
                frameon=False,
                labelcolor=colour("ink"),
                ncols=1 if len(keys) <= 11 else 2,
                handlelength=1.6,
                columnspacing=0.8,
            )
            _name(chart, axes, plane, texts)
        return chart.to_png()


def _ellipse(plane: Plane, position: int, name: str, style: object, width: float) -> Ellipse:
    """Return the area within two standard deviations of a regime."""
    variances, directions = np.linalg.eigh(plane.covariances[position])
    radii = 2 * np.sqrt(np.maximum(variances, 1e-12))
    angle = np.degrees(np.arctan2(directions[1, 1], directions[0, 1]))
    x, y = plane.means[position]
    return Ellipse(
        (x, y),
        2 * radii[1],
        2 * radii[0],
        angle=angle,
        fill=False,
        edgecolor=colour(name),
        linewidth=width,
        linestyle=style,
    )


def _frame(chart: Canvas, axes: Axes, plane: Plane, points: Array) -> None:
    """Show all ellipses, and the points around them but for far outliers."""
    reach = 2.3 * np.sqrt(np.maximum(plane.covariances[:, [0, 1], [0, 1]], 1e-12))
    low, high = (plane.means - reach).min(axis=0), (plane.means + reach).max(axis=0)
    if len(points):
        low = np.minimum(low, np.quantile(points, 0.01, axis=0))
        high = np.maximum(high, np.quantile(points, 0.99, axis=0))
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.xaxis.set_major_locator(MaxNLocator(5))
    few_ticks(axes)


def _name(chart: Canvas, axes: Axes, plane: Plane, texts: Texts) -> None:
    x, y = (
        texts("axis.component", number=number + 1, share=texts.percent(plane.shares[number])) for number in range(2)
    )
    chart.name_axes(axes, x=x, y=y, x_unit="σ", y_unit="σ")
