"""Jobs of one op: how they are made, how refusals are shown, and how the runs that they start are followed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg

from pwflow_core.errors import PwflowError
from pwflow_dagster.names import DECISION_TAG, DECISIONS, PLANT_TAG

if TYPE_CHECKING:
    from pwflow_dagster.runs import Runner, RunOutcome

__all__ = ["Runners", "follow", "job_of", "refusals"]

Runners = Callable[[dg.OpExecutionContext], "Runner"]
"""Returns what runs the jobs of a plant for an op that starts them."""


def job_of(op: dg.OpDefinition, plant_name: str, name: str, description: str) -> dg.JobDefinition:
    """Return a job of one op, which starts others: the launchpad of a job of assets ignores its configuration."""
    tags = {PLANT_TAG: plant_name} | ({DECISION_TAG: "yes"} if name in DECISIONS else {})

    @dg.job(name=name, executor_def=dg.in_process_executor, description=description, tags=tags)
    def job() -> None:
        op()

    return job


@contextmanager
def refusals() -> Iterator[None]:
    """Show what the core refuses on purpose as one sentence instead of a traceback."""
    try:
        yield
    except PwflowError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error


def follow(context: dg.OpExecutionContext, outcomes: Iterable[RunOutcome]) -> None:
    """Log the runs that an op starts, all of them; fail if one did."""
    errors = []
    for outcome in outcomes:
        context.log.info(f"{outcome.job}: run {outcome.run_id} {'failed' if outcome.error else 'succeeded'}")
        if outcome.error is not None:
            errors.append(outcome.error)
    if errors:
        raise dg.Failure(description=" ".join(errors), allow_retries=False)
