"""A canvas for one chart: axes placed in pixels, and the SVG that goes into a page or the PNG for other places.

The SVG holds no script, no font and no style sheet: its text is text, its colours are variables of the page.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import count
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
from markupsafe import Markup
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pwflow_core.reporting.drawing.palette import LIGHT, colour
from pwflow_core.reporting.names import clean_name, fit_name, shorten_name

__all__ = ["Canvas", "canvas"]

_PIXELS_PER_INCH = 96
_FONT_PIXELS = 11
_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"
_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}
_COLOUR = re.compile("|".join(LIGHT.values()), re.IGNORECASE)
_VARIABLES = {value: f"var(--{name})" for name, value in LIGHT.items()}
_FONT = re.compile(r"font-family: [^;]*; ?")
_NO_TURN = re.compile(r"rotate\(-?0 ")
_DIGITS = re.compile(r"(\.\d\d?)\d*")
_REFERENCE = re.compile(r"(url\(#|^#)([^)]+)")
_FALLBACK_FONTS = ("Noto Sans CJK JP", "Noto Sans JP", "Yu Gothic", "Meiryo", "Hiragino Sans", "IPAexGothic")

_numbers = count(1)


class Canvas:
    """One chart in the making; open it with `canvas`.

    Attributes:
        figure: The matplotlib figure.
        width: Pixels.
        height: Pixels.
    """

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width / _PIXELS_PER_INCH, height / _PIXELS_PER_INCH), dpi=_PIXELS_PER_INCH)
        self.figure.patch.set_visible(False)
        self.width, self.height = width, height
        self._explained: dict[str, str] = {}

    def add_axes(
        self, *, left: float = 46, right: float = 12, top: float = 24, bottom: float = 40, share: Axes | None = None
    ) -> Axes:
        """Add axes with these margins, in pixels."""
        width, height = self.width - left - right, self.height - top - bottom
        box = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box, sharex=share)
        axes.patch.set_visible(False)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(colour("rule"))
        axes.tick_params(colors=colour("muted"), width=0.6, length=3, labelcolor=colour("muted"))
        axes.grid(axis="y", color=colour("grid"), linewidth=0.6)
        axes.set_axisbelow(True)
        return axes

    def name_axes(self, axes: Axes, *, x: str = "", y: str = "", x_unit: str = "", y_unit: str = "") -> None:
        """Write what the axes show: y above its axis, x below at the right, both horizontal so that none overlaps."""
        box = axes.get_position()
        room = (self.width * box.width + 30) / _FONT_PIXELS
        for name, unit, x_place, y_place, side in (
            (y, y_unit, 4 / self.width, box.y1 + 8 / self.height, "left"),
            (x, x_unit, box.x1, box.y0 - 35 / self.height, "right"),
        ):
            if name:
                is_told = unit and not name.endswith(f" {unit}")  # `Druck bar` says it itself
                behind = f" ({shorten_name(unit, 14)})" if is_told else ""
                shown = fit_name(name, room - 1 - len(behind)) + behind
                text = self.figure.text(x_place, y_place, shown, ha=side, va="bottom", color=colour("muted"))
                self.explain(text, f"{name} ({unit})" if is_told else name)

    def explain(self, artist: Artist, text: str) -> None:
        """Give a part of the chart a tooltip."""
        mark = f"mark{len(self._explained)}"
        artist.set_gid(mark)
        self._explained[mark] = clean_name(text)

    def to_svg(self, label: str) -> Markup:
        """Return the chart as an SVG element for a page.

        Arguments:
            label: What the chart shows, for people who do not see it.
        """
        written = io.StringIO()
        self.figure.savefig(written, format="svg", metadata=_METADATA)
        root = ET.fromstring(written.getvalue())  # noqa: S314 - matplotlib wrote it
        prefix = f"f{next(_numbers)}-"
        for parent in list(root.iter()):
            for child in list(parent):
                if child.tag.endswith("}metadata") or child.tag.endswith("}style"):
                    parent.remove(child)
            _adapt(parent, prefix, self._explained)
        for element in list(root.iter(f"{{{_SVG}}}g")):
            text = self._explained.get(element.get("id", "").removeprefix(prefix))
            if text:
                title = ET.Element(f"{{{_SVG}}}title")
                title.text = text
                element.insert(0, title)
        for name in ("width", "height", "version"):
            root.attrib.pop(name, None)
        root.set("role", "img")
        root.set("aria-label", clean_name(label))
        root.set("style", f"max-width:{self.width:.0f}px")
        return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704 - ElementTree escaped every text in it

    def to_png(self) -> bytes:
        """Return the chart as a PNG on a white ground."""
        written = io.BytesIO()
        self.figure.savefig(written, format="png", dpi=1.5 * _PIXELS_PER_INCH, facecolor="white")
        return written.getvalue()


@contextmanager
def canvas(width: float, height: float) -> Iterator[Canvas]:
    """Open a canvas of this size in pixels; draw on it and write it out inside the block."""
    style: Any = {
        "svg.fonttype": "none",
        "text.parse_math": False,  # a dollar in a sensor's name is no formula
        "font.family": list(_fonts()),
        "font.size": _FONT_PIXELS * 72 / _PIXELS_PER_INCH,
        "axes.linewidth": 0.6,
        "axes.formatter.useoffset": False,
        "axes.formatter.limits": (-4, 6),
        "path.simplify": True,
    }
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")  # the page has its own fonts
        yield Canvas(width, height)


@cache
def _fonts() -> Sequence[str]:
    known = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in _FALLBACK_FONTS if name in known)]


def _adapt(element: ET.Element, prefix: str, marks: Container[str]) -> None:
    """Make an element fit a page that holds many charts: colours by variable, names of its own, few digits."""
    element.tail = None
    if not (element.text or "").strip():
        element.text = None
    if style := element.get("style"):
        style = _FONT.sub("", _COLOUR.sub(lambda found: _VARIABLES[found[0].lower()], style))
        element.set("style", style)
    for name, value in list(element.attrib.items()):
        if name == "id" and element.tag.endswith("}g") and value not in marks:
            del element.attrib[name]
        elif name == "id":
            element.set(name, prefix + value)
        elif name == "clip-path" or (name == _HREF and not element.tag.endswith("}a")):
            element.set(name, _REFERENCE.sub(rf"\g<1>{prefix}\g<2>", value))
        elif name in ("target", "transform") and (name == "target" or _NO_TURN.match(value)):
            del element.attrib[name]
        elif name in ("d", "x", "y"):
            element.set(name, _DIGITS.sub(r"\1", value))


ET.register_namespace("", _SVG)
ET.register_namespace("xlink", "http://www.w3.org/1999/xlink")
