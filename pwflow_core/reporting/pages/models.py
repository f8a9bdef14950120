"""The models: the flows in use, every flow before them, and what was decided about them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from pwflow_core.reporting.facts import PlantFacts
from pwflow_core.reporting.texts import Texts

__all__ = ["DecisionRow", "ModelsPage", "VersionRow", "make_models"]

_RUN_ID = re.compile(r"\b([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")


@dataclass(frozen=True)
class VersionRow:
    """One flow; `version` is its SHA-256, `in_force` whether it scores its regime now."""

    version: str
    key: str
    in_force: bool
    period: str
    n_rows: str
    held_out: str
    seconds: str
    kind: str
    promoted_at: str
    promoted_by: str
    reason: str


@dataclass(frozen=True)
class DecisionRow:
    """One decision about a flow, with the gain in nats that it rests on."""

    decided_at: str
    key: str
    decision: str
    version: str
    previous: str
    gain: str
    decided_by: str
    reason: str


@dataclass(frozen=True)
class ModelsPage:
    """Everything on the page."""

    in_force: tuple[VersionRow, ...]
    earlier: tuple[VersionRow, ...]
    decisions: tuple[DecisionRow, ...]


def make_models(facts: PlantFacts, texts: Texts) -> ModelsPage:
    """Make the page."""
    rows = [
        VersionRow(
            version.flow_version,
            version.cluster_key,
            bool(version.in_force),
            f"{texts.night(version.trained_from)} – {texts.night(version.trained_until)}",
            texts.number(version.n_rows),
            _nats(version.held_out_log_density, texts),
            texts.number(version.train_seconds),
            texts("models.gaussian" if version.is_gaussian else "models.flow"),
            texts.moment(version.promoted_at),
            _by(version.promoted_by),
            version.reason or "",
        )
        for version in facts.versions
    ]
    decisions = [
        DecisionRow(
            texts.moment(row.decided_at),
            row.cluster_key,
            texts.label("decision", row.decision),
            row.flow_version or "",
            row.previous_version or "",
            _gain(row.gain_recent, row.gain_recent_error, texts),
            _by(row.decided_by),
            row.reason or "",
        )
        for row in facts.decisions
    ]
    return ModelsPage(
        tuple(sorted((row for row in rows if row.in_force), key=lambda row: row.key)),
        tuple(row for row in rows if not row.in_force),
        tuple(decisions),
    )


def _nats(log_density: float | None, texts: Texts) -> str:
    if log_density is None or not math.isfinite(log_density):
        return texts("none")
    return f"{log_density:,.2f}".replace("-", "−")


def _by(who: str | None) -> str:
    """Return who decided; a run is known by the first digits of its id, as Dagster writes it."""
    return _RUN_ID.sub(r"\1", who or "")


def _gain(gain: float | None, error: float | None, texts: Texts) -> str:
    if gain is None:
        return texts("none")
    return f"{gain:+.3f}".replace("-", "−") + ("" if error is None else f" ± {error:.3f}")
