"""Runs: which there were, as whoever starts them records it, for people who ask in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from pwflow_core.plant import Plant
from pwflow_core.warehouse import insert_frame

__all__ = ["PlantRun", "record_runs"]


@dataclass(frozen=True)
class PlantRun:
    """A run of the plant, a row of `mart.runs`; times are UTC.

    Attributes:
        run_id: Its id.
        job: What ran.
        outcome: success, failure, canceled; started or another word for one that has not ended.
        started_at: When it started; None if it has not.
        ended_at: When it ended; None if it has not.
        seconds: How long it took; None if it has not ended.
        started_by: Who or what started it, where that is known.
        reason: Why, where that is known.
        error: Why it failed, as a sentence.
    """

    run_id: str
    job: str
    outcome: str
    started_at: datetime | None
    ended_at: datetime | None
    seconds: float | None
    started_by: str | None
    reason: str | None
    error: str | None


def record_runs(plant: Plant, runs: Sequence[PlantRun]) -> None:
    """Record runs, each in the place of what was known of it; others stay, however old they are."""
    if not runs:
        return
    with plant.warehouse.transaction() as connection:
        connection.execute(
            "DELETE FROM mart.runs WHERE list_contains($ids, run_id)", {"ids": [run.run_id for run in runs]}
        )
        frame = pd.DataFrame([vars(run) for run in runs])
        for column in ("started_at", "ended_at"):  # a column of nothing but None has no type
            frame[column] = pd.to_datetime(frame[column])
        insert_frame(connection, "mart.runs", frame.astype({"seconds": float}))
