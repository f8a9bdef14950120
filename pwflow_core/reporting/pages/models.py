"""The models: the flows in force, every flow before them, and what was decided about them."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from pwflow_core.reporting.facts import PlantFacts
from pwflow_core.reporting.texts import Texts

__all__ = ["DecisionRow", "ModelsPage", "VersionRow", "make_models"]


@dataclass(frozen=True)
class VersionRow:
    """One flow; `version` is its SHA-256, `in_force` whether it scores its regime now."""

    version: str
    key: str
    in_force: bool
    trained_at: str
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
            str(version.flow_version),
            str(version.cluster_key),
            version.in_force is True or bool(version.in_force),
            texts.moment(version.trained_at),
            f"{texts.night(version.trained_from)} – {texts.night(version.trained_until)}",
            texts.number(version.n_rows),
            texts.number(version.held_out_log_density),
            texts.number(version.train_seconds),
            texts("models.gaussian" if version.is_gaussian else "models.flow"),
            texts.moment(version.promoted_at),
            _text(version.promoted_by),
            _text(version.reason),
        )
        for version in facts.versions.itertuples()
    ]
    decisions = [
        DecisionRow(
            texts.moment(row.decided_at),
            str(row.cluster_key),
            texts.label("decision", row.decision),
            _text(row.flow_version),
            _text(row.previous_version),
            _gain(row.gain_recent, row.gain_recent_error, texts),
            _text(row.decided_by),
            _text(row.reason),
        )
        for row in facts.decisions.itertuples()
    ]
    return ModelsPage(
        tuple(sorted((row for row in rows if row.in_force), key=lambda row: row.key)),
        tuple(row for row in rows if not row.in_force),
        tuple(decisions),
    )


def _text(value: object) -> str:
    return "" if value is None or pd.isna(value) else str(value)  # type: ignore[call-overload]


def _gain(gain: float, error: float, texts: Texts) -> str:
    if pd.isna(gain):
        return texts("none")
    return f"{gain:+.3f}".replace("-", "−") + ("" if pd.isna(error) else f" ± {error:.3f}")
