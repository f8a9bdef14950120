"""The checks of the scores: what each promises, and whether anything may be published where it does not hold.

Nothing heavy is imported here: Dagster shows this list as soon as it loads. How each is checked is in `checks`.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CHECKS", "SCHEMA_CHECK", "Check"]


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: Its name, which is that of the function in `checks`.
        promise: What must hold.
        is_blocking: Whether nothing may be published where it does not. One that only warns is about a plant or its
            storage, and not about whether the tables are right.
    """

    name: str
    promise: str
    is_blocking: bool


SCHEMA_CHECK = Check(
    "schema_is_unchanged",
    "The tables about to be published have the columns and types of the contract.",
    is_blocking=True,
)
"""The check that the others need: they look only at columns that it found to be there."""

CHECKS: tuple[Check, ...] = (
    SCHEMA_CHECK,
    Check(
        "rows_balance",
        "Every row that arrived is scored, unjudged or rejected, exactly once, in each file and in all.",
        is_blocking=True,
    ),
    Check(
        "model_sets_agree",
        "Every score comes from flows that were pinned together, and the one in use would repeat it.",
        is_blocking=True,
    ),
    Check(
        "p_values_are_uniform",
        "On readings that no training saw, p-values are uniform: those of each calibration fold by the other, and the "
        "published ones. The Kolmogorov-Smirnov distance of a regime is at most 0.1, or what chance explains.",
        is_blocking=True,
    ),
    Check(
        "alarms_within_budget",
        "No regime alarmed more than ten times as often as alpha allows in a night that was just scored. Only warns: "
        "it may be a real fault, and then its alarms have to come out.",
        is_blocking=False,
    ),
    Check(
        "alarms_not_too_few",
        "No regime has fewer alarms, on readings that it did not learn from, than alpha lets expect of normal ones, "
        "beyond chance (Poisson, 1 in 1,000). Only warns: such a regime may miss faults.",
        is_blocking=False,
    ),
    Check(
        "sensors_as_fine_as_learned",
        "No sensor of a machine comes in steps at least twice as large as in the readings that were learned from. Only "
        "warns: the readings are right, but rounding alone may make them alarm.",
        is_blocking=False,
    ),
    Check(
        "storage_is_whole",
        "Every model file can be used, and the warehouse lost nothing that was written into it. Only warns: what "
        "cannot be judged says so, and the rest has to come out.",
        is_blocking=False,
    ),
)
"""Every check, in the order in which they run."""
