"""What retraining one cluster costs, beside its share of a full fit, and whether the others stay as they are.

    python tests/benchmarks/one_regime.py

A `PiecewiseFlow` with eight clusters of different sizes is fitted, D = 8. Then each cluster alone is trained again on
its own readings with `fit_cluster`. Prints a Markdown table: CPU seconds, as a share of the full fit, beside the share
of the readings, and in how many readings another cluster's density changed. Not part of the test suite: some minutes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from edge import N_REGIMES, readings_of
from measuring import command_line, measured


def sized(n_rows: int, n_sensors: int) -> np.ndarray:
    """Eight bent clusters, the largest four times as frequent as the smallest."""
    X = readings_of(8 * n_rows, n_sensors)
    regime = np.random.default_rng(0).integers(0, N_REGIMES, len(X))  # as `readings_of` draws it
    rng, share = np.random.default_rng(3), np.linspace(1, 4, N_REGIMES)
    return rng.permutation(X[rng.random(len(X)) < (share / share.sum())[regime]])


def main() -> None:
    arguments = command_line(__doc__).parse_args()
    from pwflow_core import PiecewiseFlow
    from pwflow_core.modelling import FlowSettings

    X = sized(2_000 if arguments.smoke else 100_000, 8)
    flow = FlowSettings(max_steps=30) if arguments.smoke else None
    PiecewiseFlow(2, flow=FlowSettings(max_steps=2), random_state=0).fit(X[:500])  # imports
    with measured() as full:
        model = PiecewiseFlow(N_REGIMES, flow=flow, random_state=0).fit(X)
    kept = model.to_bytes()
    cluster = model.predict(X)
    print(f"A full fit of {len(X):,} readings: {full.cpu_seconds:.1f} CPU s\n")
    print("| cluster | its readings | CPU s | of a full fit | other densities that changed |\n|---|---|---|---|---|")
    for k in range(N_REGIMES):
        one, own = PiecewiseFlow.from_bytes(kept), X[cluster == k]
        with measured() as used:
            one.fit_cluster(k, own)
        others = [j for j in range(N_REGIMES) if j != k]
        changed = sum(int((one.flows_[j].log_prob(X) != model.flows_[j].log_prob(X)).sum()) for j in others)
        spent = used.cpu_seconds / full.cpu_seconds
        print(f"| {k} | {len(own) / len(X):.0%} | {used.cpu_seconds:.2f} | {spent:.0%} | {changed} |", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main()
