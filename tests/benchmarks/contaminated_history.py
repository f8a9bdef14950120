"""Plants whose history holds a fault: does pwflow alarm on it, and on the same fault later?

    python tests/benchmarks/contaminated_history.py [--all] [--seed 1] [--smoke]

Makes each plant, runs `pwflow init` and `pwflow run` on it with the defaults, and prints a table: faults of the history
and later ones that an alarm event touches, and the share of all other readings that alarm. `--all` takes every kind
with 10, 20 and 50 sigma, four shares, one and three pieces, one and all machines; without it nine plants; `--smoke`
one.

The plant: lines with three load steps and four sensors in physical relation, autocorrelated noise of known spread. A
fault takes a share of a machine's readings, in the history and again three days before the end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
from measuring import command_line

SIGMA = {"temperature": 0.5, "pressure": 0.06, "flow": 0.35, "vibration": 0.12}
MARGIN = pd.Timedelta("1h")


@dataclass(frozen=True)
class Case:
    kind: str
    sigma: float = 20.0
    share: float = 0.02
    pieces: int = 1
    machines: str = "all"

    def __str__(self) -> str:
        size = "" if self.kind in ("none", "shuffled", "sentinel") else f" {self.sigma:g} sigma"
        much = "" if self.kind == "none" else f", {self.share:.1%} in {self.pieces}, {self.machines}"
        return f"{self.kind}{size}{much}"


NINE = (
    Case("none"),
    Case("offset", 10, 0.005),
    Case("offset", 20, 0.02),
    Case("offset", 20, 0.03, 3),
    Case("ramp", 10, 0.02),
    Case("ramp", 30, 0.02),
    Case("shuffled", 20, 0.02),
    Case("burst", 10, 0.01, 3),
    Case("sentinel", 20, 0.005, 3),
)
ALL = (
    Case("none"),
    *(
        Case(kind, sigma, share, pieces, machines)
        for kind, sigma, share, pieces, machines in product(
            ("offset", "ramp", "shuffled", "burst", "sentinel"),
            (10, 20, 50),
            (0.005, 0.01, 0.02, 0.03),
            (1, 3),
            ("one", "all"),
        )
        if kind not in ("shuffled", "sentinel") or sigma == 20
    ),
)


def noise(rng: np.random.Generator, n: int, memory: float, spread: float) -> np.ndarray:
    """Return autocorrelated noise, shape (n,)."""
    shocks = rng.normal(0, spread * np.sqrt(1 - memory**2), n)
    values = np.empty(n)
    values[0] = rng.normal(0, spread)
    for place in range(1, n):
        values[place] = memory * values[place - 1] + shocks[place]
    return values


def make_machine(rng: np.random.Generator, n: int) -> pd.DataFrame:
    step = np.repeat(rng.choice(3, p=[0.25, 0.4, 0.35], size=n // 80 + 1), 80)[:n]
    heat = noise(rng, n, 0.9, SIGMA["temperature"])
    return pd.DataFrame(
        {
            "temperature": 45 + 6 * step + heat,
            "pressure": 3 + 1.3 * step + noise(rng, n, 0.7, SIGMA["pressure"]),
            "flow": 10 + 10 * step + 0.7 * heat + noise(rng, n, 0.8, SIGMA["flow"]),
            "vibration": 1 + 0.3 * step + np.abs(noise(rng, n, 0.5, SIGMA["vibration"])),
        }
    )


def plant_fault(readings: pd.DataFrame, rng: np.random.Generator, rows: slice, case: Case) -> None:
    n = rows.stop - rows.start
    if case.kind == "offset":
        readings.iloc[rows, 0] += case.sigma * SIGMA["temperature"]
    elif case.kind == "ramp":
        readings.iloc[rows, 0] += np.linspace(0, case.sigma * SIGMA["temperature"], n)
    elif case.kind == "shuffled":
        readings.iloc[rows, 2] = rng.permutation(readings["flow"].to_numpy())[:n]
    elif case.kind == "burst":
        readings.iloc[rows, 3] += np.abs(rng.normal(0, case.sigma * SIGMA["vibration"], n))
    elif case.kind == "sentinel":
        readings.iloc[rows, 1] = -9999.0


def make_plant(folder: Path, case: Case, seed: int, days: int) -> pd.DataFrame:
    """Write the export of a plant; return its faults: machine, start, end, and `history` or `later`."""
    rng = np.random.default_rng(seed)
    n = days * 288
    times = pd.date_range("2026-03-02", periods=n, freq="5min")
    length = max(4, round(case.share * n / case.pieces))
    history = np.linspace(0.15 * n, 0.75 * n, case.pieces).astype(int)
    parts, faults = [], []
    for number in range(3):
        readings = make_machine(rng, n)
        if case.kind != "none" and (case.machines == "all" or number == 0):
            for at, what in [*((int(place), "history") for place in history), (n - 3 * 288, "later")]:
                plant_fault(readings, rng, slice(at, at + length), case)
                faults.append((f"L{number + 1}", times[at], times[at + length - 1], what))
        readings.insert(0, "line", f"L{number + 1}")
        readings.insert(0, "time", times.strftime("%Y-%m-%dT%H:%M:%SZ"))
        parts.append(readings)
    (folder / "exports").mkdir(parents=True)
    pd.concat(parts).round(4).to_csv(folder / "exports" / "line.csv", index=False)
    return pd.DataFrame(faults, columns=["machine", "start", "end", "what"])


def run_pwflow(folder: Path) -> None:
    for arguments in (["init", "exports"], ["run"]):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "pwflow_dagster", *arguments],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"pwflow {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")


def measure(folder: Path, faults: pd.DataFrame) -> Iterator[str]:
    """Yield faults touched, of the history and later, and the share of other readings that alarm."""
    with duckdb.connect(str(folder / ".pwflow" / "published.duckdb"), read_only=True) as published:
        events = published.execute("SELECT machine_id, started_at, ended_at FROM mart.anomaly_events").df()
        scores = published.execute(
            "SELECT machine_id, ts, is_anomaly FROM mart.anomaly_scores WHERE status = 'scored'"
        ).df()
    for what in ("history", "later"):
        of_kind = faults[faults.what == what]
        touched = sum(
            bool(((events.machine_id == f.machine) & (events.started_at <= f.end) & (events.ended_at >= f.start)).any())
            for f in of_kind.itertuples()
        )
        yield f"{touched} of {len(of_kind)}" if len(of_kind) else ""
    healthy = np.ones(len(scores), dtype=bool)
    for f in faults.itertuples():
        healthy &= ~((scores.machine_id == f.machine) & scores.ts.between(f.start - MARGIN, f.end + 2 * MARGIN))
    yield f"{scores.is_anomaly[healthy].mean():.5f}"


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--days", type=int, default=21)
    arguments = parser.parse_args()
    cases = ALL if arguments.all else (Case("offset", 20, 0.02),) if arguments.smoke else NINE
    print("| plant | faults of the history | later faults | share of other readings in alarm |\n|---|---|---|---|")
    for case in cases:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            faults = make_plant(folder, case, arguments.seed, 12 if arguments.smoke else arguments.days)
            run_pwflow(folder)
            print(f"| {case} | {' | '.join(measure(folder, faults))} |", flush=True)


if __name__ == "__main__":
    main()
