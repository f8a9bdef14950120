"""What p-values may rank, and what is found by it: small faults of the hydraulic rig, and false events.

    python tests/benchmarks/finding_faults.py
    python tests/benchmarks/finding_faults.py --regimes 8 16 24

The readings and faults are those of `pwflow poc`, with five draws of the faults. p-values are made as in the product:
calibrated per regime by blocks of time, and merged with the level. Prints means over the draws: at alpha .001, and at
the largest alpha with three false events. Each row:

- `flow`: the log-density of the flow of the own regime;
- `mixture`: that of the Gaussian mixture beside it;
- `both`: the mean of the two, what p-values rank;
- `... or memory`: p of `both`, or p of the moving mean of -log p over 8 readings, divided by .7 and .3;
- `... or rise`: p of `both`, or p of the rise of -log p since the reading before, the smaller one twice;
- `all regimes`: the sum of -log p of `both` over all numbers of regimes, calibrated once more.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
from measuring import command_line, is_there
from numpy.typing import NDArray

from pwflow_core import PiecewiseFlow
from pwflow_core.config import load_config
from pwflow_core.modelling import FlowSettings
from pwflow_core.modelling.calibration import calibrate
from pwflow_core.modelling.levels import fit_levels
from pwflow_core.pipeline.readings.folds import CALIBRATION_FOLDS
from pwflow_core.pipeline.readings.rate import DEFAULT_GAP_INTERVALS
from pwflow_core.plant import Plant
from pwflow_core.poc import readings as reading
from pwflow_core.poc.faults import inject_faults
from pwflow_core.poc.trial import Stretch, Trial

Array = NDArray[np.float64]
ALPHA, MOST_FALSE, WINDOW = 1e-3, 3, 8
ALPHAS = 10 ** np.arange(-6, -1.5, 0.1)


def rig(data: Path, smoke: bool) -> tuple[Trial, list[Stretch]]:
    """Return the trial that `pwflow poc` makes of the rig, and its judged readings with several draws of faults."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "exports").mkdir()
        with duckdb.connect() as connection:
            connection.execute(
                f"""
                COPY (
                    SELECT TIMESTAMP '2026-01-01' + to_seconds(cycle * 60 + second) AS time, 'rig' AS machine,
                           TS1, TS2, TS3, TS4, VS1, SE, CE, CP
                    FROM '{data}/hydraulic_1hz_long.parquet' ORDER BY time {"LIMIT 9000" if smoke else ""}
                ) TO '{folder}/exports/plant.csv' (TIMESTAMPFORMAT '%Y-%m-%dT%H:%M:%SZ')
                """
            )
        command = [sys.executable, "-W", "ignore", "-m", "pwflow_dagster", "init", "exports"]
        subprocess.run(command, cwd=folder, capture_output=True, check=True)
        config = load_config(folder / "pwflow.toml")
        plant = Plant.open(config)
        reading.ensure_readings(plant)
        facts = reading.read_facts(plant)
        trial = reading.read_trial(plant, facts, None)
        with plant.warehouse.snapshot() as connection:
            rows = reading._held_out(connection, config, facts, CALIBRATION_FOLDS[1], reading.CALIBRATED)
    healthy = Stretch(rows.X, rows.machine, rows.seconds, np.full(len(rows.X), -1, dtype=np.int64), ())
    block = rows.blocks(facts.interval_seconds * facts.block_readings)
    return trial, [inject_faults(healthy, block, trial.learn, seed) for seed in range(1 if smoke else 5)]


def surprises(model: PiecewiseFlow, parts: list[Array], block: NDArray[np.intp]) -> dict[str, list[Array]]:
    """Return -log p of each part, the first of which calibrates, by what is ranked."""
    flows, weights = model.mixture_.flows[: model.mixture_.n_clusters], model.weights_
    found = []
    for X in parts:
        seen = [flow.evaluate(X) for flow in flows]
        joint = np.stack([one.log_prob for one in seen], axis=1) + np.log(weights)
        own, rows = joint.argmax(axis=1), np.arange(len(X))
        both = np.stack([one.conformity for one in seen], axis=1)[rows, own]
        alone = np.stack([flow.density.evaluate(X, components=False).conformity for flow in flows], axis=1)[rows, own]
        found.append((own, joint[rows, own], {"flow": alone, "mixture": 2 * both - alone, "both": both}))
    out = {}
    for name in ("flow", "mixture", "both"):
        own_p = [np.ones(len(X)) for X in parts]
        for k in np.unique(found[0][0]):
            mine = found[0][0] == k
            made = calibrate(found[0][2][name][mine], blocks=block[mine])
            for p_value, (own, _, values) in zip(own_p, found, strict=True):
                p_value[own == k] = made.p_values(values[name][own == k])
        levels = fit_levels(own_p[0], found[0][0], found[0][1], weights)
        out[name] = [-np.log(levels.p_values(p, own, at)) for p, (own, at, _) in zip(own_p, found, strict=True)]
    return out


