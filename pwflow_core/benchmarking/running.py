"""Run the comparison: one process per model, then the time that each needs to match the single flow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pwflow_core.benchmarking.data import BenchmarkData
from pwflow_core.benchmarking.models import MODEL_TITLES
from pwflow_core.errors import ConfigurationError

__all__ = ["BenchmarkResult", "run_benchmark", "run_worker"]

REFERENCE = "single"
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class BenchmarkResult:
    """What was measured of one model.

    Attributes:
        model: Its name.
        error: Why there are no figures, or empty.
        held_out: Mean log-density of the test rows, nats per row.
        held_out_error: Its standard error.
        kl: KL divergence from a toy target, nats; None for data of unknown density.
        kl_error: Its standard error.
        non_finite: Test rows without a finite log-density; they are left out of the means.
        bridge_mass: Share of drawn points where the data have next to nothing: see `measures`.
        train_cpu_seconds: CPU time of `fit`, one thread.
        train_seconds: Time of `fit` on the clock.
        peak_memory_mb: Most memory the process held until `fit` was done.
        memory_before_mb: The same just before `fit`: Python, the libraries and the data.
        rows_per_second: Rows scored per CPU second.
        n_parameters: Free parameters.
        seconds_to_reach: CPU seconds of the shortest training that reaches the held-out log-density of the
            single global flow; None if it does not get there or that flow was not run.

    """

    model: str
    error: str = ""
    held_out: float | None = None
    held_out_error: float | None = None
    kl: float | None = None
    kl_error: float | None = None
    non_finite: int | None = None
    bridge_mass: float | None = None
    train_cpu_seconds: float | None = None
    train_seconds: float | None = None
    peak_memory_mb: float | None = None
    memory_before_mb: float | None = None
    rows_per_second: float | None = None
    n_parameters: int | None = None
    seconds_to_reach: float | None = None


def run_benchmark(
    data: BenchmarkData,
    models: Sequence[str] = tuple(MODEL_TITLES),
    *,
    random_state: int = 0,
    max_steps: int | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> list[BenchmarkResult]:
    """Fit and measure the models, one after the other, each in a process of its own with one thread.

    Arguments:
        data: What to learn from and what to be judged on.
        models: Keys of `MODEL_TITLES`.
        random_state: Seed of every model.
        max_steps: Most gradient steps of a flow, for a quick look; every model's own limit by default.
        on_progress: Called with one line when something has been done.

    Returns:
        One result per model, in the same order. A model that fails has an `error` and no figures.

    Raises:
        ConfigurationError: A model is not known, or none is given.

    """
    if unknown := [name for name in models if name not in MODEL_TITLES]:
        raise ConfigurationError(f"Expected models among {', '.join(MODEL_TITLES)}, got {unknown[0]!r}.")
    if not models:
        raise ConfigurationError(f"Expected at least one model among {', '.join(MODEL_TITLES)}, got none.")
    say = on_progress or (lambda _: None)
    models = list(dict.fromkeys(models))
    figures: dict[str, dict[str, Any]] = {}
    options = () if max_steps is None else ("--max-steps", str(max_steps))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data.npz"
        data.save(file)
        for name in models:
            say(f"{MODEL_TITLES[name]}: training on {len(data.train):,} rows")
            figures[name] = _run_worker(file, name, random_state, *options)
            say(f"{MODEL_TITLES[name]}: {_sentence(figures[name])}")
        goal = figures.get(REFERENCE, {}).get("held_out")
        for name in models if goal is not None else ():
            found = figures[name]
            if name in (REFERENCE, "gmm") and found.get("held_out", -float("inf")) >= goal:
                found["seconds_to_reach"] = found["train_cpu_seconds"]
            elif found.get("held_out", -float("inf")) >= goal:
                say(f"{MODEL_TITLES[name]}: how soon does it reach the single flow's {goal:.3f} nats?")
                found |= _run_worker(file, name, random_state, *options, "--reach", repr(goal))
    return [BenchmarkResult(name, **figures[name]) for name in models]


def _run_worker(file: Path, name: str, random_state: int, *options: str) -> dict[str, Any]:
    return run_worker("pwflow_core.benchmarking.worker", [str(file), name, str(random_state), *options])


def run_worker(module: str, arguments: Sequence[str], given: str = "") -> dict[str, Any]:
    """Run a module as a process of its own, with one thread, and return what its last line says as JSON.

    Arguments:
        module: Name of the module.
        arguments: Of its command line.
        given: What it reads.

    Returns:
        What it printed, or, if it failed, why, under `error`.
    """
    command = [sys.executable, "-m", module, *arguments]
    environment = os.environ | dict.fromkeys(_THREADS, "1")
    package = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(  # noqa: S603 - our own
        command, env=environment, input=given, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    if done.returncode < 0:
        return {"error": f"its process was ended by signal {-done.returncode}, perhaps for want of memory"}
    lines = done.stderr.strip().splitlines()
    return {"error": lines[-1] if lines else f"its process ended with exit code {done.returncode}"}


def _sentence(found: dict[str, Any]) -> str:
    if "error" in found:
        return f"failed: {found['error']}"
    return f"{found['held_out']:.3f} nats on held-out rows after {found['train_cpu_seconds']:.1f} CPU seconds"
