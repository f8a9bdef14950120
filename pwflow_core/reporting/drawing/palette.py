"""The colours of the charts: told apart by people who see colours differently, in light and in dark.

Charts are drawn in the light colours; in the page each stands for a CSS variable, so that dark mode and print can
give it another value. Series follow Okabe and Ito (2008); the steps of a scale differ in lightness.
"""

from __future__ import annotations

__all__ = ["DARK", "LIGHT", "SERIES", "STEPS", "colour"]

LIGHT = {
    "ink": "#1b2530",
    "muted": "#5a6773",
    "rule": "#c9d1d9",
    "grid": "#e6eaee",
    "surface": "#fefefe",
    "blue": "#0072b2",
    "vermilion": "#d55e00",
    "green": "#00856a",
    "purple": "#b0588c",
    "sky": "#3d9fd6",
    "amber": "#c98600",
    "step-0": "#eef1f4",
    "step-1": "#fdd3a4",
    "step-2": "#f7934c",
    "step-3": "#cf4a0c",
    "step-4": "#7d1f02",
}
DARK = {
    "ink": "#e8edf2",
    "muted": "#9fadba",
    "rule": "#3f4b57",
    "grid": "#28323c",
    "surface": "#171e26",
    "blue": "#5cb3f0",
    "vermilion": "#ff8f4a",
    "green": "#3fc9a5",
    "purple": "#e59ac6",
    "sky": "#9ad6f7",
    "amber": "#f0bd4f",
    "step-0": "#242e38",
    "step-1": "#6b3410",
    "step-2": "#b9571a",
    "step-3": "#f5924c",
    "step-4": "#ffe0bd",
}
SERIES = ("blue", "vermilion", "green", "purple", "sky", "amber")
STEPS = ("step-0", "step-1", "step-2", "step-3", "step-4")


def colour(name: str) -> str:
    """Return a colour by its name, as charts are drawn in it."""
    return LIGHT[name]
