"""How many held-out readings does a p-value of 0.001 need? The same flows, calibrated on stretches of many lengths.

    python tests/benchmarks/calibration_length.py --days 1000

The simulated plant without faults, blemishes and ageing goes through the whole pipeline; its flows learn from the first
150 days. The days after them, which nothing learned from, are cut into stretches. Each stretch calibrates each regime,
and the p-values of all other days are judged: how often p <= alpha holds for alpha of the readings, give or take a
fifth. Prints a Markdown table by the number of readings that calibrate. Not part of the test suite: 1,000 days take
some ten minutes and 4 GB.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from calibration import ALPHAS, LARGE, score, simulated
from measuring import command_line
from plants import TINY

from pwflow_core.modelling.calibration import calibrate

TRAIN_DAYS = 150
STRETCHES = (50, 100, 200, 330)
BOUNDS = [LARGE, 10_000, 20_000, 40_000, 80_000, 1_000_000]


def judge(scores: pd.DataFrame, days: int, fewest: int) -> pd.DataFrame:
    """Calibrate each regime on stretches of so many days; return a row of shares over alpha for each."""
    day = (scores.ts - scores.ts.min()).dt.days
    made = []
    for start in range(0, day.max() - days + 1, days):
        is_inside = (day >= start) & (day < start + days)
        for _, inside in scores[is_inside].groupby("cluster_key"):
            if len(inside) < fewest:
                continue
            found = calibrate(inside.conformity, blocks=pd.factorize(inside.unit)[0])
            outside = scores.conformity[~is_inside & (scores.cluster_key == inside.cluster_key.iloc[0])]
            made.append([len(inside), *((outside <= found.limit(alpha)).mean() / alpha for alpha in ALPHAS)])
    return pd.DataFrame(made, columns=["n", *ALPHAS])


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--days", type=int, default=1000, help="days after those that the flows learn from")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    train_days, stretches, bounds, sections = TRAIN_DAYS, STRETCHES, BOUNDS, {}
    if arguments.smoke:
        arguments.days, train_days, stretches, bounds, sections = 3, 3, (1,), [200, *BOUNDS], TINY
    with tempfile.TemporaryDirectory() as folder:
        _, scores = score(simulated(arguments.seed, train_days, arguments.days), Path(folder), **sections)
    ratios = pd.concat([judge(scores, days, bounds[0]) for days in stretches], ignore_index=True)
    columns = [f"p <= {alpha:g}: within 20%, mean, spread" for alpha in ALPHAS]
    print(f"| readings that calibrate | calibrations | {' | '.join(columns)} |\n|---|---|{'---|' * len(columns)}")
    for between, part in ratios.groupby(pd.cut(ratios.n, bounds), observed=True):
        cells = [
            f"{(np.abs(part[alpha] - 1) <= 0.2).mean():.2f}, {part[alpha].mean():.2f}, {part[alpha].std():.2f}"
            for alpha in ALPHAS
        ]
        print(f"| {int(between.left):,} to {int(between.right):,} | {len(part)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
