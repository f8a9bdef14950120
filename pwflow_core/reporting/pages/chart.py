"""A chart on a page: its picture, what it is called, and how to read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

__all__ = ["NARROW", "WIDE", "Chart", "Key", "in_two_widths"]

WIDE, NARROW = 1120, 350


@dataclass(frozen=True)
class Key:
    """One entry of a legend: its mark (line, dashed, dot, area, cell, down or diamond), its colour and its text."""

    mark: str
    colour: str
    text: str


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        title: What it shows.
        picture: As SVG.
        narrow: The same for a narrow screen, where it needs a picture of its own.
        legend: What its marks mean.
        note: How to read it.
    """

    title: str
    picture: Markup
    narrow: Markup | None = None
    legend: tuple[Key, ...] = ()
    note: str = ""


def in_two_widths(draw: Callable[[float], Markup], wide: float = WIDE) -> tuple[Markup, Markup]:
    """Return a picture for wide screens and one for phones."""
    return draw(wide), draw(NARROW)
