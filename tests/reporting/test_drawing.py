"""Charts as files: well-formed, apart from each other, and told apart by people who see colours differently."""

from __future__ import annotations

import re
from datetime import date, timedelta
from itertools import combinations, pairwise
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from pwflow_core.pipeline.scoring.sight import SensorSight
from pwflow_core.reporting.drawing.canvas import canvas
from pwflow_core.reporting.drawing.curves import draw_drift, draw_share, training_curve_png
from pwflow_core.reporting.drawing.densities import draw_latent_quantiles, draw_pair
from pwflow_core.reporting.drawing.maps import draw_regime_map, regime_map_png
from pwflow_core.reporting.drawing.palette import DARK, LIGHT, SERIES, STEPS
from pwflow_core.reporting.drawing.points import add_points
from pwflow_core.reporting.drawing.sight import draw_sight
from pwflow_core.reporting.drawing.signals import Trace, draw_signals
from pwflow_core.reporting.drawing.thumbnail import training_thumbnail
from pwflow_core.reporting.event_facts import break_gaps
from pwflow_core.reporting.pages.regimes import choose_pairs
from pwflow_core.reporting.projection import fit_plane
from pwflow_core.reporting.texts import LANGUAGES, Texts

TEXTS = Texts("en")
NIGHTS = [date(2026, 1, 1) + timedelta(days=n) for n in range(40)]
PNG = b"\x89PNG\r\n\x1a\n"


def rows(n=300, d=2, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)) * [1.0, 20.0][:d]


def seen(sensor, shift, spike):
    return SensorSight(
        "c0001", "f", sensor, "bar", 240, 0.001, 2, 1.0, shift, shift, spike, spike, is_blind=shift is None, reason=None
    )


