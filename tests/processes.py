"""Processes of their own for tests, forked from one that has imported everything: `stem.py`."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pwflow_core.plant import Plant

REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (negative: the signal), its seconds, what it printed."""

    code: int
    seconds: float
    output: str
    errors: str = ""

    @property
    def was_killed(self) -> bool:
        return self.code == -signal.SIGKILL


def python_path() -> str:
    """Return where a process of its own finds this repository, and what this process puts before everything else."""
    return os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(REPOSITORY))))


def clean_environment() -> dict[str, str]:
    """Return the environment without what points at another plant or another Dagster instance."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PWFLOW_", "DAGSTER_"))}


class Stem:
    """Runs code on a plant and commands in processes of their own, and kills them on demand."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        environment = {**clean_environment(), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("stem.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment | {"PYTHONPATH": python_path()},
        )
        assert self._read() == "ready"

    def run(self, plant: Plant, code: str, *, kill_after: float | None = None, file_limit: int | None = None) -> Ended:
        """Run code to its end, or kill it with SIGKILL after so many seconds; no file may grow beyond `file_limit`."""
        return self._fork(plant.config.folder, {"code": code}, kill_after=kill_after, file_limit=file_limit)

    def command(
        self, folder: Path, *words: str, environment: Mapping[str, str] | None = None, errors: Path | None = None
    ) -> Ended:
        """Run `pwflow WORDS` in a folder; its errors go to a file such as a terminal if one is named."""
        given = {**(clean_environment() if environment is None else environment)}
        errors = errors or self._folder / "errors.txt"
        return self._fork(folder, {"words": words, "environment": given, "errors": str(errors)})

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=120)

    def _fork(
        self,
        folder: Path,
        task: Mapping[str, object],
        *,
        kill_after: float | None = None,
        file_limit: int | None = None,
    ) -> Ended:
        output = self._folder / "output.txt"
        given = {"folder": str(folder), "output": str(output), "errors": None, "file_limit": file_limit, "words": None}
        self._process.stdin.write(json.dumps({**given, **task}) + "\n")
        self._process.stdin.flush()
        pid = int(self._read())
        if kill_after is not None and not select.select([self._process.stdout], [], [], kill_after)[0]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        status, seconds = json.loads(self._read())
        return Ended(status, seconds, _take(output), _take(self._folder / "errors.txt"))

    def _read(self) -> str:
        return self._process.stdout.readline().strip()


def _take(file: Path) -> str:
    text = file.read_text() if file.exists() else ""
    file.unlink(missing_ok=True)
    return text


@contextlib.contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size: what a quota does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    earlier = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, earlier)
