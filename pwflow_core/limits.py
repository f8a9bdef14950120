"""Limits of a whole process that runs what others wrote: some functions of DuckDB heed no limit of its own."""

from __future__ import annotations

import os
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["limited_process"]

_ROOM_BYTES = 1 << 30
"""For the program itself; a query gets its own limit on top."""
_GRACE_SECONDS = 5.0


@contextmanager
def limited_process(memory_bytes: int, seconds: float) -> Iterator[None]:
    """Bound the memory of this process, and end it if the block takes longer and cannot be interrupted.

    Arguments:
        memory_bytes: What the block may allocate, in addition to a gigabyte for the program.
        seconds: When the block should have ended by itself; the process is ended five seconds later.
    """
    alarm = threading.Timer(seconds + _GRACE_SECONDS, _end, [seconds])
    alarm.daemon = True
    before = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux":
        most = _address_space_bytes() + memory_bytes + _ROOM_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    alarm.start()
    try:
        yield
    finally:
        alarm.cancel()
        resource.setrlimit(resource.RLIMIT_AS, before)


def _address_space_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def _end(seconds: float) -> None:
    print(f"Error: The query did not stop after {seconds:g} s, and was ended.", file=sys.stderr, flush=True)
    os._exit(1)
