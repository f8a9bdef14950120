"""Plants from their files to alarms, with the defaults: faults found, and false events and cases a week.

    python tests/benchmarks/end_to_end.py [--data /path/to/data] [--only demo] [--rivals gmm] [--seed 1] [--smoke]

Writes the readings of each plant as one CSV file, runs `pwflow init` and `pwflow run` there, and compares the published
events with the faults, which nothing was told about. The rivals see the same readings, all sensors in standard
deviations: an Isolation Forest, five nearest neighbours, a Gaussian mixture (BIC, 1 to 16 components). They learn from
the same folds, are calibrated on the same other ones by the same calibration, and their anomalies become events by the
same rule and alpha. The history holds the faults, for everybody.

The plants: SKAB, 34 runs with a fault each and one without, each run a machine of its own; the hydraulic rig and the
gas turbine, into the last third of which spikes, offsets, losses of correlation and swapped sensors are put as by
`pwflow poc`; the simulated plant, whose faults are known.

A false event touches no fault, and a false case has false events alone; a verdict on drift is no event, and a case of
verdicts alone is counted by itself. Cases per fault are those with an event that touches it. Rivals have no cases. Wear
of the simulated plant is not a fault: events of the worn regimes are false.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
from contaminated_history import run_pwflow
from measuring import command_line
from numpy.typing import NDArray

from pwflow_core.config import FlowConfig, load_config
from pwflow_core.modelling.calibration import calibrate
from pwflow_core.pipeline.readings.folds import CALIBRATION_FOLDS, TRAINING_FOLDS
from pwflow_core.pipeline.readings.rate import DEFAULT_GAP_INTERVALS
from pwflow_core.pipeline.readings.timing import pin_interval, read_block_seconds
from pwflow_core.pipeline.scoring.events import find_events
from pwflow_core.pipeline.source.source import read_source
from pwflow_core.plant import Plant
from pwflow_core.poc.contenders import Contender, build_contender
from pwflow_core.poc.faults import inject_faults
from pwflow_core.poc.trial import Stretch
from pwflow_core.simulation import write_exports

RIVALS = ("isolation_forest", "knn", "gmm")
WEEK = 7 * 86400.0


@dataclass
class Faulty:
    """A plant: readings with the columns time (UTC), machine and one for each sensor, and its faults.

    `faults` has the columns machine, start, end (UTC) and kind.
    """

    readings: pd.DataFrame
    faults: pd.DataFrame


def skab(data: Path, seed: int, smoke: bool) -> Faulty:
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"""
            SELECT datetime AS time, "group" || '-' || file AS machine,
                   * EXCLUDE (datetime, "group", file, row_in_file, changepoint)
            FROM '{data}/skab.parquet' ORDER BY machine, time
            """
        ).df()
    stretch = (rows.anomaly.diff().fillna(0).ne(0) | rows.machine.ne(rows.machine.shift())).cumsum()
    faulty = rows[rows.anomaly > 0].groupby(stretch[rows.anomaly > 0])
    faults = faulty.agg(machine=("machine", "first"), start=("time", "min"), end=("time", "max")).assign(
        kind="labelled"
    )
    return Faulty(rows.drop(columns="anomaly"), faults)


def rig(data: Path, seed: int, smoke: bool) -> Faulty:
    return _injected(
        f"""
        SELECT TIMESTAMP '2026-01-01' + to_seconds(cycle * 60 + second) AS time, 'rig' AS machine,
               TS1, TS2, TS3, TS4, VS1, SE, CE, CP
        FROM '{data}/hydraulic_1hz_long.parquet' ORDER BY time {"LIMIT 6000" if smoke else ""}
        """,
        block_seconds=60,
        seed=seed,
    )


def gas_turbine(data: Path, seed: int, smoke: bool) -> Faulty:
    return _injected(
        f"""
        SELECT TIMESTAMP '2011-01-01' + to_hours(row_number() OVER () - 1) AS time, 'turbine' AS machine,
               * EXCLUDE (year, row_in_year)
        FROM '{data}/gas_turbine_2011_2013.parquet'
        """,
        block_seconds=32 * 3600,
        seed=seed,
    )


def demo(data: Path, seed: int, smoke: bool) -> Faulty:
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        made = write_exports(Path(folder), days=3 if smoke else 60, seed=seed)
        connection.execute("SET TimeZone = 'UTC'")
        files = [str(path) for path in made.exports]
        rows = connection.execute("SELECT * FROM read_parquet(?)", [files]).df()
        faults = connection.execute(f"SELECT machine, start, \"end\", kind FROM '{made.faults}'").df()
    rows = rows.rename(columns={rows.columns[0]: "time"})
    for frame, names in ((rows, ["time"]), (faults, ["start", "end"])):
        for name in names:
            frame[name] = pd.to_datetime(frame[name], utc=True).dt.tz_localize(None)
    return Faulty(rows, faults)


PLANTS: dict[str, Callable[[Path, int, bool], Faulty]] = {
    "skab": skab,
    "rig": rig,
    "gas turbine": gas_turbine,
    "demo": demo,
}


def _injected(query: str, block_seconds: float, seed: int) -> Faulty:
    """Put faults into the last third of the readings of one machine."""
    with duckdb.connect() as connection:
        rows = connection.execute(query).df()
    sensors = [name for name in rows if name not in ("time", "machine")]
    seconds = rows.time.to_numpy().astype("datetime64[us]").astype(np.int64) / 1e6
    last = np.arange(len(rows)) >= 2 * len(rows) // 3
    healthy = Stretch(
        rows.loc[last, sensors].to_numpy(dtype=float),
        np.zeros(last.sum(), dtype=np.int64),
        seconds[last],
        np.full(last.sum(), -1, dtype=np.int64),
        (),
    )
    block = (seconds[last] // block_seconds).astype(np.intp)
    faulty = inject_faults(healthy, block, rows.loc[~last, sensors].to_numpy(dtype=float), random_state=seed)
    rows.loc[last, sensors] = faulty.X
    at = rows.time[last].to_numpy()
    spans = [at[faulty.fault == number] for number in range(len(faulty.kinds))]
    faults = pd.DataFrame(
        {
            "machine": rows.machine.iloc[0],
            "start": [span.min() for span in spans],
            "end": [span.max() for span in spans],
            "kind": faulty.kinds,
        }
    )
    return Faulty(rows, faults)


def run_rivals(folder: Path, kinds: tuple[str, ...], seed: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the events of each rival: machine, start, end."""
    config = load_config(folder / "pwflow.toml")
    with Plant.open(config).warehouse.snapshot() as connection:
        readings = connection.execute(
            "SELECT * FROM core.model_readings WHERE quality = 'ok' AND is_complete ORDER BY machine_id, ts"
        ).df()
        sensors = [sensor.name for sensor in read_source(connection).sensors]
        interval, block_seconds = pin_interval(connection), read_block_seconds(connection)
    X = readings[sensors].to_numpy(dtype=float)
    seconds = readings.ts.to_numpy().astype("datetime64[us]").astype(np.int64) / 1e6
    machine, _ = pd.factorize(readings.machine_id)
    learn, held = readings.fold.isin(TRAINING_FOLDS), readings.fold.isin(CALIBRATION_FOLDS)
    X = (X - X[learn].mean(axis=0)) / np.where(X[learn].std(axis=0) > 0, X[learn].std(axis=0), 1.0)
    block = np.unique(np.stack([machine, seconds // block_seconds]), axis=1, return_inverse=True)[1].ravel()
    gap = 60 * config.events.max_gap_minutes if config.events.max_gap_minutes else DEFAULT_GAP_INTERVALS * interval
    for kind in kinds:
        model = build_contender(Contender(kind), FlowConfig(), seed, None)
        model.fit(X[learn])
        score = model.score_samples(X)
        p_value = calibrate(score[held], blocks=block[held]).p_values(score)
        found = find_events(
            p_value,
            machine,
            seconds,
            alpha=config.scoring.alpha,
            gap_seconds=gap,
            min_readings=config.events.min_readings,
        )
        yield (
            kind,
            pd.DataFrame(
                {
                    "machine": readings.machine_id.to_numpy()[[rows[0] for rows in found]],
                    "start": readings.ts.to_numpy()[[rows[0] for rows in found]],
                    "end": readings.ts.to_numpy()[[rows[-1] for rows in found]],
                }
            ),
        )


def describe(events: pd.DataFrame, plant: Faulty, weeks: float) -> str:
    """Return faults touched, false events, and the same of cases where events have one, as a row of the table."""
    touched: NDArray[np.bool_] = np.zeros((len(plant.faults), len(events)), dtype=np.bool_)
    for place, fault in enumerate(plant.faults.itertuples()):
        touched[place] = (events.machine == fault.machine) & (events.start <= fault.end) & (events.end >= fault.start)
    found = touched.any(axis=1)
    by_kind = ", ".join(
        f"{kind} {int(own.sum())} of {len(own)}" for kind, own in pd.Series(found).groupby(plant.faults.kind.to_numpy())
    )
    n_false = int((~touched.any(axis=0)).sum())
    cases = "| | |"
    if "case_id" in events:
        of_fault = [events.case_id[row].nunique() for row in touched[found]]
        is_false = ~pd.Series(touched.any(axis=0)).groupby(events.case_id.to_numpy()).any()
        shares = f"{np.mean(of_fault):.2f} | {max(of_fault)}" if of_fault else "|"
        cases = f"{shares} | {int(is_false.sum())} of {len(is_false)} | {is_false.sum() / weeks:.1f}"
    return f"{int(found.sum())} of {len(found)} | {n_false} | {n_false / weeks:.1f} | {cases} | {by_kind}"


def measure(plant: Faulty, folder: Path, rivals: tuple[str, ...], seed: int) -> Iterator[tuple[str, str]]:
    """Yield what pwflow and each rival find."""
    (folder / "exports").mkdir()
    plant.readings.assign(time=plant.readings.time.dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")).to_csv(
        folder / "exports" / "plant.csv", index=False
    )
    run_pwflow(folder)
    span = plant.readings.groupby("machine").time.agg(lambda times: (times.max() - times.min()).total_seconds())
    weeks = float(span.max() if len(span) < 10 else span.sum()) / WEEK
    with duckdb.connect(str(folder / ".pwflow" / "published.duckdb"), read_only=True) as published:
        events = published.execute(
            'SELECT machine_id AS machine, started_at AS start, ended_at AS "end", case_id FROM mart.case_events '
            "WHERE event_id IS NOT NULL"
        ).df()
        [(n_verdicts,)] = published.execute(
            "SELECT count(*) FROM mart.cases WHERE state <> 'merged' AND n_events = 0"
        ).fetchall()
    yield "pwflow", f"{describe(events, plant, weeks)}; cases of verdicts alone: {n_verdicts}"
    for kind, found in run_rivals(folder, rivals, seed):
        yield kind, describe(found, plant, weeks)


def main() -> None:
    parser = command_line(__doc__, data=True)
    parser.add_argument("--only", choices=list(PLANTS), nargs="*")
    parser.add_argument("--rivals", choices=RIVALS, nargs="*", default=RIVALS)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    names = arguments.only or (["demo"] if arguments.smoke else list(PLANTS))
    print(
        "| plant | | faults touched | false events | a week "
        "| cases per fault | most | false cases | a week | by kind |",
        "|---|---|---|---|---|---|---|---|---|---|",
        sep="\n",
    )
    for name in names:
        plant = PLANTS[name](arguments.data, arguments.seed, arguments.smoke)
        with tempfile.TemporaryDirectory() as folder:
            rivals = tuple(arguments.rivals)[:1] if arguments.smoke else tuple(arguments.rivals)
            for system, found in measure(plant, Path(folder), rivals, arguments.seed):
                print(f"| {name} | {system} | {found} |", flush=True)


if __name__ == "__main__":
    main()
