"""SKAB with and without features over time, beside the baselines given the same columns; and what `auto` decides.

    python tests/benchmarks/time_features.py                        # about ten minutes on one core
    python tests/benchmarks/time_features.py --data /path/to/data --only auto

Per-file protocol: the 34 files with a fault, each learned from its first 400 rows and tested on the rest; mean AUROC.
The columns are those that the readings step of the pipeline makes (DuckDB), for everybody. Where a window is not full
yet, a row is left out of the learning, and its features are completed by their conditional mean for the test, as the
pipeline does. `PiecewiseFlow` and `pwflow` run with their defaults; `pwflow` is the pipeline from regimes to scores,
which keeps a part of the 400 rows back for calibration and early stopping. Baselines get standardised columns.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
from measuring import command_line, is_there
from numpy.typing import NDArray
from plants import TINY, learn_and_score, open_plant, read_all
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler

from pwflow_core import PiecewiseFlow
from pwflow_core.modelling.completion import complete_rows
from pwflow_core.pipeline.readings.deriving import derive_readings
from pwflow_core.pipeline.readings.features import read_features
from pwflow_core.pipeline.source.ingest import ingest_files
from pwflow_core.plant import Plant

Array = NDArray[np.float64]

TRAINING_ROWS = 400
SKAB = """
    SELECT datetime AS ts, "group" || '/' || file AS machine, * EXCLUDE (datetime, "group", file, row_in_file)
    FROM '{data}/skab.parquet' WHERE "group" <> 'anomaly-free'
