"""Do p-values keep their promise? Shares of p <= alpha per regime, on readings that nothing was trained or judged by.

    python tests/benchmarks/calibration.py --data ../shared/data
    python tests/benchmarks/calibration.py --only plant --seeds 5 --train-days 500 --test-days 300

Every data set goes through the whole pipeline, once per seed, and is judged on what lies behind `training.until`:

- `plant`: the simulated plant without faults, blemishes and ageing;
- `plant with faults`: the demo, whose held-out readings hold faults that nobody labelled, with the share of faulty
  readings that alarm at 0.001;
- `hydraulic rig`: its healthy cycles, half of them, drawn at random, for testing;
- `gas turbine 2011`, `2012`, `2013`: one year each, half of its weeks, drawn at random, for testing.

Prints a Markdown table per data set and seed: each share divided by its alpha, with half the width of a 95% interval
that knows only of the sampling of the test readings (neighbours of an hour, cycle or day counted as one), and the
Kolmogorov-Smirnov distance of the p-values from uniform. The calibration readings are a sample as well: what m
independent ones can say about alpha is good to about 1.96 ln(0.1 / alpha) / sqrt(0.1 m). Not part of the test suite.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from measuring import command_line, is_there
from plants import TINY, learn_and_score, plant_of, read_all
from scipy import stats

from pwflow_core.pipeline.scoring.scores import ScoresSummary
from pwflow_core.simulation import SENSOR_NAMES, SimulatedPlant

ALPHAS = (0.1, 0.01, 0.001)
START = pd.Timestamp("2026-01-05")
LARGE = 5000


@dataclass(frozen=True)
class DataSet:
    """Readings with columns ts, machine and maybe segment and is_faulty; those from `until` on are for testing."""

    readings: pd.DataFrame
    sensors: tuple[str, ...]
    until: pd.Timestamp
    unit: str


@dataclass
class Tally:
    """How many large regimes keep within a fifth of alpha, over all data sets and seeds."""

    within: dict[float, int] = field(default_factory=lambda: dict.fromkeys(ALPHAS, 0))
    ratios: dict[float, list[float]] = field(default_factory=lambda: {alpha: [] for alpha in ALPHAS})


def simulated(seed: int, train_days: int, test_days: int, *, with_faults: bool = False) -> DataSet:
    plant = SimulatedPlant(seed=seed, with_faults=with_faults, with_blemishes=False, ageing_from_day=None)
    drawn = plant.simulate(0, train_days + test_days - 1)
    readings = pd.DataFrame(drawn.values, columns=list(SENSOR_NAMES)).assign(
        ts=drawn.timestamp, machine=drawn.machine, segment=drawn.recipe
    )
    if with_faults:
        readings["is_faulty"] = drawn.fault_id != ""
    return DataSet(readings, tuple(SENSOR_NAMES), START + pd.Timedelta(days=train_days), "1h")


def hydraulic(data: Path, seed: int, most_units: int | None) -> DataSet:
    query = f"FROM '{data}/hydraulic_1hz_long.parquet' WHERE valve = 100 AND pump_leak = 0 ORDER BY cycle, second"
    with duckdb.connect() as connection:
        readings = connection.execute(query).df()
    sensors = ("TS1", "TS2", "TS3", "TS4", "VS1", "SE", "CE", "CP")
    return in_random_order(readings, readings.cycle, readings.second, 60, "1s", sensors, seed, most_units)


def gas_turbine(data: Path, year: int, seed: int, most_units: int | None) -> DataSet:
    query = f"FROM '{data}/gas_turbine_2011_2013.parquet' WHERE year = {year} ORDER BY row_in_year"
    with duckdb.connect() as connection:
        readings = connection.execute(query).df()
    sensors = tuple(name for name in readings.columns if name not in ("year", "row_in_year"))
    hour = readings.row_in_year
    return in_random_order(readings, hour // 168, hour % 168, 168, "1h", sensors, seed, most_units)


def in_random_order(
    readings: pd.DataFrame,
    unit: pd.Series,
    place: pd.Series,
    length: int,
    step: str,
    sensors: tuple[str, ...],
    seed: int,
    most_units: int | None,
) -> DataSet:
    """Give half of the units (cycles, weeks), drawn at random, times before `until`, and the others after it."""
    units = np.unique(unit)[:most_units]
    kept = unit.isin(units)
    readings, place = readings[kept], place[kept]
    number = np.searchsorted(units, unit[kept])
    order = np.random.default_rng(seed).permutation(len(units))
    half = len(units) // 2
    order = np.concatenate([np.sort(order[:half]), np.sort(order[half:])])
    position = np.argsort(order)[number]
    period = pd.Timedelta(step)
    times = START + (position * length + place.to_numpy()) * period
    made = readings[list(sensors)].assign(ts=times, machine="1")
    return DataSet(made, sensors, START + half * length * period, "1min" if step == "1s" else "1D")


def score(data: DataSet, folder: Path, **sections: Any) -> tuple[ScoresSummary, pd.DataFrame]:
    """Run the pipeline; return the summary and the scored test readings."""
    columns = [name for name in data.readings if name != "is_faulty"]
    training = {"until": data.until.tz_localize("UTC").isoformat()}
    plant = plant_of(folder, data.readings[columns], data.sensors, training=training, **sections)
    read_all(plant)
    summary = learn_and_score(plant)
    with plant.warehouse.snapshot() as connection:
        scores = connection.execute(
            "SELECT machine_id AS machine, ts, cluster_key, p_value, conformity FROM mart.anomaly_scores "
            "JOIN core.component_log_density USING (reading_id, cluster_key, flow_version) "
            "WHERE status = 'scored' AND ts >= ?",
            [data.until.to_pydatetime()],
        ).df()
    if "is_faulty" in data.readings:
        scores = scores.merge(data.readings[["machine", "ts", "is_faulty"]], on=["machine", "ts"])
    return summary, scores.assign(unit=scores.machine + scores.ts.dt.floor(data.unit).astype(str))


def ratio(p: pd.Series, unit: pd.Series, alpha: float) -> tuple[float, float]:
    """Return the share of p <= alpha over alpha, and half the width of its interval."""
    excess = (p <= alpha) - (p <= alpha).mean()
    spread = np.sqrt((excess.groupby(unit.to_numpy()).sum() ** 2).sum()) / len(p)
    return float((p <= alpha).mean() / alpha), float(1.96 * spread / alpha)


def report(name: str, data: DataSet, tally: Tally, **sections: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        summary, scores = score(data, Path(folder), **sections)
    faulty = scores.is_faulty.astype(bool) if "is_faulty" in scores else pd.Series(False, index=scores.index)
    normal = scores[~faulty]
    print(f"\n### {name}\n")
    columns = ["regime", "calibration rows", "worth", "set aside", "test rows", *(f"p <= {a:g}" for a in ALPHAS), "KS"]
    columns += ["faulty rows", "of them p <= 0.001"] if faulty.any() else []
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for key, part in normal.groupby("cluster_key"):
        made = summary.calibration[key]
        ratios = {alpha: ratio(part.p_value, part.unit, alpha) for alpha in ALPHAS}
        cells = [key, f"{made.n_rows:,}", f"{made.n_effective:,.0f}", made.n_set_aside, f"{len(part):,}"]
        cells += [f"{value:.2f} ± {half:.2f}" for value, half in ratios.values()]
        cells.append(f"{stats.kstest(part.p_value, 'uniform').statistic:.3f}")
        if faulty.any():
            found = scores[faulty & (scores.cluster_key == key)].p_value <= 0.001
            cells += [f"{len(found):,}", f"{found.mean():.2f}"]
        print(f"| {' | '.join(map(str, cells))} |")
        if made.n_rows > LARGE:
            for alpha, (value, _) in ratios.items():
                tally.ratios[alpha].append(value)
                tally.within[alpha] += 0.8 <= value <= 1.2
    pooled = [f"{ratio(normal.p_value, normal.unit, alpha)[0]:.2f}" for alpha in ALPHAS]
    cells = ["all", "", "", "", f"{len(normal):,}", *pooled, ""]
    cells += [f"{faulty.sum():,}", f"{(scores.p_value[faulty] <= 0.001).mean():.2f}"] if faulty.any() else []
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = command_line(__doc__, data=True)
    parser.add_argument("--only", help="data sets whose name begins like this")
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 6, 7])
    parser.add_argument("--train-days", type=int, default=150)
    parser.add_argument("--test-days", type=int, default=150)
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.seeds, arguments.train_days, arguments.test_days = arguments.seeds[:1], 3, 2
    days = arguments.train_days, arguments.test_days
    faulty_days, most_units, sections = ((3, 2), 20, TINY) if arguments.smoke else ((21, 39), None, {})
    makers = {
        "plant": lambda seed: simulated(seed, *days),
        "plant with faults": lambda seed: simulated(seed, *faulty_days, with_faults=True),
        "hydraulic rig": lambda seed: hydraulic(arguments.data, seed, most_units),
        **{
            f"gas turbine {y}": lambda seed, y=y: gas_turbine(arguments.data, y, seed, most_units)
            for y in (2011, 2012, 2013)
        },
    }
    files = {"hydraulic": "hydraulic_1hz_long.parquet", "gas": "gas_turbine_2011_2013.parquet"}
    tally = Tally()
    for name, make in makers.items():
        file = files.get(name.split()[0])
        if arguments.only and not name.startswith(arguments.only):
            continue
        if file is not None and not is_there(name, arguments.data / file):
            continue
        for seed in arguments.seeds:
            report(f"{name}, seed {seed}", make(seed), Tally() if name.endswith("faults") else tally, **sections)
    print(f"\n### Regimes with over {LARGE:,} calibration rows\n")
    print("| | within 20% of alpha | regimes | median ratio | least | most |\n|---|---|---|---|---|---|")
    for alpha, ratios in tally.ratios.items():
        if ratios:
            spread = f"{np.median(ratios):.2f} | {min(ratios):.2f} | {max(ratios):.2f}"
            print(f"| p <= {alpha:g} | {tally.within[alpha]} | {len(ratios)} | {spread} |")


if __name__ == "__main__":
    main()
