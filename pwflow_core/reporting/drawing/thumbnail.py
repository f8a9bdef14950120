"""A curve in some hundred characters of SVG, for places that show what is small at once and all else on a click."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from pwflow_core.reporting.drawing.palette import colour

__all__ = ["training_thumbnail"]

_WIDTH, _HEIGHT = 380, 110
_LEFT, _TOP, _RIGHT, _BOTTOM = 44, 24, 372, 90
_MOST_POINTS = 28
_GREY = "#7d8a96"  # read on a light ground as well as on a dark one


def training_thumbnail(steps: Sequence[int], held_out: Sequence[float], best_step: int, words: tuple[str, str]) -> str:
    """Return the held-out log-density by gradient step as an SVG of less than 700 bytes.

    Arguments:
        steps: Gradient steps at which the flow was looked at.
        held_out: Log-density of held-out readings there, in nats.
        best_step: The step that was kept, marked by a dashed line.
        words: What stands above and below the curve: its axes.
    """
    seen = [(step, value) for step, value in zip(steps, held_out, strict=True) if math.isfinite(value)]
    parts = [_text(0, 12, words[0]), _text(_RIGHT, _HEIGHT - 4, words[1], "end")]
    if len(seen) > 1:
        parts += _curve(np.asarray(seen, dtype=np.float64), best_step)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" font-size="11" '
    return f'{head}font-family="sans-serif" fill="{_GREY}">{"".join(parts)}</svg>'


def _curve(points: np.ndarray, best_step: int) -> list[str]:
    low, high = float(np.quantile(points[:, 1], 0.05)), float(points[:, 1].max())
    first, last = points[0, 0], points[-1, 0]  # a refit goes on from the steps of the flow before
    shown = points[np.unique(np.linspace(0, len(points) - 1, _MOST_POINTS).astype(int))]
    x = _LEFT + (_RIGHT - _LEFT) * (shown[:, 0] - first) / (last - first)
    y = _BOTTOM - (_BOTTOM - _TOP) * np.clip((shown[:, 1] - low) / max(high - low, 1e-9), 0, 1)
    line = " ".join(f"{a:.0f} {b:.0f}" for a, b in zip(x, y, strict=True))
    best = round(_LEFT + (_RIGHT - _LEFT) * min(max((best_step - first) / (last - first), 0.0), 1.0))
    return [
        f'<path d="M{best} {_TOP}V{_BOTTOM}" stroke="{_GREY}" stroke-dasharray="4 3"/>',
        f'<path d="M{line}" fill="none" stroke="{colour("vermilion")}" stroke-width="2"/>',
        _text(0, _TOP + 8, f"{high:.3g}"),
        _text(0, _BOTTOM, f"{low:.3g}"),
        _text(_LEFT, _HEIGHT - 4, f"{first:,.0f}"),
    ]


def _text(x: int, y: int, text: str, anchor: str = "") -> str:
    side = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x}" y="{y}"{side}>{escape(text)}</text>'
