"""What every asset body does around its one call of the core: logs and errors."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg

from pwflow_core.errors import PwflowError, WarehouseInterruptedError
from pwflow_core.redaction import SecretsFilter, hide_secrets
from pwflow_dagster.names import DECIDED_BY_TAG, DECIDING_RUN_TAG

if TYPE_CHECKING:
    from pwflow_core.pipeline.decisions.verdicts import Decider

__all__ = ["decided_by", "decider", "deciding_run", "running"]

_CORE_LOGGER = logging.getLogger("pwflow")
_log = logging.getLogger("pwflow.steps")

_N_REPEATS = 2
_PAUSE_SECONDS = 5.0


class _ToRun(logging.Handler):
    """Forwards what the core logs to the event log of the run."""

    def __init__(self, context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> None:
        super().__init__(logging.INFO)
        self.addFilter(SecretsFilter())
        self._context = context

    def emit(self, record: logging.LogRecord) -> None:
        self._context.log.log(record.levelno, record.getMessage())


def decided_by(run: dg.DagsterRun) -> str:
    """Return who or what decides in a run: a person where that is known, else the run."""
    return run.tags.get(DECIDED_BY_TAG, f"dagster run {run.run_id}")


def decider(run: dg.DagsterRun) -> Decider:
    """Return who or what decides in a run, with the run itself."""
    from pwflow_core.pipeline.decisions.verdicts import Decider

    return Decider(decided_by(run), run.run_id)


def deciding_run(run: dg.DagsterRun) -> str:
    """Return the id of the run that decides in a run: the one that started it where there is one, else itself."""
    return run.tags.get(DECIDING_RUN_TAG, run.run_id)


@contextmanager
def running(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> Iterator[None]:
    """Show the core's progress in the run, and its errors as one sentence instead of a traceback.

    Raises:
        Failure: The core refused on purpose; the description says what to do next. Or its error holds a secret, which
            is hidden.
        RetryRequested: The connection to the warehouse was lost, with nothing written: the step is repeated.
    """
    handler = _ToRun(context)
    level = _CORE_LOGGER.level
    _CORE_LOGGER.addHandler(handler)
    _CORE_LOGGER.setLevel(logging.INFO)
    started = time.perf_counter()
    try:
        yield
    except WarehouseInterruptedError as error:
        if context.op_execution_context.retry_number >= _N_REPEATS:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        _log.warning("%s The step is repeated.", error)
        raise dg.RetryRequested(max_retries=_N_REPEATS, seconds_to_wait=_PAUSE_SECONDS) from error
    except PwflowError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    except Exception as error:
        if hide_secrets(text := f"{type(error).__name__}: {error}") == text:
            raise
        raise dg.Failure(description=hide_secrets(text), allow_retries=False) from None
    finally:
        _CORE_LOGGER.removeHandler(handler)
        _CORE_LOGGER.setLevel(level)
        name = context.op_execution_context.op_handle.name.split("__")[-1]
        _log.info("%s: %.1f s", name, time.perf_counter() - started, extra={"is_step_end": True})
