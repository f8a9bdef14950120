"""What is found where nobody knows the faults: everything is learned from, and a fiftieth of it is faulty.

    python tests/benchmarks/unlabelled_faults.py                # the ADBench sets beside the repository
    python tests/benchmarks/unlabelled_faults.py --only 32_shuttle

Of each set the faulty rows are thinned to 2% of the normal ones, and all rows are put into random order.
PiecewiseFlow learns from four fifths of them and is calibrated on the rest, as `pwflow poc` does it. Prints AUROC and
average precision of all rows: of the p-value within the own regime, of the level among all regimes, of the two merged,
which is what the product uses, and of two rivals on the same rows. No label is used but for these figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from measuring import command_line, is_there
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

from pwflow_core import PiecewiseFlow
from pwflow_core.modelling import FlowSettings, calibrate
from pwflow_core.modelling.levels import fit_levels

Array = NDArray[np.float64]

_FAULTY = 0.02
_FEWEST_FAULTS = 10
_MOST_ROWS = 12_000


def data_sets(folder: Path) -> Iterator[tuple[str, Array, NDArray[np.bool_]]]:
    """Yield name, standardised rows and which of them are faulty."""
    rng = np.random.default_rng(0)
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            X, faulty = file["X"].astype(np.float64), file["y"].astype(bool)
        order = rng.permutation(len(X))[:_MOST_ROWS]
        X, faulty = X[order][:, X.std(axis=0) > 0], faulty[order]
        kept = np.cumsum(faulty) <= max(_FEWEST_FAULTS, _FAULTY * (~faulty).sum())
        X, faulty = X[~faulty | kept], faulty[~faulty | kept]
        yield path.stem, (X - X.mean(axis=0)) / X.std(axis=0), faulty


def improbabilities(X: Array, settings: FlowSettings) -> dict[str, Array]:
    """Return how improbable each row is by each method, higher is more."""
    calibrates = np.arange(len(X)) % 5 == 0
    model = PiecewiseFlow(shared_flow=False, flow=settings, random_state=0).fit(X[~calibrates])
    regime, conformity, level = model.mixture_.judge(X)
    own = np.ones(len(X))
    for k in np.unique(regime[calibrates]):
        mine = regime == k
        own[mine] = calibrate(conformity[mine & calibrates]).p_values(conformity[mine])
    levels = fit_levels(own[calibrates], regime[calibrates], level[calibrates], model.weights_)
    share = np.minimum(levels.share_below(regime, level) + model.weights_[regime] * own, 1.0)
    mixture = GaussianMixture(8, random_state=0, reg_covar=1e-6).fit(X[~calibrates])
    neighbours = NearestNeighbors(n_neighbors=6).fit(X)
    return {
        "own regime": -np.log(own),
        "level": -np.log(share),
        "merged": -np.log(levels.p_values(own, regime, level)),
        "mixture": -mixture.score_samples(X),
        "KNN": neighbours.kneighbors(X)[0][:, -1],
    }


def main() -> None:
    parser = command_line(__doc__, data=True)
    parser.add_argument("--only", nargs="*", help="names of sets")
    given = parser.parse_args()
    folder = given.data / "adbench"
    if not is_there("ADBench", folder):
        return
    settings, most = (FlowSettings(max_steps=32), 500) if given.smoke else (FlowSettings(), None)
    found: list[list[float]] = []
    for name, X, faulty in data_sets(folder):
        if given.only and name not in given.only:
            continue
        scores = improbabilities(X[:most], settings)
        if not found:
            print(f"| set | {' | '.join(scores)} |\n|---|{'---|' * len(scores)}")
        figures = [
            (roc_auc_score(faulty[:most], s), average_precision_score(faulty[:most], s)) for s in scores.values()
        ]
        found.append([value for pair in figures for value in pair])
        print(f"| {name} | {' | '.join(f'{area:.3f} / {precision:.3f}' for area, precision in figures)} |", flush=True)
        if given.smoke:
            break
    means = np.mean(found, axis=0).reshape(-1, 2)
    print(f"| mean | {' | '.join(f'{area:.3f} / {precision:.3f}' for area, precision in means)} |")


if __name__ == "__main__":
    main()
