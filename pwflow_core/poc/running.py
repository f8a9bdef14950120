"""Fit the contenders, each in a process of its own, as many at once as there are cores for, and say how far it is."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

from pwflow_core.benchmarking.running import run_worker
from pwflow_core.config import PlantConfig
from pwflow_core.poc.detection import detect
from pwflow_core.poc.results import Result
from pwflow_core.poc.trial import Trial
from pwflow_core.poc.worker import Figures, Job, Scores

__all__ = ["judge", "run_trial"]

_MOST_AT_ONCE = 2


def run_trial(
    trial: Trial, jobs: Sequence[Job], config: PlantConfig, on_progress: Callable[[str], None] | None = None
) -> list[Result]:
    """Fit and measure the contenders.

    Arguments:
        trial: What they learn from and are judged on.
        jobs: What to fit.
        config: The configuration of the plant: what an event is.
        on_progress: Called with one line when something has been done.

    Returns:
        One result per job, in the same order. A contender that fails has an `error` and no figures.
    """
    say = on_progress or (lambda _: None)
    at_once = min(_MOST_AT_ONCE, _cores())
    done: dict[int, Result] = {}
    started, total = time.monotonic(), sum(job.contender.expected_seconds for job in jobs)
    say(f"{len(jobs)} models on {len(trial.learn):,} readings, {at_once} at once")
    longest_first = sorted(range(len(jobs)), key=lambda place: -jobs[place].contender.expected_seconds)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(at_once) as pool:
        file = Path(folder) / "trial.npz"
        trial.save(file)
        waiting = {pool.submit(_run, file, jobs[place], place): place for place in longest_first}
        try:
            for future in as_completed(waiting):
                place = waiting[future]
                figures, scores = future.result()
                done[place] = judge(trial, jobs[place], config, figures, scores)
                share = sum(jobs[i].contender.expected_seconds for i in done) / total
                taken = time.monotonic() - started
                say(f"{len(done)} of {len(jobs)}: {_sentence(done[place])}{_left(taken, share)}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [done[place] for place in range(len(jobs))]


def judge(trial: Trial, job: Job, config: PlantConfig, figures: dict[str, Any], scores: Scores) -> Result:
    """Make a result of what a worker measured.

    Arguments:
        trial: What it was measured on.
        job: What was fitted.
        config: The configuration of the plant.
        figures: Figures, or an `error`.
        scores: Scores by name; empty with an error.
    """
    if error := figures.get("error"):
        return Result(job.contender, error=str(error))
    if not all(np.isfinite(score).all() for score in scores.values()):
        return Result(job.contender, error="it gave some readings no finite score")
    night = trial.facts.readings_per_week / 7
    return Result(
        job.contender,
        log_density=scores["log_density"],
        block=trial.held_out_block,
        detection=detect(trial, scores["calibration"], scores["judged"], config.events),
        figures=figures,
        nightly_cpu_seconds=night / figures["rows_per_second"],
    )


def _run(file: Path, job: Job, place: int) -> tuple[Figures, Scores]:
    target = file.with_name(f"scores{place}.npz")
    figures = run_worker("pwflow_core.poc.worker", [str(file), str(target)], job.to_json())
    if "error" in figures:
        return figures, {}
    with np.load(target) as arrays:
        return figures, dict(arrays)


def _sentence(result: Result) -> str:
    if result.error:
        return f"{result.key} failed: {result.error}"
    return f"{result.key} after {result.figure('train_cpu_seconds'):.1f} CPU seconds of training"


def _left(taken: float, share: float) -> str:
    left = taken / share * (1 - share)
    if left < 1:
        return ""
    return f"; about {left / 60:.0f} minutes left" if left > 90 else f"; about {left:.0f} seconds left"


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
