"""What every asset body does besides its one call of the core: logs, errors, and events per cluster."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg

from pwflow_core.errors import PwflowError

__all__ = ["report_cluster", "running"]

_CORE_LOGGER = logging.getLogger("pwflow")


class _ToRun(logging.Handler):
    """Forwards what the core logs to the event log of the run."""

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        super().__init__(logging.INFO)
        self._context = context

    def emit(self, record: logging.LogRecord) -> None:
        self._context.log.log(record.levelno, record.getMessage())


@contextmanager
def running(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Show the core's progress in the run, and its errors as one sentence instead of a traceback.

    Raises:
        Failure: The core refused on purpose; the description says what to do next.
    """
    handler = _ToRun(context)
    level = _CORE_LOGGER.level
    _CORE_LOGGER.addHandler(handler)
    _CORE_LOGGER.setLevel(logging.INFO)
    try:
        yield
    except PwflowError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    finally:
        _CORE_LOGGER.removeHandler(handler)
        _CORE_LOGGER.setLevel(level)


def report_cluster(context: dg.AssetExecutionContext, key: str, metadata: Mapping[str, Any]) -> None:
    """Record what was done for one cluster on its partition, whether or not the run names partitions."""
    if context.has_partition_key or context.has_partition_key_range:
        context.add_asset_metadata(dict(metadata), partition_key=key)
    else:
        context.log_event(dg.AssetMaterialization(context.asset_key, partition=key, metadata=dict(metadata)))
