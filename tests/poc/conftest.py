"""Plants whose right answer is known, and contenders that are measured in this process."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pwflow_core.config import PlantConfig
from pwflow_core.plant import Plant
from pwflow_core.poc.proving import Comparison, prove_plant
from pwflow_core.poc.results import Result
from pwflow_core.poc.running import judge
from pwflow_core.poc.trial import Trial
from pwflow_core.poc.worker import Job, measure
from tests.conftest import MakeOnce, open_plant, put_file

RIVALS = ("single", "gmm", "gaussian", "isolation_forest", "knn")


def measure_here(
    trial: Trial, jobs: Sequence[Job], config: PlantConfig, say: Callable[[str], None] | None = None
) -> list[Result]:
    """Fit the contenders in this process: quicker than starting many."""
    arrays = {
        "learn": trial.learn,
        "held_out": trial.held_out,
        "calibration": trial.calibration,
        "judged": trial.judged.X,
    }
    return [judge(trial, job, config, *measure(arrays, job)) for job in jobs]


def sheets(centres: Sequence[Sequence[float]], n: int, seed: int = 0) -> np.ndarray:
    """Readings of five sensors that follow two unseen loads, bent, about one of these centres at a time."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, n))
    bent = np.column_stack([a, b, a * b, a**2 - b, np.sin(2 * b)]) + 0.2 * rng.normal(size=(n, 5))
    return bent + np.asarray(centres)[rng.integers(len(centres), size=n)]


MODES = [(0, 0, 0, 0, 0), (12, 3, 8, -9, 4), (-10, 15, -6, 9, -5)]
CASES: dict[str, Callable[[], np.ndarray]] = {
    "three modes": lambda: sheets(MODES, 6000),
    "one mode": lambda: sheets(MODES[:1], 6000),
    "one Gaussian": lambda: np.random.default_rng(0).multivariate_normal(
        [20, 3, 50], [[4, 1, 0], [1, 1, 0.5], [0, 0.5, 9]], 6000
    ),
    "200 rows": lambda: sheets(MODES, 200),
}


def make_case(folder: Path, X: np.ndarray, names: Sequence[str] = (), **changes: Any) -> Plant:
    """Open a plant of one machine with these readings, a minute apart."""
    names = names or [f"sensor_{number}" for number in range(X.shape[1])]
    frame = pd.DataFrame(X, columns=list(names))
    frame.insert(0, "ts", pd.date_range("2024-03-01", periods=len(X), freq="60s").strftime("%Y-%m-%dT%H:%M:%SZ"))
    put_file(folder / "data" / "all.parquet", frame)
    values = {"source": {"machine": None}, "sensors": {name: {"unit": "bar"} for name in names}}
    return open_plant(folder, values | {"features": {"windows": []}} | changes)


@pytest.fixture(scope="session")
def compare(make_once: MakeOnce) -> Callable[[str], tuple[Plant, Comparison]]:
    """Return a function that compares on a case, once."""

    @functools.cache
    def find(case: str) -> tuple[Plant, Comparison]:
        def make(folder: Path) -> None:
            costs = {"per_false_alarm": 50, "per_missed_event": 2000, "per_cpu_hour": 0.5, "currency": "EUR"}
            plant = make_case(folder, CASES[case](), costs=costs)
            found = prove_plant(plant, regimes=[1, 3], rivals=RIVALS, max_steps=600, run=measure_here)
            (folder / "found.pickle").write_bytes(pickle.dumps((plant, found)))

        made: tuple[Plant, Comparison] = pickle.loads((make_once(case, make) / "found.pickle").read_bytes())  # noqa: S301
        return made

    return find
