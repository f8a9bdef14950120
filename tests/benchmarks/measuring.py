"""How a benchmark is started and what it costs: command line, seconds, CPU seconds, peak memory.

Every script has `--smoke`: the same steps in seconds, on tiny data, to see that it still runs; its figures mean
nothing. `tests/test_benchmarks.py` runs each of them so.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@dataclass
class Cost:
    """What some steps took.

    Attributes:
        seconds: On the clock.
        cpu_seconds: Of this process.
        peak_mib: Largest resident memory of this process so far, in MiB.
        before_mib: The same before the steps: imports and what came first.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_mib: float = 0.0
    before_mib: float = 0.0


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure what happens inside; the figures are there afterwards."""
    cost = Cost(before_mib=_peak_mib())
    started, cpu = time.perf_counter(), time.process_time()
    yield cost
    cost.seconds, cost.cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    cost.peak_mib = _peak_mib()


def run_alone(script: str, *arguments: object) -> dict[str, float]:
    """Run a script in a process of its own, whose last line is JSON: memory of earlier steps does not count."""
    command = [sys.executable, "-W", "ignore", script, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def command_line(doc: str | None, *, data: bool = False) -> argparse.ArgumentParser:
    """Return the parser of a script, with `--smoke`, and `--data` if it reads data sets that are not in here."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="only see that it runs, in seconds, on tiny data")
    if data:
        parser.add_argument("--data", type=Path, default=DATA, help="folder of the data sets")
    return parser


def is_there(name: str, path: Path) -> bool:
    """Tell whether a data set is there; if not, say by name that it is skipped."""
    if not path.exists():
        print(f"{name}: skipped, there is no {path}", flush=True)
    return path.exists()


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)
