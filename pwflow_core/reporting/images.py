"""Single pictures for other places than the report: a training curve, large and small, the map of the regimes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pwflow_core.pipeline.regimes.model import load_cluster_model
from pwflow_core.pipeline.source.source import read_source
from pwflow_core.plant import Plant
from pwflow_core.reporting.drawing.curves import training_curve_png
from pwflow_core.reporting.drawing.maps import regime_map_png
from pwflow_core.reporting.drawing.thumbnail import training_thumbnail
from pwflow_core.reporting.projection import plane_of, raw_columns
from pwflow_core.reporting.texts import Texts

if TYPE_CHECKING:
    from pwflow_core.modelling import TrainingHistory

__all__ = ["draw_regimes", "draw_training", "draw_training_small"]

_MOST_SEGMENTS = 6


def draw_training(history: TrainingHistory) -> bytes:
    """Return the training curve of a flow as a PNG; an empty one where it never trained."""
    return training_curve_png(history.steps, history.train, history.held_out, history.best_step, Texts("en"))


def draw_training_small(history: TrainingHistory) -> str:
    """Return the held-out half of the training curve as an SVG of less than 700 bytes."""
    texts = Texts("en")
    last = history.steps[-1] if history.steps else 0
    below = texts("axis.kept_step", best=texts.number(history.best_step), last=texts.number(last))
    return training_thumbnail(history.steps, history.held_out, history.best_step, (texts("axis.held_out"), below))


def draw_regimes(plant: Plant) -> bytes:
    """Return the map of the regimes in use, one for each of the first segments.

    Raises:
        NotFittedError: There are no regimes yet.
    """
    _, model = load_cluster_model(plant)
    with plant.warehouse.snapshot() as connection:
        raw = raw_columns(model, [sensor.name for sensor in read_source(connection).sensors])
    parts = sorted(model.segments, key=lambda part: -len(part.keys))[:_MOST_SEGMENTS]
    planes = {part.segment: (plane_of(part, raw), part.keys) for part in parts}
    return regime_map_png(planes, Texts("en"))
