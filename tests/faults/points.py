"""Points at which a process can die: before and after each commit, ledger write, rename and flush to the disk.

Loaded by a process that is to die (`stem.py`), not by the tests: it changes what these words mean there.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import duckdb

from pwflow_core.warehouse import file

_STEPS = {
    (os, "rename"): "rename",
    (os, "replace"): "replacement",
    (os, "fsync"): "flush",
    (file, "write_ledger"): "ledger write",
}
_PLUMBING = ("pwflow_core.storage", "pwflow_core.warehouse.file", "pwflow_core.warehouse.base")


def arm(kill_at: int | str | None = None) -> list[str]:
    """Have this process killed at its n-th point, or the first of a name; return the list that those it comes by go to.

    A point is named by what happens and by the function of pwflow that has it done.
    """
    come_by: list[str] = []

    def pass_point(name: str) -> None:
        come_by.append(f"{name} of {_find_caller()}")
        if kill_at in (len(come_by), come_by[-1]):
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(function: Callable, name: str) -> Callable:
        def watched(*arguments, **options):
            pass_point(f"before a {name}")
            result = function(*arguments, **options)
            pass_point(f"after a {name}")
            return result

        return watched

    for (owner, name), step in _STEPS.items():
        setattr(owner, name, watch(getattr(owner, name), step))
    committed = file.committed

    @contextmanager
    def committing(opened: duckdb.DuckDBPyConnection) -> Iterator[None]:
        with committed(opened):
            yield
            pass_point("before a commit")
        pass_point("after a commit")

    file.committed = committing
    return come_by


def _find_caller() -> str:
    """Return the function of pwflow that is nearest, but for those that any writer goes through."""
    caller = sys._getframe(1)
    while caller.f_back and (
        not (module := caller.f_globals.get("__name__", "")).startswith("pwflow_core.") or module in _PLUMBING
    ):
        caller = caller.f_back
    return caller.f_code.co_qualname
