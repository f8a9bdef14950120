"""The sections of `pwflow.toml` that work by default, written as comments: a tour of the configuration.

Values are the configuration's own defaults, and what a key means is the first sentence of its description there.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from pwflow_core.config import PlantConfig
from pwflow_core.onboarding.toml import toml_key, toml_value

__all__ = ["WRITTEN_SECTIONS", "render_tour"]

WRITTEN_SECTIONS = ("plant", "source", "sensors", "schedule")
"""Sections that are written out from what was found, and so are no part of the tour."""

_EXAMPLE = 10_000
_EXAMPLES = {
    "compute.scratch": "/scratch/pwflow",
    "scoring.alarms_per_week": 1.0,
    "scoring.false_cases": 0.2,
    "notify.link": "https://reports.example/plant.html",
    "warehouse.data": "s3://bucket/plant",
    "watch.broker": "mqtt://localhost",
    "watch.publish_to": "pwflow/{machine}",
}
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
        lines = [f"# {_first_sentence(kind.__doc__)}.", f"# [{toml_key(section)}]"]
        for key, default in kind().model_dump().items():
            if isinstance(default, dict):
                continue  # a table of its own, by name
            value = examples.get(f"{section}.{key}", _EXAMPLE) if default is None else default
            setting = f"# {toml_key(key)} = {toml_value(value)}"
            lines.append(f"{setting:<{_WIDTH}}  # {_first_sentence(kind.model_fields[key].description)}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _first_sentence(text: str | None) -> str:
    """Return the first sentence of a description, with words of the file in its own quotes."""
    return " ".join((text or "").split()).split(". ")[0].rstrip(".").replace("`", '"')
