"""Many points as one path of dots: small on the page, and quick to draw there."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from pwflow_core.reporting.drawing.palette import colour

__all__ = ["add_points"]

_MOST_POINTS = 500


def add_points(axes: Axes, points: NDArray[np.float64], name: str, size: float = 2.2, alpha: float = 0.55) -> None:
    """Add points of shape (n, 2), thinned out where there are very many.

    Arguments:
        axes: Where.
        points: In data units; those that are not finite are left out.
        name: Of the colour.
        size: Diameter in points of print.
        alpha: Opacity.
    """
    seen = points[np.isfinite(points).all(axis=1)]
    thin = seen[:: max(1, -(-len(seen) // _MOST_POINTS))]
    path = Path(np.repeat(thin, 2, axis=0), [Path.MOVETO, Path.LINETO] * len(thin))
    path.should_simplify = False
    dots = PathPatch(path, fill=False, edgecolor=colour(name), linewidth=size, capstyle="round", alpha=alpha)
    dots.set_zorder(3)  # above lines
    axes.add_artist(dots)  # not add_patch: the view is not for thousands of dots to widen
