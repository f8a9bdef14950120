"""New machines in a fleet, through the pipeline: how many of their readings are judged, day by day, and how well.

    python tests/benchmarks/fleet_nights.py

Twenty simulated machines that differ, see `fleets.py`. The plant learns from three days of fifteen of them. Then the
other five come, and a week of nights with them: each is read, assigned and scored by the steps of the pipeline, once
with `[fleet] correct_machines` and once without. One reading in fifty of a new machine has a fault, a shift of one
sensor by four standard deviations of its regime. What counts is what a night said of its own day, not what later
nights say. Two machines that the plant knows go on beside the new ones, to compare with.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
from fleets import ALPHA, LEARNED_DAYS, SEED, Readings, faulty, simulate, typical_places
from measuring import command_line, measured
from numpy.typing import NDArray
from plants import learn_and_score, open_plant, read_all

from pwflow_core.pipeline.regimes.assigning import assign_readings
from pwflow_core.pipeline.scoring.densities import score_slices
from pwflow_core.pipeline.scoring.scores import derive_scores
from pwflow_core.plant import Plant

SENSORS = [f"s{number}" for number in range(8)]
FAULTY = 0.02
FIRST_DAY, N_KNOWN = 100, 2


def write_day(folder: Path, name: str, readings: Readings) -> None:
    """Write readings to a file of the source."""
    days = pd.to_datetime("2026-01-01") + pd.to_timedelta(readings.day - FIRST_DAY, unit="D")
    frame = pd.DataFrame(readings.X, columns=SENSORS).assign(
        ts=days + pd.to_timedelta(readings.minute, unit="min"), machine=[f"M{m:02d}" for m in readings.machine]
    )
    folder.mkdir(exist_ok=True)
    with duckdb.connect() as connection:
        connection.register("frame", frame)
        connection.execute(f"COPY (FROM frame) TO '{folder / name}.parquet' (FORMAT parquet)")


def with_faults(readings: Readings, shifted: Readings) -> tuple[Readings, NDArray[np.bool_]]:
    """Return readings of which some have a fault, and which those are."""
    is_faulty = np.random.default_rng([SEED, 1]).random(len(readings.X)) < FAULTY
    return replace(readings, X=np.where(is_faulty[:, None], shifted.X, readings.X)), is_faulty


def told(plant: Plant, readings: Readings, is_faulty: NDArray[np.bool_], day: int) -> tuple[float, ...]:
    """Return the share of a day that is judged, its false alarms over those allowed, and the share of faults found.

    Of the new machines; then false alarms and faults found of those that are known.
    """
    at = readings.day == day
    known = pd.DataFrame(
        {
            "machine_id": [f"M{m:02d}" for m in readings.machine[at]],
            "minute": readings.minute[at],
            "is_faulty": is_faulty[at],
            "is_known": readings.machine[at] < N_KNOWN,
        }
    )
    with plant.warehouse.snapshot() as connection:
        scores = connection.execute(
            "SELECT machine_id, (epoch(ts) - epoch(TIMESTAMP '2026-01-01')) // 60 AS place, is_anomaly "
            "FROM mart.anomaly_scores"
        ).df()
    scores["minute"] = scores.place - 1440 * (day - FIRST_DAY)
    found = known.merge(scores, on=["machine_id", "minute"], how="left")
    judged, alarm = found.is_anomaly.notna(), found.is_anomaly.fillna(False).astype(bool)
    figures = [float(judged[~found.is_known].mean())]
    for of in (~found.is_known, found.is_known):
        figures += [alarm[judged & of & ~found.is_faulty].mean() / ALPHA, alarm[of & found.is_faulty].mean()]
    return tuple(figures)


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--spreads", type=float, nargs="+", default=[0.0, 0.3, 1.0], help="how much machines differ")
    options = parser.parse_args()
    n_machines, n_new, days, every, steps = 20, 5, 7, 2, 300
    if options.smoke:
        n_machines, n_new, days, every, steps, options.spreads = 7, 1, 2, 4, 10, [1.0]
    typical = typical_places()
    print("| differ by (sd) | corrected | day | judged | false / alpha | found | known: false | found | CPU s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for spread in options.spreads:
        old = simulate(range(n_machines - n_new), range(FIRST_DAY, FIRST_DAY + LEARNED_DAYS), spread, typical)
        week = range(FIRST_DAY + LEARNED_DAYS, FIRST_DAY + LEARNED_DAYS + days)
        new = simulate([*range(N_KNOWN), *range(n_machines - n_new, n_machines)], week, spread, typical)
        old, new = old[old.minute % every == 0], new[new.minute % every == 0]
        new, is_faulty = with_faults(new, faulty(new, typical))
        for is_corrected in (True, False):
            with tempfile.TemporaryDirectory() as scratch:
                sections: dict[str, object] = {"flow": {"max_steps": steps}, "scoring": {"alpha": ALPHA}}
                sections |= {"fleet": {"correct_machines": is_corrected, "min_machines": 5}}
                plant = open_plant(Path(scratch), SENSORS, {"path": "data/*.parquet", "timezone": "UTC"}, **sections)
                write_day(Path(scratch) / "data", "old", old)
                read_all(plant)
                learn_and_score(plant)
                for number, day in enumerate(week):
                    write_day(Path(scratch) / "data", f"new-{number}", new[new.day == day])
                    with measured() as cost:
                        read_all(plant)
                        assign_readings(plant)
                        list(score_slices(plant))
                        derive_scores(plant)
                    judged, false, found, false_known, found_known = told(plant, new, is_faulty, day)
                    print(
                        f"| {spread} | {'yes' if is_corrected else 'no'} | {number + 1} | {judged:.2f} | {false:.1f} | "
                        f"{found:.2f} | {false_known:.1f} | {found_known:.2f} | {cost.cpu_seconds:.1f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
