"""The lock beside a warehouse: taken before DuckDB opens the file, and kept by a writer until DuckDB has closed it.

DuckDB locks a file too, but too late: it reads the head of the file, which says where the last commit lies, before it
locks the file. A process that is held up between the two goes on from an old head. What another process has committed
meanwhile is not there for it, and its own commit overwrites it.
"""

from __future__ import annotations

import fcntl
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import duckdb

from pwflow_core.storage import explain_full_disk

__all__ = ["HeldError", "explain_busy", "hold", "wait_for"]

_HOLDER = re.compile(r"Conflicting lock is held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")
_BUSY = ("Could not set lock", "different configuration than existing connections")
_MOST_BYTES = 4096
_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0

_Got = TypeVar("_Got")


class HeldError(Exception):
    """Another process, or another connection of this one, holds the warehouse.

    Attributes:
        holder: The program and its process id, in words; empty if they are not known.
    """

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock for the time of the block, without waiting for it.

    The system gives it back when the process ends, however it ends. The file stays; it says who holds the lock.

    Raises:
        HeldError: It is held already.
        StorageFullError: The disk has no room for the file.
    """
    lock = _open(path)
    if lock is None:
        yield
        return
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HeldError(os.pread(lock, _MOST_BYTES, 0).decode(errors="replace")) from None
        _sign(lock, f"{sys.executable} (process {os.getpid()})")
        try:
            yield
        finally:
            _sign(lock, "")
            fcntl.flock(lock, fcntl.LOCK_UN)  # a forked child may still have it open
    finally:
        os.close(lock)


def wait_for(attempt: Callable[[], _Got], *, wait_seconds: float) -> _Got:
    """Return what `attempt` returns, trying again while it raises HeldError and time is left.

    Raises:
        HeldError: The time is up; it names the last holder that was known.
    """
    deadline = time.monotonic() + wait_seconds
    pause, holder = _FIRST_PAUSE_SECONDS, ""
    while True:
        try:
            return attempt()
        except HeldError as error:
            holder = error.holder or holder
        if (remaining := deadline - time.monotonic()) <= 0:
            raise HeldError(holder)
        time.sleep(min(remaining, pause * random.uniform(0.5, 1.0)))  # noqa: S311 - jitter, not a secret
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def explain_busy(error: duckdb.Error) -> HeldError | None:
    """Return who holds a DuckDB file, where that is why it cannot be opened."""
    if not any(sign in str(error) for sign in _BUSY):
        return None
    holder = _HOLDER.search(str(error))
    return HeldError(f"{holder['program']} (process {holder['pid']})" if holder else "")


def _open(path: Path) -> int | None:
    """Open the file, and make it if need be; None where nobody has written yet and this process may not."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        if full := explain_full_disk(error, path.parent):
            raise full from None
    with suppress(FileNotFoundError):
        return os.open(path, os.O_RDONLY)
    return None


def _sign(lock: int, holder: str) -> None:
    """Write who holds the lock; it is held all the same where that cannot be written."""
    with suppress(OSError):
        os.ftruncate(lock, 0)
        os.pwrite(lock, holder.encode(), 0)
