"""Is the piecewise flow ever worse than its own special cases, one global flow or one Gaussian?

    python tests/benchmarks/special_cases.py                       # the real sensor data beside the repository
    python tests/benchmarks/special_cases.py --data FOLDER --only shuttle Wilt --seeds 3 --csv FILE

One row per data set and seed: mean log-density of the normal rows that nobody learned from, in nats per row and units
that are standardised on the training rows; how far PiecewiseFlow is ahead of each special case; and two standard errors
of that lead, with contiguous blocks of rows as the independent units. Everything runs with its default settings.
`--rows` thins the larger sets evenly, so that the whole table takes minutes. With `--csv`, rows that the file already
has are not computed again, and the medians over the seeds are printed at the end.
"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import duckdb
import numpy as np
from measuring import command_line, is_there, measured
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture

from pwflow_core import PiecewiseFlow
from pwflow_core.benchmarking.measures import mean_and_error
from pwflow_core.modelling import held_out_blocks
from pwflow_core.modelling.baselines import SingleFlow

Array = NDArray[np.float64]

TABLES = {
    "skab": (
        "skab.parquet",
        "\"group\" = 'anomaly-free'",
        "Acc.*|Current|Pressure|Temperature|Thermocouple|Volt.*|Volume.*",
    ),
    "hydraulic_1hz": ("hydraulic_1hz_long.parquet", "true", "TS.|VS1|SE|CE|CP"),
    "hydraulic_cycles": ("hydraulic_cycles.parquet", "valve = 100 AND pump_leak = 0", ".*_(mean|std|min|max)"),
    "gas_turbine": ("gas_turbine_2011_2013.parquet", "true", "[A-Z]+"),
    "cnc_mill": ("cnc_mill.parquet", "true", "[XYS]_(ActualVelocity|CurrentFeedback|OutputVoltage|OutputPower)"),
    "batch_nylon": ("batch_nylon.parquet", "true", "Tag.*"),
    "tep": ("tep_braatz_faults_0_10.parquet", "fault_id = 0", "XM.*"),
    "ai4i2020": ("ai4i2020_synthetic.parquet", '"Machine failure" = 0', ".* \\[.*"),
}
"""File, which of its rows are normal, and the pattern of its sensors' names."""


def data_sets(folder: Path) -> Iterator[tuple[str, Array]]:
    """Yield the name and the normal rows of each data set that is there, in the order that they have in the file."""
    for name, (file, normal, sensors) in TABLES.items():
        path = folder / file
        if not is_there(name, path):
            continue
        with duckdb.connect() as connection:
            query = f"SELECT COLUMNS('^({sensors})$')::DOUBLE FROM read_parquet(?) WHERE {normal}"
            yield name, connection.execute(query, [str(path)]).df().to_numpy()
    for path in sorted((folder / "adbench").glob("*.npz")) if is_there("ADBench", folder / "adbench") else ():
        with np.load(path) as archive:
            yield path.stem.split("_", 1)[1], archive["X"][archive["y"] == 0].astype(np.float64)


RIVALS = ("single", "gaussian")


def compare(X: Array, most_rows: int, seed: int) -> dict[str, str]:
    """Fit the three models on four fifths of the rows and compare them on the rest."""
    X = X[np.isfinite(X).all(axis=1)]
    X = X[:: -(-len(X) // most_rows)]
    test = held_out_blocks(len(X), 0.2, seed, n_blocks=40)
    scale = X[~test].std(axis=0)
    X = X[:, scale > 1e-12] / scale[scale > 1e-12]
    block = np.cumsum(np.diff(test, prepend=False))[test]
    score, seconds, shared = {}, 0.0, 0.0
    for name, model in {
        "piecewise": PiecewiseFlow(random_state=seed),
        "single": SingleFlow(random_state=seed),
        "gaussian": GaussianMixture(reg_covar=1e-4),
    }.items():
        with measured() as cost:
            score[name] = model.fit(X[~test]).score_samples(X[test])
        if isinstance(model, PiecewiseFlow) and name == "piecewise":
            seconds = cost.cpu_seconds
            shared = sum(model.mixture_.weights[len(model.flows_) :])
    figures = {
        "rows": str(len(X)),
        "sensors": str(X.shape[1]),
        "log_density": f"{score['piecewise'].mean():.4f}",
        "shared_weight": f"{shared:.2f}",
        "cpu_seconds": f"{seconds:.0f}",
    }
    for rival in RIVALS:
        lead, error = mean_and_error(score["piecewise"] - score[rival], block)
        figures |= {f"over_{rival}": f"{lead:+.4f}", f"over_{rival}_2se": f"{2 * error:.4f}"}
    return figures


def is_below(figures: dict[str, str], rival: str) -> bool:
    """Tell whether PiecewiseFlow is below a rival by more than two standard errors."""
    return float(figures[f"over_{rival}"]) < -float(figures[f"over_{rival}_2se"])


def as_row(figures: dict[str, str]) -> str:
    """Format one row of the table."""
    cells = [
        figures["data_set"],
        figures["seed"],
        f"{figures['rows']} × {figures['sensors']}",
        figures["log_density"],
        figures["shared_weight"],
        figures["cpu_seconds"],
    ]
    for rival in RIVALS:
        lead, error = figures[f"over_{rival}"], figures[f"over_{rival}_2se"]
        cells += [f"{lead} ± {error}", "BELOW" if is_below(figures, rival) else "no"]
    return "| " + " | ".join(cells) + " |"


def print_medians(rows: list[dict[str, str]]) -> None:
    """Say how each data set stands over its seeds."""
    for name in dict.fromkeys(row["data_set"] for row in rows):
        mine = [row for row in rows if row["data_set"] == name]
        text = []
        for rival in RIVALS:
            lead, error = (statistics.median(float(row[f"over_{rival}{end}"]) for row in mine) for end in ("", "_2se"))
            below = sum(is_below(row, rival) for row in mine)
            text.append(f"over {rival} {lead:+.3f} ± {error:.3f}, below in {below} of {len(mine)}")
        print(f"{name}: median of {len(mine)} seeds " + "; ".join(text))


def main() -> None:
    parser = command_line(__doc__, data=True)
    parser.add_argument("--rows", type=int, default=20_000, help="most rows of a data set, thinned evenly")
    parser.add_argument("--only", nargs="*", help="names of data sets")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--csv", type=Path, help="file that the rows are added to")
    given = parser.parse_args()
    most_sets = None
    if given.smoke:
        given.rows, given.seeds, most_sets = 400, 1, 2
    header = [
        "data set",
        "seed",
        "rows × sensors",
        "log-density",
        "weight of the shared flow",
        "CPU s",
        "over one flow ± 2 s.e.",
        "below",
        "over one Gaussian ± 2 s.e.",
        "below",
    ]
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    rows: list[dict[str, str]] = []
    if given.csv is not None and given.csv.is_file():
        with given.csv.open(newline="") as file:
            rows = list(csv.DictReader(file))
    known = {(row["data_set"], row["seed"]) for row in rows}
    for seed in range(given.seeds):
        for name, X in islice(data_sets(given.data), most_sets):
            if (given.only is None or name in given.only) and (name, str(seed)) not in known:
                rows.append({"data_set": name, "seed": str(seed)} | compare(X, given.rows, seed))
                print(as_row(rows[-1]), flush=True)
                if given.csv is not None:
                    append(given.csv, rows[-1])
    print_medians(rows)


def append(path: Path, row: dict[str, str]) -> None:
    is_new = not path.is_file()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if is_new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
