"""How many faults of the simulated plant become events at about one false event a week, beside other detectors.

    python tests/benchmarks/plant_recall.py
    python tests/benchmarks/plant_recall.py --plant-seed 11
    python tests/benchmarks/plant_recall.py --window quiet

Every detector learns from the same readings: the first three weeks, or the days before the first fault (`quiet`).
Faults in that time are not removed for anybody. One detector per recipe. A fifth of the time blocks is held out; a
generalised-Pareto tail fitted to it sets the thresholds of each detector and recipe: at alpha for an anomaly, and at
a hundredth of it for an anomaly that is an event alone. As pwflow does, two anomalies within ten minutes make an
event. The worst 1% of the held-out readings only count, their size does not: some of them are faults. Faults that
begin in the first three weeks are listed apart, since a detector may have learned them. Prints Markdown. Not part of
the test suite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from measuring import command_line
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.ensemble import IsolationForest
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pwflow_core.modelling import PiecewiseFlow
from pwflow_core.pipeline.scoring.events import find_events
from pwflow_core.simulation import FAULT_KINDS, RECIPES, SENSORS, PlantReadings, SimulatedPlant
from pwflow_core.simulation.plant import DEFAULT_SEED

Array = NDArray[np.float64]
Scorer = Callable[[Array], Array]

DAYS, TRAINING_DAYS, QUIET_DAYS, AGEING_DAY = 60, 21, 4, 40
FRESH_DAYS = range(60, 130)
BLOCK_MINUTES = 32
TARGET = ("spike", "correlation_loss", "wrong_regime")
EVENT_GAP_MINUTES = 10
TAIL_SHARE, CENSORED_SHARE = 0.03, 0.01


@dataclass(frozen=True)
class Found:
    """Faults of a kind: how many there are, how many were found, and the median delay in minutes."""

    n_faults: int
    n_found: int
    delay_minutes: float

    def __str__(self) -> str:
        return f"{self.n_found} of {self.n_faults}" + (f", {self.delay_minutes:.0f} min" if self.n_found else "")


def minutes_of(readings: PlantReadings) -> NDArray[np.int64]:
    return readings.timestamp.astype("datetime64[m]").astype(np.int64)


def folds_of(minutes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Deal time blocks to ten folds: ten in a row are ten folds, rotated at random."""
    block = minutes // BLOCK_MINUTES
    groups, group = np.unique(block // 10, return_inverse=True)
    return (block + np.random.default_rng(0).integers(10, size=len(groups))[group]) % 10


def valid(readings: PlantReadings) -> NDArray[np.bool_]:
    low, high = (np.array([getattr(s, side) for s in SENSORS]) for side in ("low", "high"))
    return np.isfinite(readings.values).all(axis=1) & ((readings.values >= low) & (readings.values <= high)).all(axis=1)


def isolation_forest(X: Array) -> Iterator[tuple[str, Scorer]]:
    yield "Isolation Forest", IsolationForest(n_estimators=200, random_state=0).fit(X).score_samples


def gaussian_mixture(X: Array) -> Iterator[tuple[str, Scorer]]:
    tried = [
        make_pipeline(StandardScaler(), GaussianMixture(k, random_state=0, max_iter=200)).fit(X)
        for k in (1, 2, 3, 4, 6, 8, 12, 16)
    ]
    standard = tried[0][0].transform(X)
    yield "Gaussian mixture, BIC", min(tried, key=lambda model: model[-1].bic(standard)).score_samples


def piecewise_flow(X: Array, n_clusters: int, seed: int) -> Iterator[tuple[str, Scorer]]:
    model = PiecewiseFlow(n_clusters, random_state=seed).fit(X)
    weights = np.log(model.weights_)
    yield (
        "pwflow, as it scores (conformity)",
        lambda rows: logsumexp(np.stack([f.evaluate(rows).conformity for f in model.flows_], axis=1) + weights, axis=1),
    )
    yield "pwflow, log-density", lambda rows: model.score_samples(rows, rule="exact")


def threshold(held_out: Array, alpha: float) -> float:
    """Return the score below which a share alpha of normal readings lies."""
    surprise = -np.sort(held_out)[::-1]
    start, censor = np.quantile(surprise, [1 - TAIL_SHARE, 1 - CENSORED_SHARE])
    excess, most = surprise[surprise > start] - start, censor - start
    inside, n_beyond = excess[excess <= most], int((excess > most).sum())

    def cost(parameters: Array) -> float:
        scale, shape = np.exp(parameters[0]), parameters[1]
        inner = 1 + shape * np.append(inside, most) / scale
        if abs(shape) < 1e-6 or inner.min() <= 0:
            return np.inf
        logs = np.log(inner)
        n_inside = len(inside)
        likelihood = -n_inside * parameters[0] - (1 + 1 / shape) * logs[:-1].sum() - n_beyond * logs[-1] / shape
        return float(-likelihood + 0.5 * (shape / 0.15) ** 2)

    log_scale, shape = minimize(cost, [np.log(inside.mean()), 0.05], method="Nelder-Mead").x
    return -float(start + np.exp(log_scale) / shape * ((alpha / TAIL_SHARE) ** -shape - 1))


def events_of(level: NDArray[np.int64], readings: PlantReadings, min_readings: int) -> list[NDArray[np.intp]]:
    """Return the anomalies (level 1, or 2 if a hundred times rarer) of each event."""
    p_value, seconds = np.array([1.0, 0.01, 0.0001])[level], 60 * minutes_of(readings)
    gap = 60 * EVENT_GAP_MINUTES
    return find_events(p_value, readings.machine, seconds, alpha=0.01, gap_seconds=gap, min_readings=min_readings)


def in_events(level: NDArray[np.int64], readings: PlantReadings) -> NDArray[np.bool_]:
    """Return which readings are anomalies in an event: two together, or a rarer one."""
    return np.isin(np.arange(len(level)), [row for rows in events_of(level, readings, 2) for row in rows])


def n_events(alarm: NDArray[np.bool_], readings: PlantReadings) -> int:
    return len(events_of(alarm.astype(np.int64), readings, 1))


def find(alarm: NDArray[np.bool_], readings: PlantReadings, ids: list[str]) -> Found:
    minutes, delays = minutes_of(readings), []
    for fault_id in ids:
        rows = np.flatnonzero(readings.fault_id == fault_id)
        if alarm[rows].any():
            delays.append(int(minutes[rows[alarm[rows]]].min() - minutes[rows].min()))
    return Found(len(ids), len(delays), float(np.median(delays)) if delays else np.nan)


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--window", choices=("all", "quiet"), default="all")
    parser.add_argument("--clusters", type=int, default=4, help="Regimes per recipe; the demo finds four.")
    parser.add_argument("--plant-seed", type=int, default=DEFAULT_SEED, help="Seed of the simulated plant.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--alpha", type=float, default=0.001, help="Share of normal readings that are anomalies.")
    arguments = parser.parse_args()
    days, training_days, fresh_days, most_rows = DAYS, TRAINING_DAYS, FRESH_DAYS, None
    if arguments.smoke:
        days, training_days, fresh_days, most_rows = 7, 4, FRESH_DAYS[:1], 600

    readings = SimulatedPlant(seed=arguments.plant_seed).simulate(0, days - 1)
    fresh = SimulatedPlant(
        seed=arguments.plant_seed, ageing_from_day=None, with_faults=False, with_blemishes=False
    ).simulate(fresh_days.start, fresh_days.stop - 1)
    day = (minutes_of(readings) - minutes_of(readings).min()) // 1440
    is_valid, fold = valid(readings), folds_of(minutes_of(readings))
    window = is_valid & (day < (training_days if arguments.window == "all" else QUIET_DAYS))
    held_out = window & np.isin(fold, (3, 8))

    anomalies: dict[str, NDArray[np.int64]] = {}
    fresh_anomalies: dict[str, NDArray[np.int64]] = {}
    for recipe in RECIPES:
        own, fresh_own = readings.recipe == recipe, fresh.recipe == recipe
        rows = np.flatnonzero(window & ~held_out & own)
        X = readings.values[rows[np.lexsort((readings.timestamp[rows], readings.machine[rows]))]][:most_rows]
        for detectors in (
            isolation_forest(X),
            gaussian_mixture(X),
            piecewise_flow(X, arguments.clusters, arguments.seed),
        ):
            for name, score in detectors:
                calm = score(readings.values[held_out & own])
                limits = [threshold(calm, alpha) for alpha in (arguments.alpha, arguments.alpha / 100)]
                for found, rows, source in (
                    (anomalies, np.flatnonzero(is_valid & own), readings),
                    (fresh_anomalies, np.flatnonzero(fresh_own), fresh),
                ):
                    level = found.setdefault(name, np.zeros(len(source), dtype=np.int64))
                    level[rows] = sum((score(source.values[rows]) < limit).astype(np.int64) for limit in limits)
    alarms = {name: in_events(level, readings) for name, level in anomalies.items()}
    fresh_alarms = {name: in_events(level, fresh) for name, level in fresh_anomalies.items()}

    first_day = {f: int(day[readings.fault_id == f].min()) for f in np.unique(readings.fault_id) if f}
    healthy = (readings.fault_id == "") & (day >= training_days) & (day < AGEING_DAY)
    titles = [
        *FAULT_KINDS,
        "the three",
        "the three, in training time",
        "false a week, days 21 to 39",
        "fault-free weeks",
    ]
    print(f"| detector | {' | '.join(titles)} |\n|---|{'---|' * len(titles)}")
    for name, alarm in alarms.items():
        after = {
            kind: [f for f, d in first_day.items() if f.startswith(kind) and d >= training_days] for kind in FAULT_KINDS
        }
        three = [f for kind in TARGET for f in after[kind]]
        before = [f for f, d in first_day.items() if f.startswith(TARGET) and d < training_days]
        found = find(alarm, readings, three)
        cells = [*(str(find(alarm, readings, after[kind])) for kind in FAULT_KINDS)]
        cells += [f"{found.n_found / max(found.n_faults, 1):.1%}", str(find(alarm, readings, before))]
        cells += [f"{n_events(alarm & healthy, readings) / ((AGEING_DAY - training_days) / 7):.1f}"]
        cells += [f"{n_events(fresh_alarms[name], fresh) / (len(fresh_days) / 7):.1f}"]
        print(f"| {name} | {' | '.join(cells)} |")
        missed = [f for f in three if not alarm[readings.fault_id == f].any()]
        print(f"|  missed: {', '.join(missed) if len(missed) < 12 else len(missed)} |{' |' * len(titles)}")


if __name__ == "__main__":
    main()
