"""How many held-out readings does a p-value of 0.001 need? The same flows, calibrated on stretches of many lengths.

    python tests/benchmarks/calibration_length.py --days 1000

The simulated plant without faults, blemishes and ageing goes through the whole pipeline; its flows learn from the first
150 days. The days after them, which nothing learned from, are cut into stretches. Each stretch calibrates each regime,
and the p-values of all other days are judged: how often p <= alpha holds for alpha of the readings, give or take a
fifth. Prints a Markdown table by the number of readings that calibrate. Not part of the test suite: 1,000 days take
some ten minutes and 4 GB.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from calibration import ALPHAS, LARGE, score, simulated

from pwflow_core.modelling.calibration import calibrate

TRAIN_DAYS = 150
STRETCHES = (50, 100, 200, 330)
BOUNDS = [LARGE, 10_000, 20_000, 40_000, 80_000, 1_000_000]


def judge(scores: pd.DataFrame, days: int) -> pd.DataFrame:
    """Calibrate each regime on stretches of so many days; return a row of shares over alpha for each."""
    day = (scores.ts - scores.ts.min()).dt.days
    made = []
    for start in range(0, day.max() - days + 1, days):
        is_inside = (day >= start) & (day < start + days)
        for _, inside in scores[is_inside].groupby("cluster_key"):
            if len(inside) < LARGE:
                continue
            found = calibrate(inside.conformity, blocks=pd.factorize(inside.unit)[0])
            outside = scores.conformity[~is_inside & (scores.cluster_key == inside.cluster_key.iloc[0])]
            made.append([len(inside), *((outside <= found.limit(alpha)).mean() / alpha for alpha in ALPHAS)])
    return pd.DataFrame(made, columns=["n", *ALPHAS])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=1000, help="days after those that the flows learn from")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _, scores = score(simulated(arguments.seed, TRAIN_DAYS, arguments.days), Path(folder))
    ratios = pd.concat([judge(scores, days) for days in STRETCHES], ignore_index=True)
    columns = [f"p <= {alpha:g}: within 20%, mean, spread" for alpha in ALPHAS]
    print(f"| readings that calibrate | calibrations | {' | '.join(columns)} |\n|---|---|{'---|' * len(columns)}")
    for bounds, part in ratios.groupby(pd.cut(ratios.n, BOUNDS), observed=True):
        cells = [
            f"{(np.abs(part[alpha] - 1) <= 0.2).mean():.2f}, {part[alpha].mean():.2f}, {part[alpha].std():.2f}"
            for alpha in ALPHAS
        ]
        print(f"| {int(bounds.left):,} to {int(bounds.right):,} | {len(part)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
