"""The sections of `pwflow.toml` that work by default, written as comments: a tour of the configuration.

Values come from the configuration's own defaults; what a key means is said here in one line.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from pwflow_core.config import PlantConfig
from pwflow_core.onboarding.toml import toml_key, toml_value

__all__ = ["WRITTEN_SECTIONS", "render_tour"]

WRITTEN_SECTIONS = ("plant", "source", "sensors", "schedule")
"""Sections that are written out from what was found, and so are no part of the tour."""

_SECTIONS = {
    "training": "Which readings the models learn from. Without any of these: all that have arrived.",
    "clustering": "How operating regimes are found, inside every segment.",
    "quality": "Which readings can be judged: gaps, missing sensors, stuck sensors.",
    "features": "What the models see of a sensor besides its value: its last readings.",
    "flow": "How the normalizing flow of a regime is built and trained; [flow.clusters.KEY] for one regime alone.",
    "scoring": "When a reading is an anomaly.",
    "events": "When anomalies of a machine are one event.",
    "drift": "When a regime counts as changed, and what happens then.",
    "report": "The report that every run writes beside the published tables.",
    "warehouse": "Where readings and scores are kept, relative to this file.",
    "models": "Where trained models are kept.",
    "compute": "What the computation may use.",
}
_KEYS = {
    "training.start": "learn only from readings at or after this time",
    "training.until": "learn only from readings before this time",
    "training.first_rows": "learn only from the first readings of every machine and segment",
    "clustering.method": '"gmm" or "kmeans"',
    "clustering.n_clusters": 'regimes per segment, or "auto"',
    "clustering.candidates": 'what "auto" chooses among',
    "clustering.selection": 'how "auto" chooses: "held_out", "bic" or "silhouette"',
    "clustering.max_rows": "readings per segment that the clustering looks at",
    "clustering.random_state": "seed",
    "quality.fill_readings": "bridge gaps of at most so many readings with the value before",
    "quality.fill_seconds": "and of at most so many seconds",
    "quality.max_missing_sensors": "score readings with at most so many sensors missing",
    "quality.stuck": "do not judge sensors that show no change for implausibly long",
    "quality.stuck_readings": "fewest equal readings in a row that count as stuck",
    "quality.stuck_factor": "how many times as long as healthy runs of equal values",
    "features.windows": 'readings per window, such as [20], or "auto"',
    "features.statistics": 'of each window: "mean", "std", "slope"',
    "features.lags": "values so many readings ago",
    "features.differences": "change since so many readings ago",
    "features.sensors": "which sensors; without any, all",
    "features.gap_seconds": "no window reaches across a longer silence; by default five usual intervals",
    "flow.kind": '"affine", "spline", or "auto" for what suits each regime',
    "flow.transforms": "autoregressive transforms",
    "flow.hidden": "hidden units of each transform",
    "flow.max_steps": "most gradient steps",
    "flow.max_rows": "readings per regime that its flow learns from",
    "flow.min_rows": "a regime with fewer readings keeps its Gaussian",
    "flow.random_state": "seed",
    "scoring.alpha": "false alarms per normal reading: 0.001 is one in a thousand",
    "scoring.alarms_per_week": "instead of alpha: false events per week in the whole plant",
    "scoring.min_calibration_rows": "a regime with fewer held-out readings is not judged",
    "events.max_gap_minutes": "anomalies this close are one event; by default ten usual intervals",
    "events.min_readings": "fewer make no event, unless one is a hundred times rarer than alpha asks",
    "drift.policy": '"retrain" what moved, "propose" it to a person, or only "observe"',
    "drift.false_refits_per_5_years": "how often a regime that did not move may be taken to have moved",
    "drift.min_effect": "smallest shift that counts, in standard deviations of a reading",
    "drift.min_gain": "how much better a new flow has to be, in nats per reading",
    "report.languages": 'one file for each: "en", "ja"',
    "report.days": "days of readings to show",
    "warehouse.url": "the DuckDB file; duckdb:////path for an absolute path",
    "warehouse.published": "the read-only copy for SQL users, replaced by every run",
    "warehouse.wait_seconds": "how long to wait for another process that holds the warehouse",
    "models.url": "a folder, or a URL such as s3://bucket/models",
    "models.keep_days": "days that the files of earlier flows are kept",
    "compute.threads": "threads for training and scoring",
    "compute.memory_limit": "memory for DuckDB; the rest is spilled to disk",
    "compute.chunk_rows": "readings scored at a time",
}
_EXAMPLE = 10_000
_EXAMPLES = {"scoring.alarms_per_week": 1.0}
_WIDTH = 34


def render_tour(examples: Mapping[str, object]) -> str:
    """Return all sections that have defaults, commented out.

    Arguments:
        examples: By `section.key`, what to show for a key that has no default.
    """
    examples = {**_EXAMPLES, **examples}
    blocks = []
    for section, field in PlantConfig.model_fields.items():
        kind = field.annotation
        if section in WRITTEN_SECTIONS or not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            continue
        lines = [f"# {_SECTIONS[section]}"] if section in _SECTIONS else []
        lines.append(f"# [{toml_key(section)}]")
        for key, default in kind().model_dump().items():
            if isinstance(default, dict):
                continue  # a table of its own, by name
            value = examples.get(f"{section}.{key}", _EXAMPLE) if default is None else default
            setting = f"# {toml_key(key)} = {toml_value(value)}"
            explanation = _KEYS.get(f"{section}.{key}")
            lines.append(f"{setting:<{_WIDTH}}  # {explanation}" if explanation else setting)
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)