"""
OTHERS = {
    "SKAB, per file": (SKAB, ["anomaly", "changepoint"], {"first_rows": TRAINING_ROWS}),
    "hydraulic rig, 1 Hz": (
        """
        SELECT TIMESTAMP '2026-01-01' + to_seconds(cycle * 60 + second) AS ts, 'rig' AS machine,
               TS1, TS2, TS3, TS4, VS1, SE, CE, CP
        FROM '{data}/hydraulic_1hz_long.parquet'
        """,
        [],
        {},
    ),
    "gas turbine, hourly": (
        """
        SELECT TIMESTAMP '2011-01-01' + to_hours(row_number() OVER () - 1) AS ts, 'turbine' AS machine,
               * EXCLUDE (year, row_in_year)
        FROM '{data}/gas_turbine_2011_2013.parquet'
        """,
        [],
        {},
    ),
    "Tennessee Eastman, fault-free": (
        """
        SELECT TIMESTAMP '2026-01-01' + to_minutes(3 * (row_number() OVER () - 1)) AS ts, 'plant' AS machine,
               COLUMNS('XM.*')
        FROM '{data}/tep_braatz_faults_0_10.parquet' WHERE fault_id = 0 AND split = 'train'
        """,
        [],
        {},
    ),
}


@dataclass(frozen=True)
class File:
    """One file of SKAB: rows to learn from, rows to test on, and whether each of those is anomalous."""

    train: Array
    test: Array
    label: NDArray[np.int64]


def open_query(folder: Path, query: str, left_out: list[str], **sections: object) -> Plant:
    """Return a plant over a query, with every numeric column a sensor."""
    with duckdb.connect() as connection:
        described = connection.execute(f"DESCRIBE {query}").fetchall()
    sensors = [name for name, kind, *_ in described if kind in ("DOUBLE", "FLOAT", "BIGINT", "INTEGER")]
    source = {"sql": query, "segments": ["machine"], "timezone": "UTC"}
    return open_plant(folder, [name for name in sensors if name not in left_out], source, **sections)


def read_files(plant: Plant, query: str) -> Iterator[File]:
    """Yield the files of SKAB with the columns that the pipeline made."""
    with plant.warehouse.snapshot() as connection:
        columns = list(read_features(connection).columns)
        rows = connection.execute(
            f"SELECT reading.*, label.anomaly FROM core.model_readings AS reading "
            f"JOIN ({query}) AS label ON reading.machine_id = label.machine AND reading.ts = label.ts "
            "ORDER BY machine_id, ts"
        ).df()
    for _, part in rows.groupby("machine_id"):
        X, label = part[columns].to_numpy(float), part.anomaly.to_numpy(int)
        train = X[:TRAINING_ROWS][part.is_complete.to_numpy()[:TRAINING_ROWS]]
        kept = train.std(axis=0) > 1e-12
        train = train[:, kept]
        covariance = np.cov(train.T) + np.diag(1e-6 * train.var(axis=0))
        test = complete_rows(X[TRAINING_ROWS:, kept], train.mean(axis=0), covariance)
        yield File(train, test, label[TRAINING_ROWS:])


def gmm_by_bic(train: Array, test: Array) -> Array:
    sizes = [k for k in (1, 2, 3, 4, 6, 8, 12, 16) if k == 1 or len(train) >= 2 * k * (train.shape[1] + 1)]
    fitted = [GaussianMixture(k, reg_covar=1e-4, random_state=0, max_iter=200).fit(train) for k in sizes]
    return min(fitted, key=lambda model: model.bic(train)).score_samples(test)


MODELS: dict[str, Callable[[Array, Array], Array]] = {
    "Isolation Forest": lambda a, b: IsolationForest(n_estimators=200, random_state=0).fit(a).score_samples(b),
    "LOF": lambda a, b: LocalOutlierFactor(n_neighbors=20, novelty=True).fit(a).score_samples(b),
    "KNN": lambda a, b: -NearestNeighbors(n_neighbors=5).fit(a).kneighbors(b)[0][:, -1],
    "one Gaussian": lambda a, b: GaussianMixture(1, reg_covar=1e-4).fit(a).score_samples(b),
    "Gaussian mixture by BIC": gmm_by_bic,
    "PiecewiseFlow": lambda a, b: PiecewiseFlow(random_state=0).fit(a).score_samples(b),
}


def run_pipeline(plant: Plant, query: str) -> float:
    """Return the mean AUROC of the log-densities that the pipeline publishes."""
    learn_and_score(plant)
    with plant.warehouse.snapshot() as connection:
        rows = connection.execute(
            "SELECT scored.machine_id, log_density, label.anomaly, "
            "row_number() OVER (PARTITION BY scored.machine_id ORDER BY scored.ts) AS place "
            f"FROM mart.anomaly_scores AS scored JOIN ({query}) AS label "
            "ON scored.machine_id = label.machine AND scored.ts = label.ts"
        ).df()
    tested = rows[(rows.place > TRAINING_ROWS) & rows.log_density.notna()]
    if tested.machine_id.nunique() != rows.machine_id.nunique():
        raise SystemExit(f"Expected scores for {rows.machine_id.nunique()} files, got {tested.machine_id.nunique()}.")
    return float(np.mean([roc_auc_score(part.anomaly, -part.log_density) for _, part in tested.groupby("machine_id")]))


def compare_on_skab(query: str, settings: dict[str, dict[str, object]], **sections: object) -> None:
    print("| features | " + " | ".join([*MODELS, "pwflow"]) + " |\n|" + "---|" * (len(MODELS) + 2))
    for name, features in settings.items():
        with tempfile.TemporaryDirectory() as folder:
            given = {
                "training": {"first_rows": TRAINING_ROWS},
                "scoring": {"min_calibration_rows": 30},  # the ranking is measured, not the p-values
                "features": features,
            }
            plant = open_query(Path(folder), query, ["anomaly", "changepoint"], **given, **sections)
            read_all(plant)
            auroc: dict[str, list[float]] = {model: [] for model in MODELS}
            for file in read_files(plant, query):
                scaler = StandardScaler().fit(file.train)
                train, test = scaler.transform(file.train), scaler.transform(file.test)
                for model, score in MODELS.items():
                    auroc[model].append(roc_auc_score(file.label, -np.nan_to_num(score(train, test), neginf=-1e30)))
            means = [float(np.mean(values)) for values in auroc.values()] + [run_pipeline(plant, query)]
        print(f"| {name} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |", flush=True)


def show_decisions(data: Path, most_rows: int) -> None:
    print("\n| data | columns | what `auto` decided, and why |\n|---|---|---|")
    for name, (query, left_out, training) in OTHERS.items():
        with tempfile.TemporaryDirectory() as folder:
            plant = open_query(
                Path(folder), f"FROM ({query.format(data=data)}) LIMIT {most_rows}", left_out, training=training
            )
            ingest_files(plant)
            features = derive_readings(plant).features
            print(f"| {name} | {len(features.columns)} | {features.why} |", flush=True)


def main() -> None:
    parser = command_line(__doc__, data=True)
    parser.add_argument("--only", nargs="*", help="settings to run: none, auto, mean only, decisions")
    arguments = parser.parse_args()
    if not is_there("SKAB", arguments.data / "skab.parquet"):
        return
    warnings.filterwarnings("ignore")
    settings: dict[str, dict[str, object]] = {
        "none": {"windows": []},
        "auto": {},
        "mean only": {"windows": [20], "statistics": ["mean"]},
    }
    query, most_rows, sections = SKAB.format(data=arguments.data), 10_000_000, {}
    if arguments.smoke:
        query, most_rows = f"{query} AND file = '1'", 3000
        sections = TINY | {"clustering": {"n_clusters": 1}}  # the files are too short for two
    wanted = arguments.only or (["none", "decisions"] if arguments.smoke else [*settings, "decisions"])
    compare_on_skab(query, {name: settings[name] for name in settings if name in wanted}, **sections)
    if "decisions" in wanted:
        show_decisions(arguments.data, most_rows)


if __name__ == "__main__":
    main()
