"""Fit and measure one contender in a process of its own, so that its peak of memory and its CPU time are its own.

    python -m pwflow_core.poc.worker TRIAL.npz SCORES.npz < JOB.json

prints one line of JSON, what `measure` returns, and writes the scores of the contender to SCORES.npz.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pwflow_core.benchmarking.measures import bridge_mass, peak_memory_mb, rows_per_second
from pwflow_core.config import FlowConfig
from pwflow_core.poc.contenders import Contender, Fitted, build_contender

if TYPE_CHECKING:
    from pwflow_core.modelling import PiecewiseFlow

__all__ = ["Job", "measure"]

Array = NDArray[np.float64]
Figures = dict[str, float | None]
Scores = dict[str, Array]

_DRAWN = 20_000


@dataclass(frozen=True)
class Job:
    """What a worker is told to do.

    Attributes:
        contender: Which one to fit.
        flow: How the configuration builds flows.
        random_state: Seed.
        max_steps: Most gradient steps of a flow, if fewer than by default.
    """

    contender: Contender
    flow: FlowConfig
    random_state: int = 0
    max_steps: int | None = None

    def to_json(self) -> str:
        """Return it as JSON."""
        return json.dumps(
            {
                "kind": self.contender.kind,
                "n_regimes": self.contender.n_regimes,
                "flow": self.flow.model_dump(mode="json"),
                "random_state": self.random_state,
                "max_steps": self.max_steps,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Return what `to_json` wrote."""
        values = json.loads(text)
        contender = Contender(values["kind"], values["n_regimes"])
        return cls(contender, FlowConfig(**values["flow"]), values["random_state"], values["max_steps"])


def measure(arrays: Mapping[str, Array], job: Job) -> tuple[Figures, Scores]:
    """Fit a contender and measure it.

    Arguments:
        arrays: `learn`, `held_out`, `calibration` and `judged` of a `Trial`.
        job: What to fit.

    Returns:
        Figures by name: `bridge_mass` (None without a density), `train_cpu_seconds`, `train_seconds`,
        `partial_cpu_seconds` (None where no part can be learned alone), `peak_memory_mb`, `memory_before_mb` and
        `rows_per_second`. And its scores: `log_density` of the held-out readings (empty without a density), and
        `calibration` and `judged`, which alarms are made from, higher is more normal.
    """
    contender = job.contender
    model = build_contender(contender, job.flow, job.random_state, job.max_steps)
    learn, held_out = arrays["learn"], arrays["held_out"]
    memory_before = peak_memory_mb()
    cpu, wall = time.process_time(), time.perf_counter()
    model.fit(learn)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    memory = peak_memory_mb()
    scores = _alarm_scores(model, arrays["calibration"], arrays["judged"])
    scores["log_density"] = model.score_samples(held_out) if contender.has_density else np.empty(0)
    bridge = None
    if contender.has_density:
        bridge = bridge_mass(np.asarray(model.sample(_DRAWN)[0]), learn, held_out)  # type: ignore[attr-defined]
    figures: Figures = {
        "bridge_mass": bridge,
        "train_cpu_seconds": cpu,
        "train_seconds": wall,
        "partial_cpu_seconds": None,
        "peak_memory_mb": memory,
        "memory_before_mb": memory_before,
        "rows_per_second": rows_per_second(model, held_out),  # type: ignore[arg-type]
    }
    if contender.kind == "pwflow" and (contender.n_regimes or 1) > 1:
        figures["partial_cpu_seconds"] = _partial_refit(model, learn, job)  # type: ignore[arg-type]
    return figures, scores


def _alarm_scores(model: Fitted, calibration: Array, judged: Array) -> Scores:
    """Return what alarms are made from: of flows log p as in the product, of other models the score.

    A regime without a calibration reading judges nothing: p = 1.
    """
    from pwflow_core.modelling import PiecewiseFlow
    from pwflow_core.modelling.calibration import calibrate
    from pwflow_core.modelling.levels import fit_levels

    arrays = {"calibration": calibration, "judged": judged}
    if not isinstance(model, PiecewiseFlow):
        return {name: np.asarray(model.score_samples(X)) for name, X in arrays.items()}
    found = {name: model.mixture_.judge(X) for name, X in arrays.items()}
    surprises = {name: np.zeros(len(X)) for name, X in arrays.items()}
    regime, conformity, level = found["calibration"]
    for own in np.unique(regime):
        made = calibrate(conformity[regime == own])
        for name, (given, values, _) in found.items():
            surprises[name][given == own] = made.surprises(values[given == own])
    levels = fit_levels(np.exp(-surprises["calibration"]), regime, level, model.weights_)
    return {name: -levels.surprises(surprises[name], given, at) for name, (given, _, at) in found.items()}


def _partial_refit(model: PiecewiseFlow, X: Array, job: Job) -> float:
    """Return the CPU seconds of learning the flow of the middle one of the clusters again, alone."""
    from pwflow_core.modelling import train_flows
    from pwflow_core.modelling.fitting import cluster_rows
    from pwflow_core.modelling.rows import TrainingData

    data = TrainingData.unlabelled(X, np.ones(len(X)), model.held_out_)
    rows = cluster_rows(data, model.predict_proba(X), model.seeds_)
    middle = int(np.argsort(model.weights_)[len(model.weights_) // 2])
    started = time.process_time()
    train_flows([rows[middle]], model.flow, random_state=job.random_state)
    return time.process_time() - started


def main() -> None:
    """Run as a program."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trial", type=Path)
    parser.add_argument("scores", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with np.load(given.trial) as arrays:
        figures, scores = measure(dict(arrays), Job.from_json(sys.stdin.read()))
    np.savez(given.scores, **scores)  # type: ignore[arg-type]
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
