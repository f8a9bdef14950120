"""How often the right sensor is blamed, by several methods, and what it costs.

    python tests/benchmarks/attribution.py --data ../shared/data

Faults of one and of two sensors: those of the simulated plant with their labels, and faults planted into healthy
readings that no model has seen, of the simulated plant, of a wide one and of real ones (left out, by name, where the
folder lacks them). Only readings that alarm count: those less probable than all but one in a thousand of the held-out
ones. Top-1: the sensor named first is a faulty one. Top-3: all faulty ones are among the first three.

    shift      4 to 25 times the spread that the other sensors leave it, either way
    step       half to four times the spread of the sensor in the regime, either way
    swap       what the sensor reads in some other healthy reading: often nothing unusual

`both visible` are the two-sensor faults each of which would alarm alone; of the others nobody could name both.
Not part of the test suite: it takes some ten minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import duckdb
import numpy as np
from measuring import command_line, is_there, measured

from pwflow_core.modelling import PiecewiseFlow, SensorAttributor
from pwflow_core.simulation import SENSOR_NAMES, SimulatedPlant

LABELLED = tuple[str, np.ndarray, np.ndarray, np.ndarray]
REAL = {
    "hydraulic": ("hydraulic_1hz_long.parquet", "TS1 TS2 TS3 TS4 VS1 SE CE CP", 1200),
    "gas turbine": ("gas_turbine_2011_2013.parquet", "AT AP AH AFDP GTEP TIT TAT TEY CDP CO NOX", 50),
    "SKAB, fault-free run": ("skab.parquet", None, 100),
}
ORACLE_ROWS = 200


@dataclass
class Case:
    """Readings of one plant: to learn from, to set the threshold, and healthy ones to plant faults into."""

    name: str
    train: np.ndarray
    judge: np.ndarray
    healthy: np.ndarray
    labelled: list[LABELLED]


def simulated(days: int) -> Iterator[Case]:
    """Yield the two recipes of the simulated plant: three weeks to learn from, then faults until the sixtieth day."""
    plant = SimulatedPlant()
    readings = plant.simulate(0, days - 1)
    faults = {fault.fault_id: fault for fault in plant.faults(0, days - 1)}
    day = (readings.timestamp - readings.timestamp[0]) // np.timedelta64(1, "D")
    usable = np.isfinite(readings.values).all(axis=1) & (readings.blemish != "out_of_limits")
    for recipe in ("A", "B"):
        mine = usable & (readings.recipe == recipe)
        learn, later = mine & (day < 21), mine & (day >= 21)
        labelled = []
        for kind in np.unique(readings.fault_kind[later & (readings.fault_id != "")]):
            rows = later & (readings.fault_kind == kind)
            wrong = np.array([[n in faults[f].sensors for n in SENSOR_NAMES] for f in readings.fault_id[rows]])
            for n_wrong in (1, 2):
                some = wrong.sum(axis=1) == n_wrong
                if some.any():
                    ids = readings.fault_id[rows][some]
                    labelled.append((f"{kind}, {n_wrong}", readings.values[rows][some], wrong[some], ids))
        yield Case(
            f"simulated, recipe {recipe}",
            readings.values[learn & (day % 5 != 3)],
            readings.values[learn & (day % 5 == 3)],
            readings.values[later & (readings.fault_id == "") & ~readings.is_aged],
            labelled,
        )


def real(folder: Path) -> Iterator[Case]:
    """Yield the real plants whose files are there; blocks of the rows in turn learn, judge and get faults."""
    for name, (file, columns, block) in REAL.items():
        if not is_there(name, folder / file):
            continue
        names = columns.split() if columns else None
        with duckdb.connect() as connection:
            where = "WHERE \"group\" = 'anomaly-free'" if names is None else ""
            frame = connection.execute(f"SELECT * FROM read_parquet('{folder / file}') {where}").df()
        picked = (
            frame[names]
            if names
            else frame.select_dtypes("floating").drop(columns=["anomaly", "changepoint"], errors="ignore")
        )
        X = picked.to_numpy(float)
        X = X[np.isfinite(X).all(axis=1)]
        turn = np.arange(len(X)) // block % 5
        yield Case(name, X[turn < 3], X[turn == 3], X[turn == 4], [])


def wide() -> Iterator[Case]:
    """Yield 32 sensors that follow six causes, bent, in two regimes."""
    rng = np.random.default_rng(0)
    straight, other, bent = rng.normal(size=(3, 6, 32))
    causes = rng.normal(size=(36_000, 6))
    regime = np.where(rng.random((len(causes), 1)) < 0.4, causes @ straight + causes**2 @ bent / 2, causes @ other + 4)
    X = regime + 0.3 * rng.normal(size=regime.shape)
    yield Case("32 sensors of six causes", X[:20_000], X[20_000:28_000], X[28_000:], [])


class Rivals:
    """The methods that the one in use was chosen against; all know the regime from the whole reading."""

    def __init__(self, model: PiecewiseFlow) -> None:
        self.flows, self.mixture = model.flows_, model.mixture_
        self.precision = [flow.whitening.forward @ flow.whitening.forward.T for flow in self.flows]

    def standardised(self, X: np.ndarray, k: int) -> np.ndarray:
        white = self.flows[k].whitening
        return np.clip((X - white.centre) / white.scale, -1e6, 1e6)

    def repaired(self, X: np.ndarray, k: int, sensors: list[int]) -> np.ndarray:
        """Replace sensors by their conditional mean given the others, under the Gaussian of regime k."""
        precision = self.precision[k]
        residual = self.standardised(X, k) @ precision
        out = X.copy()
        change = np.linalg.solve(precision[np.ix_(sensors, sensors)], residual[:, sensors].T).T
        out[:, sensors] -= self.flows[k].whitening.scale[sensors] * change
        return out

    def regime(self, X: np.ndarray) -> np.ndarray:
        return self.mixture.log_joint(X)[:, : len(self.flows)].argmax(axis=1)

    def by_regime(self, X: np.ndarray, method: Callable[[np.ndarray, int], np.ndarray]) -> np.ndarray:
        own = self.regime(X)
        out = np.empty(X.shape)
        for k in np.unique(own):
            out[own == k] = method(X[own == k], int(k))
        return out

    def z_score(self, X: np.ndarray) -> np.ndarray:
        return self.by_regime(X, lambda rows, k: np.abs(self.standardised(rows, k)))

    def one_at_a_time(self, X: np.ndarray) -> np.ndarray:
        """Gain of the mixture by each sensor's Gaussian conditional mean: what `contributions` was before."""

        def gain(rows: np.ndarray, k: int) -> np.ndarray:
            before = self.mixture.log_prob(rows, "exact")
            after = [self.mixture.log_prob(self.repaired(rows, k, [i]), "exact") for i in range(rows.shape[1])]
            return np.stack(after, axis=1) - before[:, None]

        return self.by_regime(X, gain)

    def flow_mode(self, X: np.ndarray) -> np.ndarray:
        """Gain of the flow by each sensor's conditional mode, sought on a grid of values."""

        def gain(rows: np.ndarray, k: int) -> np.ndarray:
            flow, out = self.flows[k], np.empty(rows.shape)
            for i in range(rows.shape[1]):
                grid = flow.whitening.centre[i] + flow.whitening.scale[i] * np.linspace(-4, 4, 121)
                many = np.repeat(rows, len(grid), axis=0)
                many[:, i] = np.tile(grid, len(rows))
                best = flow.log_prob(many).reshape(len(rows), -1).max(axis=1)
                out[:, i] = np.maximum(best, flow.log_prob(self.repaired(rows, k, [i]))) - flow.log_prob(rows)
            return out

        return self.by_regime(X, gain)

    def greedy(self, X: np.ndarray) -> np.ndarray:
        """Repair the best sensor by the flow, then the best of the others given that, three times."""

        def gain(rows: np.ndarray, k: int) -> np.ndarray:
            rows, every, out = rows.copy(), np.arange(len(rows)), np.full(rows.shape, -np.inf)
            for turn in range(3):
                options = [self.repaired(rows, k, [i]) for i in range(rows.shape[1])]
                value = np.stack([self.flows[k].log_prob(option) for option in options], axis=1)
                best = np.where(np.isfinite(out), -np.inf, value).argmax(axis=1)
                out[every, best] = -turn
                rows = np.stack(options)[best, every]
            return out

        return self.by_regime(X, gain)

    def shapley(self, X: np.ndarray) -> np.ndarray:
        """Shapley values of the flow's gain over sets of repaired sensors, sixteen random orders."""
        rng = np.random.default_rng(0)

        def gain(rows: np.ndarray, k: int) -> np.ndarray:
            out, before = np.zeros(rows.shape), self.flows[k].log_prob(rows)
            for _ in range(16):
                last, sensors = before, []
                for i in rng.permutation(rows.shape[1]).tolist():
                    sensors.append(i)
                    value = self.flows[k].log_prob(self.repaired(rows, k, sensors))
                    out[:, i] += (value - last) / 16
                    last = value
            return out

        return self.by_regime(X, gain)


