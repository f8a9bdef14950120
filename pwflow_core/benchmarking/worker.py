"""Fit and measure one model in a process of its own, so that its peak of memory and its CPU time are its own.

    python -m pwflow_core.benchmarking.worker DATA.npz MODEL SEED [--max-steps N] [--reach NATS]

prints one line of JSON: what `measure` or, with `--reach`, `reach` returns.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from pwflow_core.benchmarking.data import BenchmarkData
from pwflow_core.benchmarking.measures import (
    bridge_mass,
    mean_and_error,
    peak_memory_mb,
    rows_per_second,
    target_bridge_mass,
)
from pwflow_core.benchmarking.models import DensityModel, build_model, step_limit
from pwflow_core.modelling.targets import TARGETS

__all__ = ["measure", "reach"]

_DRAWN = 20_000
_FIRST_BUDGET = 50


def measure(data: BenchmarkData, name: str, random_state: int, max_steps: int | None = None) -> dict[str, float | None]:
    """Fit a model on the training rows and measure it on the test rows; see `running.BenchmarkResult`."""
    model = build_model(name, random_state, max_steps)
    memory_before = peak_memory_mb()
    cpu, wall = time.process_time(), time.perf_counter()
    model.fit(data.train)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    memory = peak_memory_mb()
    log_prob = np.asarray(model.score_samples(data.test))
    finite = np.isfinite(log_prob)
    held_out, error = mean_and_error(log_prob[finite], data.block[finite])
    drawn = np.asarray(model.sample(_DRAWN)[0])
    kl = kl_error = None
    if data.target:
        target = TARGETS[data.target]()
        kl, kl_error = mean_and_error((target.log_prob(data.test) - log_prob)[finite], data.block[finite])
        bridge = target_bridge_mass(target, drawn, data.test)
    else:
        bridge = bridge_mass(drawn, data.train, data.test)
    return {
        "held_out": held_out,
        "held_out_error": error,
        "kl": kl,
        "kl_error": kl_error,
        "non_finite": int((~finite).sum()),
        "bridge_mass": bridge,
        "train_cpu_seconds": cpu,
        "train_seconds": wall,
        "peak_memory_mb": memory,
        "memory_before_mb": memory_before,
        "rows_per_second": rows_per_second(model, data.test),
        "n_parameters": _count(model),
    }


def reach(
    data: BenchmarkData, name: str, random_state: int, goal: float, max_steps: int | None = None
) -> dict[str, float | None]:
    """Find the cheapest training, among step limits that double, whose held-out log-density reaches `goal`.

    Each is a training from scratch, so the CPU seconds include everything that a user would wait for. None if
    even the full one does not reach it.
    """
    limit = max_steps or step_limit(name)
    budgets = [_FIRST_BUDGET * 2**i for i in range(32) if _FIRST_BUDGET * 2**i < limit]
    for budget in [*budgets, max_steps]:
        model = build_model(name, random_state, budget)
        started = time.process_time()
        model.fit(data.train)
        taken = time.process_time() - started
        if float(np.mean(model.score_samples(data.test))) >= goal:
            return {"seconds_to_reach": taken}
    return {"seconds_to_reach": None}


def _count(model: DensityModel) -> int:
    from pwflow_core.modelling import PiecewiseFlow
    from pwflow_core.modelling.baselines import count_parameters

    if isinstance(model, PiecewiseFlow):
        return count_parameters(model)
    return int(getattr(model, "n_parameters_", 0))


def main() -> None:
    """Run as a program."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("model")
    parser.add_argument("random_state", type=int)
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--reach", type=float)
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = BenchmarkData.load(given.data)
    if given.reach is None:
        print(json.dumps(measure(data, given.model, given.random_state, given.max_steps)))
    else:
        print(json.dumps(reach(data, given.model, given.random_state, given.reach, given.max_steps)))


if __name__ == "__main__":
    main()
