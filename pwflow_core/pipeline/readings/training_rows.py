"""Which readings the models may learn from, as SQL: valid, complete, inside the window, like the rest, and no fault."""

from __future__ import annotations

from pwflow_core.config import TrainingConfig
from pwflow_core.warehouse import in_utc

__all__ = ["LARGEST_READING_ID", "select_training_rows", "training_window"]

LARGEST_READING_ID = 2**63
"""Reading ids are spread evenly below this, so that a bound on the id draws a sample."""


def select_training_rows(config: TrainingConfig, *, with_unusual: bool = False) -> str:
    """Return the query of the readings to learn from; bind `training_window(config)` to it.

    Arguments:
        config: The window.
        with_unusual: Whether readings in stretches unlike the rest of the history belong to it, see `recurrence`.
    """
    eligible = """
        quality = 'ok'
          AND ts >= coalesce($training_start::TIMESTAMP, '-infinity'::TIMESTAMP)
          AND ts < coalesce($training_until::TIMESTAMP, 'infinity'::TIMESTAMP)
    """
    first = f"""
          AND reading_id IN (
            SELECT reading_id FROM core.readings WHERE {eligible}
            QUALIFY row_number() OVER (PARTITION BY machine_id, segment ORDER BY ts) <= $first_rows
          )
    """
    usual = "" if with_unusual else "AND reading_id NOT IN (SELECT reading_id FROM core.unusual_readings)"
    first = first if config.first_rows else ""
    sound = "AND reading_id NOT IN (SELECT reading_id FROM core.faulty_readings)"
    return f"SELECT * FROM core.model_readings WHERE is_complete AND {eligible} {usual} {sound} {first}"


def training_window(config: TrainingConfig) -> dict[str, object]:
    """Return the values that `select_training_rows` binds."""
    window: dict[str, object] = {
        "training_start": config.start and in_utc(config.start),
        "training_until": config.until and in_utc(config.until),
    }
    return window | ({"first_rows": config.first_rows} if config.first_rows else {})