def recalibrated(parts: list[Array], block: NDArray[np.intp]) -> list[Array]:
    """Return -log p of statistics that are large where a reading is odd, calibrated on the first part."""
    made = calibrate(-parts[0], blocks=block)
    return [-np.log(made.p_values(-part)) for part in parts]


def before(values: Array, seconds: Array, steps: int) -> Array:
    """Return the values some readings ago, 0 across a gap."""
    earlier = np.zeros(len(values))
    near = seconds[steps:] - seconds[:-steps] <= 1.5 * steps
    earlier[steps:][near] = values[:-steps][near]
    return earlier


def count(p_value: Array, stretch: Stretch, alpha: float) -> tuple[int, int]:
    """Return faults that an event touches, and events that touch none."""
    rows = np.flatnonzero(p_value <= alpha)
    parts = np.split(rows, np.flatnonzero(np.diff(stretch.seconds[rows]) > DEFAULT_GAP_INTERVALS) + 1)
    events = [part for part in parts if len(part) > 1 or (len(part) and p_value[part[0]] <= alpha / 100)]
    faulty = [set(stretch.fault[part[0] : part[-1] + 1]) - {-1} for part in events]
    return len(set().union(*faulty)), sum(not numbers for numbers in faulty)


def describe(parts: list[Array], stretches: list[Stretch]) -> str:
    at, best = [], []
    for surprise, stretch in zip(parts[1:], stretches, strict=True):
        p_value = np.exp(-surprise)
        at.append(count(p_value, stretch, ALPHA))
        best.append(max((f for f, n in (count(p_value, stretch, a) for a in ALPHAS) if n <= MOST_FALSE), default=0))
    (found, false), most = np.mean(at, axis=0), np.mean(best)
    return f"{found:.1f} | {false:.1f} | {most:.1f}"


def rows_of(trial: Trial, stretches: list[Stretch], sizes: list[int], smoke: bool) -> Iterator[tuple[str, list[Array]]]:
    parts, block = [trial.calibration, *(stretch.X for stretch in stretches)], trial.calibration_block
    total = None
    for size in sizes:
        settings = FlowSettings(max_steps=50) if smoke else FlowSettings()
        model = PiecewiseFlow(size, flow=settings, random_state=0).fit(trial.learn)
        ranked = surprises(model, parts, block)
        yield from ((f"{size} regimes, {name}", values) for name, values in ranked.items())
        both = ranked["both"]
        total = both if total is None else [one + other for one, other in zip(total, both, strict=True)]
        apart = 1.0 + 100.0 * (np.diff(block, prepend=block[0]) != 0)  # nothing reaches from a block to the next
        seconds = [np.cumsum(apart), *(stretch.seconds for stretch in stretches)]
        times = list(zip(both, seconds, strict=True))
        moving = [np.mean([s, *(before(s, t, n) for n in range(1, WINDOW))], axis=0) for s, t in times]
        memory = recalibrated(moving, block)
        yield "... or memory", [np.maximum(s + np.log(0.7), m + np.log(0.3)) for s, m in zip(both, memory, strict=True)]
        rise = recalibrated([s - before(s, t, 1) for s, t in times], block)
        yield "... or rise", [np.maximum(s, r) - np.log(2) for s, r in zip(both, rise, strict=True)]
    if len(sizes) > 1 and total is not None:
        yield "all regimes", recalibrated(total, block)


def main() -> None:
    parser = command_line(__doc__, data=True)
    parser.add_argument("--regimes", type=int, nargs="*", default=[8])
    arguments = parser.parse_args()
    if not is_there("hydraulic rig", arguments.data / "hydraulic_1hz_long.parquet"):
        return
    trial, stretches = rig(arguments.data, arguments.smoke)
    print(f"| what is ranked | found of {len(stretches[0].kinds)} | false events | found at {MOST_FALSE} false |")
    print("|---|---|---|---|")
    for name, parts in rows_of(trial, stretches, [2] if arguments.smoke else arguments.regimes, arguments.smoke):
        print(f"| {name} | {describe(parts, stretches)} |", flush=True)


if __name__ == "__main__":
    main()
