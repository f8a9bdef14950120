"""Densities: what was observed beside what the flow expects, for pairs of sensors and for latents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import norm

from pwflow_core.reporting.drawing.canvas import canvas
from pwflow_core.reporting.drawing.palette import colour
from pwflow_core.reporting.drawing.points import add_points
from pwflow_core.reporting.drawing.time_axis import few_ticks
from pwflow_core.reporting.texts import Texts

__all__ = ["draw_latent_quantiles", "draw_latents", "draw_pair"]

Array = NDArray[np.float64]

_WIDTH, _HEIGHT = 350, 260
_BINS, _MARGIN = 48, 0.08
_HELD = (0.5, 0.95)
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def draw_pair(
    sampled: Array, held_out: Array, recent: Array, names: tuple[str, str], units: tuple[str, str], texts: Texts
) -> Markup:
    """Draw two sensors of a regime: where the flow has half and 95% of its readings, and where readings lie.

    Arguments:
        sampled: Readings that the flow drew, shape (n, 2).
        held_out: Observed ones that it did not learn from, shape (n, 2).
        recent: The latest ones, shape (n, 2).
        names: Of the sensors.
        units: Of the sensors.
        texts: The words.
    """
    with canvas(_WIDTH, _HEIGHT) as chart:
        axes = chart.add_axes(left=52)
        low, high = _view(np.concatenate([sampled, held_out, recent]))
        axes.set_xlim(low[0], high[0])
        axes.set_ylim(low[1], high[1])
        _contours(axes, sampled, low, high)
        add_points(axes, held_out, "blue")
        add_points(axes, recent, "vermilion")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        few_ticks(axes)
        chart.name_axes(axes, x=names[0], y=names[1], x_unit=units[0], y_unit=units[1])
        return chart.to_svg(texts("chart.pair"))


def draw_latents(held_out: Array, recent: Array, texts: Texts) -> Markup:
    """Draw how the latents of all coordinates are distributed beside N(0, 1); shapes (n, D)."""
    with canvas(_WIDTH, _HEIGHT) as chart:
        axes = chart.add_axes(left=46)
        edges = np.linspace(-4.5, 4.5, 46)
        for latents, name in ((held_out, "blue"), (recent, "vermilion")):
            if len(latents):
                share, _ = np.histogram(np.clip(latents, -4.49, 4.49), edges, density=True)
                axes.stairs(share, edges, color=colour(name), linewidth=1.3)
        z = np.linspace(-4.5, 4.5, 181)
        axes.plot(z, norm.pdf(z), color=colour("ink"), linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xlim(-4.5, 4.5)
        axes.set_ylim(bottom=0)
        few_ticks(axes)
        chart.name_axes(axes, x=texts("axis.latent"), y=texts("axis.density"))
        return chart.to_svg(texts("chart.latents"))


def draw_latent_quantiles(held_out: Array, recent: Array, texts: Texts) -> Markup:
    """Draw the quantiles of each latent coordinate beside those of N(0, 1); shapes (n, D)."""
    with canvas(_WIDTH, _HEIGHT) as chart:
        axes = chart.add_axes(left=46)
        for quantile in _QUANTILES:
            axes.axhline(norm.ppf(quantile), color=colour("ink"), linewidth=0.7, linestyle=(0, (4, 3)))
        n_latents = held_out.shape[1] if len(held_out) else recent.shape[1]
        places = np.arange(1, n_latents + 1)
        shift = 0.17 if len(held_out) and len(recent) else 0.0
        for latents, name, side in ((held_out, "blue", -shift), (recent, "vermilion", shift)):
            if len(latents):
                q05, q25, q50, q75, q95 = np.quantile(np.clip(latents, -6, 6), _QUANTILES, axis=0)
                axes.vlines(places + side, q05, q95, color=colour(name), linewidth=1.1)
                axes.vlines(places + side, q25, q75, color=colour(name), linewidth=min(5.0, 90 / n_latents))
                axes.plot(
                    places + side,
                    q50,
                    marker="o",
                    markersize=3,
                    markerfacecolor=colour("surface"),
                    markeredgecolor=colour(name),
                    markeredgewidth=0.9,
                    linestyle="none",
                )
        axes.set_xlim(0.4, n_latents + 0.6)
        axes.set_ylim(*_latent_view(held_out, recent))
        axes.xaxis.set_major_locator(MaxNLocator(min(10, n_latents + 1), integer=True))
        few_ticks(axes, 6)
        chart.name_axes(axes, x=texts("axis.latent_number"), y=texts("axis.latent"))
        return chart.to_svg(texts("chart.latent_quantiles"))


def _latent_view(*parts: Array) -> tuple[float, float]:
    ends = [np.quantile(np.clip(part, -6, 6), (0.05, 0.95), axis=0) for part in parts if len(part)]
    reach = max([2.4, *(1.15 * float(np.abs(end).max()) for end in ends)])
    return -reach, reach


def _view(points: Array) -> tuple[Array, Array]:
    """Return the corners of what is worth seeing: all but a few far outliers."""
    low, high = np.quantile(points, (0.002, 0.998), axis=0)
    room = _MARGIN * (high - low) + 1e-9 * np.maximum(1.0, np.abs(high))
    return low - room, high + room


def _contours(axes: Axes, sampled: Array, low: Array, high: Array) -> None:
    """Add the smallest areas that hold half and 95% of the samples."""
    counts, x, y = np.histogram2d(sampled[:, 0], sampled[:, 1], _BINS, [[low[0], high[0]], [low[1], high[1]]])
    smooth = gaussian_filter(counts, 1.2)
    ordered = np.sort(smooth.ravel())[::-1]
    held = np.cumsum(ordered)
    if held[-1] <= 0:
        return
    levels: Sequence[float] = sorted({float(ordered[np.searchsorted(held, share * held[-1])]) for share in _HELD})
    levels = [level for level in levels if 0 < level < smooth.max()]
    if not levels:
        return
    centres = (x[:-1] + x[1:]) / 2, (y[:-1] + y[1:]) / 2
    axes.contourf(*centres, smooth.T, [*levels, float(smooth.max())], colors=[colour("green")], alpha=0.2)
    axes.contour(*centres, smooth.T, levels, colors=[colour("green")], linewidths=1.0)
