"""Files on their way: working folders that no killed step leaves behind for good, durable writes, full disks.

A step that is killed cannot remove its files. The next one that works in the same place does: the lock on a folder goes
with the process that held it.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pwflow_core.errors import StorageFullError

__all__ = [
    "explain_full_disk",
    "flush",
    "remove_leftovers",
    "replace_file",
    "replacing",
    "spill_folder",
    "working_folder",
]

_FULL = {errno.ENOSPC: "is full", errno.EDQUOT: "has no quota left", errno.EFBIG: "takes no larger file"}
_LEFTOVER = re.compile(r"\.pwflow-[a-z]+-[a-z0-9_]{8}")
_spills = itertools.count()


@contextmanager
def working_folder(parent: Path, purpose: str) -> Iterator[Path]:
    """Make a hidden folder in `parent` for the time of the block; remove those of processes that are gone.

    Arguments:
        parent: An existing folder.
        purpose: What it is for, one word.
    """
    remove_leftovers(parent)
    folder, lock = _make_locked(parent, purpose)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_leftovers(parent: Path) -> None:
    """Remove the working folders in `parent` whose processes are gone."""
    for found in parent.iterdir():
        if _LEFTOVER.fullmatch(found.name):
            _remove_if_left(found)


def spill_folder(parent: Path) -> Path:
    """Return where one DuckDB may spill, and remove what processes left there that are gone; it is not made.

    Each has a folder of its own: up to version 1.5, two that share one write into the same files.
    """
    mine = f"{socket.gethostname()}-"
    for found in parent.glob(f"{mine}*"):
        pid = found.name.removeprefix(mine).split("-")[0]
        if pid.isdecimal() and not _is_alive(int(pid)):
            shutil.rmtree(found, ignore_errors=True)
    return parent / f"{mine}{os.getpid()}-{next(_spills)}"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # of another user
    return True


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a place to write a file; at the end of the block it is flushed to the disk and moved to `target`, whole.

    A block that raises, or writes nothing, leaves what was at `target`.
    """
    with working_folder(target.absolute().parent, "incoming") as folder:
        fresh = folder / target.name  # not mkstemp: whoever shares the folder has to read the file
        yield fresh
        if not fresh.exists():
            return
        flush(fresh)
        fresh.replace(target)
    flush(target.absolute().parent)


def replace_file(target: Path, data: bytes) -> None:
    """Write a file as a whole, see `replacing`.

    Raises:
        StorageFullError: The disk is full; a file that was there before is as it was.
    """
    try:
        with replacing(target) as fresh:
            fresh.write_bytes(data)
    except OSError as error:
        raise explain_full_disk(error, target.parent) or error from None


def explain_full_disk(error: Exception, path: Path | str) -> StorageFullError | None:
    """Return what to say of an error if it means that the disk of a path is full; None if it means something else."""
    number = error.errno if isinstance(error, OSError) else None
    if number not in _FULL:  # DuckDB passes on the words of the system alone
        number = next((known for known in _FULL if os.strerror(known) in str(error)), None)
    if number is None:
        return None
    return StorageFullError(
        f"The disk of {path} {_FULL[number]} ({os.strerror(number)}): make room there and run again. What was there "
        "before is as it was."
    )


def flush(path: Path) -> None:
    """Flush what a file holds, or which entries a folder has, to the disk."""
    entry = os.open(path, os.O_RDONLY)
    try:
        os.fsync(entry)
    finally:
        os.close(entry)


def _make_locked(parent: Path, purpose: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=f".pwflow-{purpose}-"))
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue  # another process took it for a leftover before it was locked
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)


def _remove_if_left(found: Path) -> None:
    try:
        lock = os.open(found, os.O_RDONLY)
    except OSError:
        return  # removed meanwhile, or not ours to remove
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return  # in use
    else:
        shutil.rmtree(found, ignore_errors=True)
    finally:
        os.close(lock)
