"""The comparison as rows: in the warehouse, on the terminal, and as JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from pwflow_core.plant import Plant
from pwflow_core.poc.proving import Comparison
from pwflow_core.poc.results import Result
from pwflow_core.poc.sentences import headline, measured, sentence, title_of, words

__all__ = ["describe_comparison", "to_json", "write_comparison"]


def write_comparison(plant: Plant, comparison: Comparison) -> None:
    """Put the comparison into `mart.model_comparison`, in place of the one before, in one transaction."""
    with plant.warehouse.transaction() as connection:
        connection.execute("DELETE FROM mart.model_comparison")
        for row in to_rows(comparison):
            connection.execute(
                f"INSERT INTO mart.model_comparison ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
                list(row.values()),
            )


def to_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return one row per contender, by the names of the columns of `mart.model_comparison`."""
    texts, found = words("en"), comparison.recommendation
    common = {
        "recommendation": found.code,
        "reason": " ".join(sentence(remark, texts) for remark in found.reasons),
        "n_learned": None if comparison.trial is None else len(comparison.trial.learn),
        "n_held_out": None if comparison.trial is None else len(comparison.trial.held_out),
        "fault_source": None if comparison.trial is None else comparison.facts.fault_source,
        "made_at": comparison.made_at,
    }
    return [common | _row(comparison, result) for result in comparison.results]


def describe_comparison(comparison: Comparison, language: str = "en") -> str:
    """Return the comparison for a terminal: a table, the recommendation and its reasons."""
    texts, found = words(language), comparison.recommendation
    currency = comparison.costs.currency if comparison.costs else ""
    lines = [headline(found, texts)]
    lines += [f"  - {sentence(remark, texts, currency)}" for remark in (*found.reasons, *found.caveats)]
    able = [result for result in comparison.results if not result.error]
    if not able:
        return "\n".join(lines)
    columns = ("held_out", "bridge", "found", "false_alarms", "training", "nightly", "partial")
    table = pd.DataFrame(
        [_cells(result) for result in able],
        index=[title_of(result.key, texts) + (" *" if result.key == found.model else "") for result in able],
        columns=[texts(f"poc.column.{column}") for column in columns],
    )
    return "\n".join([table.to_string(), "", *lines])


def to_json(comparison: Comparison) -> str:
    """Return everything as JSON; what is not known is null."""
    document = {
        "recommendation": comparison.recommendation.code,
        "model": comparison.recommendation.model or None,
        "n_regimes": comparison.recommendation.n_regimes,
        "reasons": [{"key": r.key, **r.values} for r in comparison.recommendation.reasons],
        "caveats": [{"key": r.key, **r.values} for r in comparison.recommendation.caveats],
        "needed_readings": comparison.need.n_readings,
        "sensors": list(comparison.facts.sensors),
        "models": [
            row | {"by_kind": {} if result.detection is None else result.detection.by_kind}
            for row, result in zip(to_rows(comparison), comparison.results, strict=True)
        ],
    }
    return json.dumps(document, indent=2, default=str, ensure_ascii=False)


def _row(comparison: Comparison, result: Result) -> dict[str, Any]:
    detection, cost = result.detection, (comparison.yearly or {}).get(result.key)
    mean, error = result.held_out or (None, None)
    row = {
        "model": result.key,
        "n_regimes": result.contender.n_regimes,
        "is_recommended": result.key == comparison.recommendation.model,
        "held_out_log_density": mean,
        "held_out_error": error,
        "bridge_mass": result.figure("bridge_mass"),
        "n_faults": None if detection is None else detection.n_faults,
        "n_found": None if detection is None else detection.n_found,
        "false_alarms_per_week": None if detection is None else detection.false_per_week,
        "false_alarms_error": None if detection is None else detection.false_per_week_error,
        "alpha": None if detection is None else detection.alpha,
        "train_cpu_seconds": result.figure("train_cpu_seconds"),
        "train_seconds": result.figure("train_seconds"),
        "partial_refit_cpu_seconds": result.partial_refit_cpu_seconds,
        "peak_memory_mb": result.figure("peak_memory_mb"),
        "added_memory_mb": result.added_memory_mb,
        "nightly_cpu_seconds": result.nightly_cpu_seconds,
        "yearly_cost": None if cost is None else cost.total,
        "currency": None if comparison.costs is None else comparison.costs.currency,
        "error": result.error or None,
    }
    return {name: None if isinstance(value, float) and not np.isfinite(value) else value for name, value in row.items()}


def _cells(result: Result) -> list[str]:
    mean, detection, bridge = result.held_out, result.detection, result.figure("bridge_mass")
    return [
        "–" if mean is None else f"{mean[0]:.3f} ± {mean[1]:.3f}",
        "–" if bridge is None else f"{bridge:.2%}",
        "–" if detection is None else f"{detection.n_found} / {detection.n_faults}",
        "–" if detection is None else measured(detection.false_per_week, detection.false_per_week_error),
        _seconds(result.figure("train_cpu_seconds")),
        _seconds(result.nightly_cpu_seconds),
        _seconds(result.partial_refit_cpu_seconds),
    ]


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
