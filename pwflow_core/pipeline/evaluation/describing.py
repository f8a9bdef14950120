"""An evaluation for reading: as a table, in words, and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from pwflow_core.errors import list_few
from pwflow_core.pipeline.evaluation.evaluation import Evaluation

__all__ = ["describe_evaluation", "tabulate_evaluation", "to_json"]


def tabulate_evaluation(evaluation: Evaluation) -> pd.DataFrame:
    """Return the evaluation as a table, one row per kind of fault and one for all."""
    return pd.DataFrame(
        {
            "fault": kind.kind,
            "faults": kind.n_faults,
            "found": kind.n_found,
            "recall": kind.recall,
            "by status": kind.n_found_by_status,
            "delay (min)": kind.delay_minutes,
            "readings": kind.n_readings,
            "not judged": kind.n_unjudged,
            "AUROC": kind.auroc,
            "avg. precision": kind.average_precision,
        }
        for kind in evaluation.kinds
    )


def describe_evaluation(evaluation: Evaluation) -> str:
    """Return in words what the table does not say."""
    what = "that the models did not learn from" if evaluation.is_unseen else "also those that the models learned from"
    return (
        f"{evaluation.n_readings:,} readings, {what}, in {evaluation.n_days:.1f} days. "
        f"{evaluation.n_false_alarms:,} false alarms, {evaluation.false_alarms_per_day:.2f} a day; of all events "
        f"{_percent(evaluation.event_precision)} touch a fault. Of {evaluation.n_healthy:,} readings in no fault, "
        f"{_percent(evaluation.healthy_share_in_alarm)} are anomalies. "
        f"Mean AUROC of machines {evaluation.mean_auroc_of_machines:.3f}.\n"
        "found: faults with an alarm in them. by status: further faults with a reading whose status is `stuck`. delay: "
        "median to the first alarm."
        + (
            f"\nThe labels name {list_few(evaluation.unknown_machines)}, which the plant does not have."
            if evaluation.unknown_machines
            else ""
        )
    )


def _percent(share: float) -> str:
    return "none" if np.isnan(share) else f"{100 * share:.2g}%"


def to_json(evaluation: Evaluation) -> str:
    """Return everything as JSON; what cannot be computed is null."""
    kinds = [asdict(kind) | {"recall": kind.recall} for kind in evaluation.kinds]
    document = asdict(evaluation) | {"kinds": kinds, "false_alarms_per_day": evaluation.false_alarms_per_day}
    document |= {name: getattr(evaluation, name) for name in ("event_precision", "healthy_share_in_alarm")}
    return json.dumps(_without_nan(document), indent=2)


def _without_nan(value: Any) -> Any:  # noqa: ANN401 - any part of a JSON document
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value
