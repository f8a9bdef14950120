"""The errors that pwflow raises on purpose.

Every message says what was expected, what came, where, and what to do next, in words that a process
engineer can act on. Each class derives from `PwflowError` and from the builtin that a caller would expect.
"""

from __future__ import annotations

from collections.abc import Sequence

from pwflow_core.redaction import hide_secrets

__all__ = [
    "ChecksFailedError",
    "ConfigurationError",
    "LabelsError",
    "LiveStoreError",
    "MemoryLimitError",
    "MissingColumnError",
    "ModelFileError",
    "NotFittedError",
    "NotificationError",
    "OutboxError",
    "PromotionError",
    "PwflowError",
    "QueryError",
    "RegimeError",
    "SchemaMismatchError",
    "SourceError",
    "StorageFullError",
    "TooFewReadingsError",
    "UnknownClusterError",
    "UnknownEventError",
    "UnknownMachineError",
    "UnknownStretchError",
    "UnknownVerdictError",
    "UnknownVersionError",
    "VerdictStatusError",
    "WarehouseDamagedError",
    "WarehouseInterruptedError",
    "WarehouseLockedError",
    "WarehouseUnreachableError",
    "WarehouseVersionError",
    "first_line",
    "list_few",
]


class PwflowError(Exception):
    """Base of every error that pwflow raises on purpose; its message holds no secret of a URL or a query."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(hide_secrets(a) if isinstance(a, str) else a for a in arguments))


class ConfigurationError(PwflowError, ValueError):
    """A key of `pwflow.toml` is unknown, missing, or has a value that cannot be used."""


class LabelsError(PwflowError, ValueError):
    """Labels cannot be read, or do not belong to the readings of the plant."""


class ChecksFailedError(PwflowError, ValueError):
    """The scores did not pass a check that they must pass before they are published."""


class SourceError(PwflowError, ValueError):
    """The source of readings cannot be read: no file matches, no such column, nothing numeric."""


class MissingColumnError(SourceError):
    """A file of the source lacks a column.

    Attributes:
        known: The columns that it has.
    """

    def __init__(self, message: str, known: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.known = known


class QueryError(PwflowError, ValueError):
    """A query on the published tables cannot be answered."""


class SchemaMismatchError(PwflowError, ValueError):
    """Readings do not have the sensors that a model was trained on."""


class NotFittedError(PwflowError, ValueError, AttributeError):
    """Something was asked of a model, or of a warehouse, that has learned nothing yet."""


class ModelFileError(PwflowError, ValueError):
    """A model file is missing, damaged, or not the one that its name says."""


class UnknownClusterError(PwflowError, LookupError):
    """A cluster key is not one of the clusters in use."""


class UnknownVersionError(PwflowError, LookupError):
    """A flow version is not one of those of its cluster, or its first digits fit several."""


class UnknownEventError(PwflowError, LookupError):
    """An event is not one of `mart.anomaly_events`."""


class UnknownMachineError(PwflowError, LookupError):
    """A machine is not one of those that readings came from."""


class UnknownVerdictError(PwflowError, LookupError):
    """A verdict is not one of `mart.drift_verdicts`, or of a kind that cannot be answered like this."""


class UnknownStretchError(PwflowError, LookupError):
    """A stretch is not one of `mart.unusual_stretches`."""


class UnknownCaseError(PwflowError, LookupError):
    """A case is not one of `mart.cases`, or its first digits fit several."""


class CaseStateError(PwflowError, ValueError):
    """A case cannot change to the state that is asked for, see `cases.lifecycle.TRANSITIONS`."""


class PromotionError(PwflowError, ValueError):
    """A flow cannot be put in use."""


class RegimeError(PwflowError, ValueError):
    """The regimes of a segment cannot be changed as asked."""


class TooFewReadingsError(RegimeError):
    """There are not enough readings for a regime of their own."""


class VerdictStatusError(RegimeError):
    """A verdict cannot change to the status that is asked for, see `decisions.verdicts.TRANSITIONS`."""


class OutboxError(PwflowError, OSError):
    """The outbox cannot be read or written, or a newer release wrote it."""


class LiveStoreError(PwflowError, OSError):
    """The live scores of the watch cannot be read or written, or another watch is at work."""


class NotificationError(PwflowError, OSError):
    """A target did not take a message, or cannot be reached as it is configured."""


class WarehouseLockedError(PwflowError, TimeoutError):
    """Another process held the warehouse for longer than the configured wait."""


class WarehouseDamagedError(PwflowError, OSError):
    """The warehouse cannot be read, or lacks what was written into it."""


class WarehouseUnreachableError(PwflowError, ConnectionError):
    """The server or store of the warehouse does not answer."""


class WarehouseInterruptedError(WarehouseUnreachableError):
    """A transaction ended without a trace, for its connection was lost or somebody else wrote; it may be repeated."""


class WarehouseVersionError(PwflowError, ValueError):
    """The warehouse was written by a newer release."""


class MemoryLimitError(PwflowError, MemoryError):
    """A step needs more memory than it may use, or than there is; nothing of it was written."""


class StorageFullError(PwflowError, OSError):
    """A disk is full; what was there before is as it was."""


def first_line(error: Exception) -> str:
    """Return the first line of an error of DuckDB, without its class and its full stop, for use inside a sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].split("Error: ", 1)[-1].rstrip(".")


def count(number: int, one: str, many: str = "") -> str:
    """Return a number with what it counts, for use inside a sentence: `1 case`, `1,200 cases`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def list_few(names: Sequence[object], most: int = 3) -> str:
    """Return the first of some names, and how many more there are, for use inside a sentence."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more
