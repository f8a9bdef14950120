"""The lock beside a warehouse: taken before DuckDB opens the file, and kept by a writer until DuckDB has closed it.

DuckDB locks a file too, but too late: it reads the head of the file, which says where the last commit lies, before it
locks the file. A process that is held up between the two goes on from an old head. What another process has committed
meanwhile is not there for it, and its own commit overwrites it.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pwflow_core.storage import explain_full_disk

__all__ = ["HeldError", "hold"]

_MOST_BYTES = 4096


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