def plant_faults(
    case: Case, rivals: Rivals, alarms: Callable[[np.ndarray], np.ndarray], kind: str, n_wrong: int, n_rows: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return readings with faults, which sensors are wrong, and whether each fault would alarm alone."""
    rng = np.random.default_rng(n_wrong)
    rows = case.healthy[rng.integers(len(case.healthy), size=2 * n_rows)]
    rows = rows[~alarms(rows)][:n_rows]
    own = rivals.regime(rows)
    scale = np.array([flow.whitening.scale for flow in rivals.flows])
    left = scale / np.sqrt([np.diagonal(precision) for precision in rivals.precision])
    sign = rng.choice([-1, 1], rows.shape)
    if kind == "shift":
        faulty = rows + sign * rng.uniform(4, 25, rows.shape) * left[own]
    elif kind == "step":
        faulty = rows + sign * rng.uniform(0.5, 4, rows.shape) * scale[own]
    else:
        faulty = case.healthy[rng.integers(len(case.healthy), size=rows.shape), np.arange(rows.shape[1])]
    wrong = np.argsort(rng.random(rows.shape), axis=1) < n_wrong
    visible = np.ones(len(rows), dtype=bool)
    for i in range(rows.shape[1]):
        alone = rows.copy()
        alone[:, i] = faulty[:, i]
        visible &= ~wrong[:, i] | alarms(alone)
    return np.where(wrong, faulty, rows), wrong, visible


def hits(blame: np.ndarray, wrong: np.ndarray) -> str:
    order = np.argsort(-blame, axis=1, kind="stable")[:, :3]
    found = np.take_along_axis(wrong, order, axis=1)
    return f"{found[:, 0].mean():.3f} / {(found.sum(axis=1) == wrong.sum(axis=1)).mean():.3f}"


def median_microseconds(call: Callable[[], object], n_rows: int) -> float:
    times = []
    for _ in range(5):
        with measured() as cost:
            call()
        times.append(cost.cpu_seconds)
    return float(np.median(times)) / n_rows * 1e6


def evaluate(case: Case, n_rows: int, max_rows: int, n_timed: int, candidates: tuple[int, ...]) -> None:
    model = PiecewiseFlow(candidates=candidates, max_rows=max_rows, random_state=0).fit(case.train)
    threshold = np.quantile(model.score_samples(case.judge, rule="exact"), 1e-3)
    attributor, rivals = SensorAttributor(model.weights_, model.flows_), Rivals(model)

    def alarms(X: np.ndarray) -> np.ndarray:
        return model.score_samples(X, rule="exact") < threshold

    methods = {
        "z-score": rivals.z_score,
        "one at a time": rivals.one_at_a_time,
        "greedy": rivals.greedy,
        "flow's mode, 200 rows": lambda X: rivals.flow_mode(X[:ORACLE_ROWS]),
        "Shapley, 200 rows": lambda X: rivals.shapley(X[:ORACLE_ROWS]),
        "pwflow": lambda X: attributor.attribute(X).share,
    }
    print(f"### {case.name}: {case.train.shape[1]} sensors, {len(model.flows_)} regimes\n")
    print(f"| fault, sensors | alarms | {' | '.join(methods)} |\n|---|---|{'---|' * len(methods)}")
    table = [(f"{name} (labelled)", X, wrong, None) for name, X, wrong, _ in case.labelled]
    for n_wrong in (1, 2):
        for kind in ("shift", "step", "swap"):
            X, wrong, visible = plant_faults(case, rivals, alarms, kind, n_wrong, n_rows)
            table.append((f"{kind}, {n_wrong}", X, wrong, None))
            if n_wrong == 2:
                table.append((f"{kind}, 2, both visible", X, wrong, visible))
    for name, X, wrong, some in table:
        judged = alarms(X) if some is None else alarms(X) & some
        if judged.sum() < 15:
            print(f"| {name} | {judged.sum()} | {' | '.join('' for _ in methods)} |")
            continue
        X, wrong = X[judged][:n_rows], wrong[judged][:n_rows]
        blames = [method(X) for method in methods.values()]
        print(f"| {name} | {judged.sum()} | {' | '.join(hits(b, wrong[: len(b)]) for b in blames)} |", flush=True)
    print()
    by_fault(case, attributor, alarms)
    cost(case, model, attributor, plant_faults(case, rivals, alarms, "shift", 1, n_timed)[0])


def by_fault(case: Case, attributor: SensorAttributor, alarms: Callable[[np.ndarray], np.ndarray]) -> None:
    """Print the hits of labelled faults as events: blame summed over the readings of each that alarm."""
    for n_wrong in (1, 2):
        blames, truths = [], []
        for _, X, wrong, ids in case.labelled:
            for fault in np.unique(ids[wrong.sum(axis=1) == n_wrong]):
                rows = np.flatnonzero(ids == fault)
                rows = rows[alarms(X[rows])]
                if len(rows) >= 2:
                    blames.append(attributor.attribute(X[rows]).share.sum(axis=0))
                    truths.append(wrong[rows[0]])
        if blames:
            print(
                f"labelled faults of {n_wrong} sensor(s) that alarm twice, blame summed: {len(blames)} faults, ", end=""
            )
            print(f"top-1 / top-3 {hits(np.array(blames), np.array(truths))}")


def cost(case: Case, model: PiecewiseFlow, attributor: SensorAttributor, faulty: np.ndarray) -> None:
    """Print what explaining costs against scoring the same readings, in CPU time, medians of five in one process."""
    n, seeds = len(faulty), model.seeds_
    healthy = case.healthy[np.arange(n) % len(case.healthy)]
    flow = max(model.flows_, key=lambda flow: not flow.is_gaussian)
    explain = median_microseconds(lambda: attributor.attribute(faulty), n)
    one = median_microseconds(lambda: flow.log_prob(faulty), n)
    exact = median_microseconds(lambda: model.mixture_.log_prob(faulty, "exact"), n)
    candidates = float(seeds.candidates(healthy).sum(axis=1).mean())
    assign = median_microseconds(lambda: (seeds.responsibilities(faulty), seeds.candidates(faulty)), n)
    covered = attributor.attribute(healthy)
    inside = ((covered.observed >= covered.low) & (covered.observed <= covered.high)).mean()
    print(
        f"explaining {explain:.1f} µs; one flow {one:.1f} µs (ratio {explain / one:.1f}); a reading's score in the "
        f"pipeline, assigned and by its {candidates:.2f} candidates, {assign + candidates * one:.1f} µs (ratio "
        f"{explain / (assign + candidates * one):.1f}); the exact mixture {exact:.1f} µs (ratio {explain / exact:.1f})"
    )
    print(f"healthy readings inside the expected band: {inside:.3f} (0.9 is meant)\n", flush=True)


def main() -> None:
    parser = command_line(__doc__, data=True)
    parser.add_argument("--rows", type=int, default=2000, help="readings to plant faults into, per kind")
    parser.add_argument("--max-rows", type=int, default=25_000, help="most readings to learn from")
    arguments = parser.parse_args()
    days, n_timed, candidates, most_cases = 60, 20_000, (1, 2, 3, 4, 6, 8), None
    if arguments.smoke:
        arguments.rows, arguments.max_rows, days, n_timed, candidates, most_cases = 20, 1000, 24, 50, (1, 2), 1
    print("Each cell: top-1 / top-3.\n")
    for cases in (simulated(days), wide(), real(arguments.data)):
        for case in islice(cases, most_cases):
            if arguments.smoke:
                case = replace(case, train=case.train[::10], judge=case.judge[::10])
            evaluate(case, arguments.rows, arguments.max_rows, n_timed, candidates)


if __name__ == "__main__":
    main()