PICTURES = {
    "a share": lambda: draw_share(NIGHTS, [0.2] * 40, TEXTS),
    "a share of one night": lambda: draw_share(NIGHTS[:1], [0.0], TEXTS),
    "a share of no reading": lambda: draw_share(NIGHTS, [float("nan")] * 40, TEXTS),
    "drift": lambda: draw_drift(NIGHTS, {"drift": np.arange(40), "latent_1": np.zeros(40)}, [5.0] * 40, TEXTS),
    "a pair": lambda: draw_pair(rows(), rows(seed=1), rows(0), ("x", "y"), ("A", ""), TEXTS),
    "a constant pair": lambda: draw_pair(rows() * 0, rows() * 0, rows(0), ("x", "y"), ("", ""), TEXTS),
    "latents": lambda: draw_latent_quantiles(rows(), rows(0), TEXTS),
    "sight": lambda: draw_sight([seen("a", 0.4, 2.0), seen("b" * 99, 12.0, None), seen("c", None, None)], TEXTS),
    "far latents": lambda: draw_latent_quantiles(rows() * 1e9, rows(), TEXTS),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_well_formed_and_draws_in_the_colours_of_the_page(name):
    picture = PICTURES[name]()
    root = ET.fromstring(str(picture))  # noqa: S314 - made here
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert not re.findall(r"(?:fill|stroke): #(?!000000)", picture), "a colour that dark mode cannot change"
    assert "nan" not in picture.lower().replace("dominant", "")
    assert not list(root.iter("{http://www.w3.org/2000/svg}style"))


@pytest.mark.parametrize(
    ("steps", "held_out"),
    [
        ([], []),
        ([0], [1.0]),
        ([0, 10], [1.0, 1.0]),
        ([0, 10, 20], [-1e30, float("nan"), 2.0]),
        (range(0, 4001, 10), -12345.678 + np.log1p(np.arange(401.0))),
        (range(1040, 1313, 16), np.linspace(-16.2, -15.7, 18)),
    ],
)
def test_a_thumbnail_is_well_formed_and_short(steps, held_out):
    picture = training_thumbnail(list(steps), list(held_out), 10, ("log-density of held-out readings (nats)", "x" * 44))
    ET.fromstring(picture)  # noqa: S314 - made here
    assert len(picture) < 700
    assert "nan" not in picture
    assert ("<path" in picture) == (len(steps) > 1)


def test_pictures_on_one_page_share_no_identifier():
    found = [re.findall(r' id="([^"]+)"', PICTURES["drift"]()) for _ in range(3)]
    assert all(found)
    for a, b in combinations(found, 2):
        assert not set(a) & set(b)


@pytest.mark.parametrize(
    ("name", "unit", "title"), [("Druck bar", "bar", "Druck bar"), ("Druck", "bar", "Druck (bar)"), ("bar", "", "bar")]
)
def test_a_unit_that_a_name_ends_in_is_not_said_again(name, unit, title):
    with canvas(350, 220) as chart:
        axes = chart.add_axes()
        chart.name_axes(axes, y=name, y_unit=unit)
        assert [text.get_text() for text in chart.figure.texts] == [title]


def test_axis_names_do_not_run_into_each_other_however_long_they_are():
    with canvas(350, 220) as chart:
        axes = chart.add_axes()
        chart.name_axes(axes, x="x" * 500, y="W" * 500, x_unit="u" * 500, y_unit="°C")
        renderer = FigureCanvasAgg(chart.figure).get_renderer()
        boxes = [text.get_window_extent(renderer) for text in chart.figure.texts]
    for box in boxes:
        assert box.width < 350
    assert not boxes[0].overlaps(boxes[1])


def test_many_points_stay_small():
    with canvas(350, 220) as chart:
        axes = chart.add_axes()
        axes.set_xlim(-4, 4)
        axes.set_ylim(-80, 80)
        add_points(axes, rows(100_000), "blue")
        picture = chart.to_svg("points")
    assert len(picture) < 50_000
    assert "var(--blue)" in picture


def test_points_that_are_not_finite_are_left_out():
    with canvas(350, 220) as chart:
        axes = chart.add_axes()
        axes.set_xlim(-4, 4)
        axes.set_ylim(-80, 80)
        add_points(axes, np.array([[0.0, np.nan], [np.inf, 1.0]]), "blue")
        assert "nan" not in chart.to_svg("points")


@pytest.mark.parametrize("language", LANGUAGES)
def test_single_pictures_are_png(language):
    texts = Texts(language)
    plane = fit_plane(np.ones(2), np.array([[0.0, 0], [3, 60]]), np.tile(np.diag([1.0, 400]), (2, 1, 1)))
    assert regime_map_png({"<A> $": (plane, ["c0001", "c0002"])}, texts).startswith(PNG)
    assert training_curve_png([0, 50, 100], [1.0, 2.0, 2.5], [1.0, 1.8, 1.9], 100, texts).startswith(PNG)
    assert training_curve_png([], [], [], 0, texts).startswith(PNG)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_series_and_steps_can_be_told_apart_in_grey_and_read_on_their_ground(theme):
    def luminance(name):
        linear = [int(theme[name][i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in linear]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    def contrast(a, b):
        high, low = sorted([luminance(a), luminance(b)], reverse=True)
        return (high + 0.05) / (low + 0.05)

    assert contrast("ink", "surface") > 7
    assert contrast("muted", "surface") > 4.5
    assert min(contrast(name, "surface") for name in SERIES) > 2.9
    shades = [luminance(step) for step in STEPS]
    assert shades == sorted(shades) or shades == sorted(shades, reverse=True)
    assert min(contrast(a, b) for a, b in pairwise(STEPS)) > 1.15


def test_the_plane_keeps_as_much_variance_as_it_says():
    rng = np.random.default_rng(0)
    means, weights = rng.normal(size=(3, 5)) * 3, np.array([0.2, 0.3, 0.5])
    covariances = np.array([a @ a.T + np.eye(5) for a in rng.normal(size=(3, 5, 5))])
    plane = fit_plane(weights, means, covariances)
    X = np.concatenate(
        [rng.multivariate_normal(m, c, 40_000) for m, c in zip(means, covariances, strict=True)]
    )  # equal numbers, so weigh them
    weight = np.repeat(weights, 40_000)
    on_plane = plane.project(X)
    variance = np.cov(on_plane, rowvar=False, aweights=weight)
    assert variance.diagonal() / 5 == pytest.approx(plane.shares, rel=0.05)
    assert abs(variance[0, 1]) < 0.1
    np.testing.assert_allclose(plane.means, plane.project(means))


def test_one_sensor_has_a_map_too():
    plane = fit_plane(np.ones(2), np.array([[0.0], [5.0]]), np.ones((2, 1, 1)))
    assert plane.shares.tolist() == [1.0, 0.0]
    picture = draw_regime_map(plane, ["c0001", "c0002"], "c0001", {"c0001": plane.project(rows(50, 1))}, TEXTS)
    assert "nan" not in picture


def test_pairs_are_the_sensors_that_hang_together():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 500))
    X = np.column_stack([a, b, a + 0.1 * rng.normal(size=500), b**3, np.ones(500)])
    assert {frozenset(pair) for pair in choose_pairs(X)[:2]} == {frozenset({0, 2}), frozenset({1, 3})}
    assert choose_pairs(X[:, :1]) == []


def test_a_trace_is_broken_where_nothing_was_read():
    times = np.array([0, 60, 120, 4000, 4060], "datetime64[s]").astype("datetime64[us]")
    trace = break_gaps(times, np.arange(5.0), 300)
    assert np.flatnonzero(np.isnan(trace.values)).tolist() == [3]
    assert np.all(np.diff(trace.times) > np.timedelta64(0))
    assert trace.values[np.isfinite(trace.values)].tolist() == [0, 1, 2, 3, 4]


def test_the_picture_of_an_event_has_the_clock_of_the_plant():
    times = np.arange("2026-02-09T14:00", "2026-02-09T18:00", 600, dtype="datetime64[s]").astype("datetime64[us]")
    score = Trace(times, np.linspace(0, 5, len(times)))
    span = times[12], times[18]
    for timezone, day, hour in (("UTC", "9 Feb 2026", "15:00"), ("Asia/Tokyo", "10 Feb 2026", "01:00")):
        picture = draw_signals([], score, 3.0, span, 760, Texts("en", timezone=timezone))
        assert f"time ({timezone}), {day}" in picture
        assert f">{hour}<" in picture
