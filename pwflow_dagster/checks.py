"""Asset checks: what must hold of the scores before they are published.

They run with `anomaly_scores` in every job and on every click. A check that blocks fails the run before anything
downstream starts, so that what was published before stays in force. What they check is in `pwflow_core`.
"""

from collections.abc import Iterator

import dagster as dg

from pwflow_dagster.resources import PlantResource
from pwflow_dagster.steps import running

__all__ = ["build_checks", "failed_check_sentences"]

_DESCRIPTIONS = {
    "rows_balance": "Every row that arrived is scored, unjudged or rejected, exactly once, in each file and in all.",
    "p_values_are_uniform": (
        "On readings that no flow learned from and no calibration used, p-values are uniform: the Kolmogorov-Smirnov "
        "distance of a regime is at most the larger of 0.1 and 2.5 / sqrt(time blocks)."
    ),
    "schema_is_unchanged": "The tables about to be published have the columns and types of the contract.",
    "model_sets_agree": "Every score comes from flows that were pinned together, and the one in force would repeat it.",
    "alarms_within_budget": (
        "No regime alarmed more than ten times as often as alpha allows in a night that was just scored. Only warns: "
        "it may be a real fault, and then its alarms have to come out."
    ),
    "storage_is_whole": (
        "Every model file can be used, and the warehouse lost nothing that was written into it. Only warns: what "
        "cannot be judged says so, and the rest has to come out."
    ),
}
_ONLY_WARN = ("alarms_within_budget", "storage_is_whole")


def build_checks(plant_name: str) -> list[dg.AssetChecksDefinition]:
    """Return the checks of a plant, all in one step, on one snapshot."""
    scores_key = dg.AssetKey([plant_name, "anomaly_scores"])

    @dg.multi_asset_check(
        name=f"{plant_name}__checks",
        specs=[
            dg.AssetCheckSpec(name, asset=scores_key, description=description, blocking=name not in _ONLY_WARN)
            for name, description in _DESCRIPTIONS.items()
        ],
    )
    def checks(
        context: dg.AssetCheckExecutionContext, plant: dg.ResourceParam[PlantResource]
    ) -> Iterator[dg.AssetCheckResult]:
        from pwflow_core.pipeline.scoring.checks import check_scores

        with running(context):
            for result in check_scores(plant.open()):
                if not result.passed:
                    context.log.warning(result.sentence)
                yield dg.AssetCheckResult(
                    passed=result.passed,
                    asset_key=scores_key,
                    check_name=result.name,
                    severity=dg.AssetCheckSeverity.ERROR if result.is_blocking else dg.AssetCheckSeverity.WARN,
                    description=result.sentence,
                    metadata=dict(result.figures),
                )

    return [checks]


def failed_check_sentences(result: dg.ExecuteInProcessResult, *, blocking: bool) -> list[str]:
    """Return what the checks of a run that failed have to say: those that block, or those that only warn."""
    severity = dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN
    return [
        str(check.description)
        for check in result.get_asset_check_evaluations()
        if not check.passed and check.severity is severity
    ]
