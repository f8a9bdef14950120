"""Asset checks: what must hold of the scores before they are published.

They run with `anomaly_scores` in every job and on every click. A check that blocks fails the run before anything
downstream starts, so that what was published before stays in use. Which there are is said in `pwflow_core`.
"""

from collections.abc import Iterator, Sequence

import dagster as dg

from pwflow_core.pipeline.scoring.check_list import CHECKS
from pwflow_dagster.names import asset_key
from pwflow_dagster.resources import PlantResource
from pwflow_dagster.steps import running

__all__ = ["build_checks", "failed_check_sentences"]


def build_checks(plant_name: str) -> list[dg.AssetChecksDefinition]:
    """Return the checks of a plant, all in one step, on one snapshot."""
    scores_key = asset_key(plant_name, "anomaly_scores")

    @dg.multi_asset_check(
        name=f"{plant_name}__checks",
        specs=[
            dg.AssetCheckSpec(check.name, asset=scores_key, description=check.promise, blocking=check.is_blocking)
            for check in CHECKS
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


def failed_check_sentences(events: Sequence[dg.DagsterEvent], *, blocking: bool) -> list[str]:
    """Return what the checks of a run that failed have to say: those that block, or those that only warn."""
    severity = dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN
    made = [
        event.asset_check_evaluation_data
        for event in events
        if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ]
    return [str(check.description) for check in made if not check.passed and check.severity is severity]
