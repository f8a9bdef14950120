"""Names that several parts go by: of jobs and their ops, of assets, and of the tags of runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import dagster as dg

__all__ = [
    "ACKNOWLEDGE_CASE",
    "ANSWER_DRIFT",
    "ANSWER_VERDICTS",
    "APPROVE_REGIME",
    "ASKED",
    "CYCLES",
    "DECIDED_BY_TAG",
    "DECIDING_RUN_TAG",
    "DECISIONS",
    "DECISION_TAG",
    "DELIVER_NOTICES",
    "DISMISS",
    "LEARN_REGIMES",
    "MAINTAIN_WAREHOUSE",
    "MARK_CASE",
    "NAME_REGIME",
    "NIGHTLY",
    "NIGHTLY_SCORING",
    "PLANT_JOBS",
    "PLANT_TAG",
    "PREVIOUS",
    "PROMOTE_FLOW",
    "PRUNE_RUNS",
    "REASON_TAG",
    "RETRAIN_CLUSTER",
    "ROLL_BACK_FLOW",
    "SCORING_JOBS",
    "SEEN_TAG",
    "SHELVE_CASE",
    "SHORT_CYCLE",
    "TRAIN_AND_SCORE",
    "TRAIN_REGIMES",
    "UNDO_DECISION",
    "WHOLE_PATH",
    "asset_key",
    "flow_config",
    "op_config",
    "verdict_tags",
]

WHOLE_PATH = "whole_path"
LEARN_REGIMES = "learn_regimes"
TRAIN_AND_SCORE = "train_and_score"
TRAIN_REGIMES = "train_regimes"
NIGHTLY_SCORING = "nightly_scoring"
SHORT_CYCLE = "short_cycle"
RETRAIN_CLUSTER = "retrain_cluster"
ANSWER_DRIFT = "answer_drift"
ANSWER_VERDICTS = "answer_verdicts"
"""The op of `answer_drift`, by which its runs are configured."""
PROMOTE_FLOW = "promote_flow"
ROLL_BACK_FLOW = "roll_back_flow"
APPROVE_REGIME = "approve_regime"
DISMISS = "dismiss"
DELIVER_NOTICES = "deliver_notices"
PRUNE_RUNS = "prune_runs"
ACKNOWLEDGE_CASE = "acknowledge_case"
SHELVE_CASE = "shelve_case"
MAINTAIN_WAREHOUSE = "maintain_warehouse"
MARK_CASE = "mark_case"
UNDO_DECISION = "undo_decision"
NAME_REGIME = "name_regime"

SCORING_JOBS = (WHOLE_PATH, TRAIN_AND_SCORE, NIGHTLY_SCORING, RETRAIN_CLUSTER)
"""Jobs after which the scores are published, with all that a night finds."""

PLANT_JOBS = (
    *SCORING_JOBS,
    SHORT_CYCLE,
    LEARN_REGIMES,
    TRAIN_REGIMES,
    ANSWER_DRIFT,
    PROMOTE_FLOW,
    ROLL_BACK_FLOW,
    APPROVE_REGIME,
    DISMISS,
    DELIVER_NOTICES,
    PRUNE_RUNS,
    ACKNOWLEDGE_CASE,
    SHELVE_CASE,
    MAINTAIN_WAREHOUSE,
    MARK_CASE,
    UNDO_DECISION,
    NAME_REGIME,
)
"""All jobs of a plant."""

DECISIONS = (
    MARK_CASE,
    ACKNOWLEDGE_CASE,
    SHELVE_CASE,
    ANSWER_DRIFT,
    APPROVE_REGIME,
    DISMISS,
    UNDO_DECISION,
    NAME_REGIME,
    PROMOTE_FLOW,
    ROLL_BACK_FLOW,
)
"""Jobs by which a person decides."""

NIGHTLY = "nightly"
"""The schedule of the nightly job."""
CYCLES = "cycles"
"""The schedule of the job that scores between two nights."""

PREVIOUS = "previous"
"""Instead of a flow version: the one that was in use before."""

PLANT_TAG = "pwflow/plant"
"""Tag of a run that says which plant it is of: several may share a Dagster."""
DECISION_TAG = "pwflow/decision"
"""Tag of the jobs by which a person decides: the page `/decide` has their forms."""
REASON_TAG = "pwflow/reason"
"""Tag of a run that says why it was started."""
SEEN_TAG = "pwflow/seen"
"""Tag of a short cycle that says what the files of the source were when it was asked for."""
DECIDED_BY_TAG = "pwflow/decided_by"
"""Tag of a run that says who started it, where that is known."""
DECIDING_RUN_TAG = "pwflow/deciding_run"
"""Tag of a run that another one started, with the id of that one: what it decides, the other decides."""
ASKED = "asked"
"""Value of the tags by which the runs for one thing are found again."""


def asset_key(plant_name: str, asset: str) -> dg.AssetKey:
    """Return the key of an asset of a plant; each plant of a Dagster has its own."""
    return dg.AssetKey([plant_name, asset])


def op_config(op: str, **values: object) -> dict[str, Any]:
    """Return the run configuration that gives an op its values."""
    return {"ops": {op: {"config": values}}}


def flow_config(plant_name: str, **values: object) -> dict[str, Any]:
    """Return the run configuration that gives `cluster_flow` of a plant its values, see `ClusterFlowConfig`."""
    return op_config(f"{plant_name}__cluster_flow", **values)


def verdict_tags(verdict_ids: Iterable[str]) -> dict[str, str]:
    """Return the tags of a run that answers verdicts on drift."""
    return {f"pwflow/verdict.{verdict_id}": ASKED for verdict_id in verdict_ids}
