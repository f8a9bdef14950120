"""A fleet of machines that differ a little: one shared model, shared with a correction per machine, or one each.

    python tests/benchmarks/fleets.py

Twenty machines of the simulated plant (recipe A), each with an offset and a scale of its own per sensor and regime.
Models learn from three days of fifteen of them; the other five are new, and are judged on a week at alpha = 0.001:

- shared: all machines as they are, in one model;
- corrected: as shared, but location and scale per sensor and regime of each machine are taken out first. Those of a new
  machine come from its first days, and are used in a regime where its readings of the last third of these days become
  more likely by two standard errors;
- own: learned from the first days of the new machine alone.

Faults are a shift of one sensor of a reading, in standard deviations of its regime within a machine. Regimes are known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from measuring import command_line, measured
from numpy.typing import NDArray

from pwflow_core.modelling import FlowSettings, PiecewiseFlow, PiecewiseFlowDetector
from pwflow_core.simulation.physics import simulate_machine_day

Array = NDArray[np.float64]
Place = dict[str, tuple[Array, Array]]
"""Location and scale of each sensor, by regime."""

ALPHA, SHIFT, FEWEST = 0.001, 4.0, 30
SEED, LEARNED_DAYS, WEEK = 7, 3, range(100, 107)
OWN_SPREAD = 0.3
"""How much of the difference of a machine is of one regime alone."""


@dataclass(frozen=True)
class Readings:
    """Readings of some machines: values of shape (N, D), and the regime, machine, day and minute of each."""

    X: Array
    regime: NDArray[np.str_]
    machine: NDArray[np.int64]
    day: NDArray[np.int64]
    minute: NDArray[np.int64]

    def __getitem__(self, keep: NDArray[np.bool_]) -> Readings:
        return Readings(self.X[keep], self.regime[keep], self.machine[keep], self.day[keep], self.minute[keep])


def simulate(machines: Iterable[int], days: range, spread: float, typical: Place) -> Readings:
    """Simulate machines that differ from the typical one by so many standard deviations."""
    parts = []
    for machine in machines:
        own = np.random.default_rng([SEED, machine])
        common, log_scale = own.standard_normal(8), 0.2 * own.standard_normal(8)
        offsets = {regime: common + OWN_SPREAD * own.standard_normal(8) for regime in sorted(typical)}
        for day in days:
            values, timeline = simulate_machine_day(SEED, machine, day)
            regime = timeline.regime_names()
            for name, (location, scale) in typical.items():
                at = regime == name
                stretched = location + (values[at] - location) * np.exp(spread * log_scale)
                values[at] = stretched + spread * offsets[name] * scale
            keep = np.isin(regime, list(typical))
            n = int(keep.sum())
            parts.append(
                Readings(values[keep], regime[keep], np.full(n, machine), np.full(n, day), np.flatnonzero(keep))
            )
    names = ("X", "regime", "machine", "day", "minute")
    return Readings(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def typical_places() -> Place:
    """Return location and scale of the regimes of recipe A on a machine without an offset."""
    values, timeline = simulate_machine_day(SEED, 0, 50)
    regime = timeline.regime_names()
    return {n: place(values[regime == n]) for n in np.unique(regime) if n.startswith("a_") and (regime == n).sum() > 60}


def place(X: Array) -> tuple[Array, Array]:
    """Return the median and the scaled median deviation of each column."""
    location = np.median(X, axis=0)
    return location, np.maximum(1.4826 * np.median(np.abs(X - location), axis=0), 1e-3)


def places(readings: Readings) -> Place:
    """Return the places of the regimes of which there are enough readings."""
    names = [name for name in np.unique(readings.regime) if (readings.regime == name).sum() >= FEWEST]
    return {name: place(readings.X[readings.regime == name]) for name in names}


def corrected(readings: Readings, own: Place, typical: Place) -> tuple[Array, Array]:
    """Return readings as a typical machine would have them, and what that adds to their log-density."""
    X, added = readings.X.copy(), np.zeros(len(readings.X))
    for name in own.keys() & typical.keys():
        at = readings.regime == name
        X[at] = typical[name][0] + (X[at] - own[name][0]) * (typical[name][1] / own[name][1])
        added[at] = np.log(typical[name][1] / own[name][1]).sum()
    return X, added


def confirmed(model: PiecewiseFlowDetector, first: Readings, typical: Place) -> Place:
    """Return the places of a machine's first days in the regimes where held-out readings confirm them."""
    n_learned = 2 * len(first.X) // 3
    learned = np.arange(len(first.X)) < n_learned
    found, held_out = places(first[learned]), first[~learned]
    X, added = corrected(held_out, found, typical)
    density = model.density_
    gain = density.score_samples(X) + added - density.score_samples(held_out.X)
    kept = {}
    for name in found:
        of_regime = gain[held_out.regime == name]
        if len(of_regime) >= FEWEST and of_regime.mean() > 2 * of_regime.std() / np.sqrt(len(of_regime) / 8):
            kept[name] = place(first.X[first.regime == name])
    return kept


def learn(readings: Readings, X: Array, max_steps: int) -> PiecewiseFlowDetector:
    flow = PiecewiseFlow(4, shared_flow=False, flow=FlowSettings(max_steps=max_steps), max_rows=12_000)
    stretch = np.unique(
        np.stack([readings.machine, readings.day, np.arange(len(X)) // 60]), axis=1, return_inverse=True
    )[1]
    return PiecewiseFlowDetector(flow, alpha=ALPHA, random_state=0).fit(X, blocks=stretch.ravel())


def faulty(readings: Readings, typical: Place) -> Readings:
    """Return readings of which one sensor each is shifted."""
    chance = np.random.default_rng(SEED)
    X = readings.X.copy()
    scale = np.stack([typical[name][1] for name in readings.regime])
    rows, sensors = np.arange(len(X)), chance.integers(0, 8, len(X))
    X[rows, sensors] += SHIFT * chance.choice([-1, 1], len(X)) * scale[rows, sensors]
    return replace(readings, X=X)


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--spreads", type=float, nargs="+", default=[0.3, 1.0], help="how much machines differ")
    options = parser.parse_args()
    n_machines, n_new, first_days, steps, every = 20, 5, (1, 3), 300, 3
    if options.smoke:
        n_machines, n_new, first_days, steps, every, options.spreads = 4, 1, (1,), 10, 6, [1.0]
    typical = typical_places()
    print(
        "| machines differ by (sd) | model | first days | log-density (nats) | false alarms / alpha | recall | CPU s |"
    )
    print("|---|---|---|---|---|---|---|")
    for spread in options.spreads:
        old = simulate(range(n_machines - n_new), range(100, 100 + LEARNED_DAYS), spread, typical)
        old = old[np.arange(len(old.X)) % every == 0]
        straight = np.empty_like(old.X)
        for machine in np.unique(old.machine):
            at = old.machine == machine
            straight[at] = corrected(old[at], places(old[at]), typical)[0]
        with measured() as cost_shared:
            shared = learn(old, old.X, steps)
        with measured() as cost_corrected:
            level = learn(old, straight, steps)
        new = [simulate(range(m, m + 1), WEEK, spread, typical) for m in range(n_machines - n_new, n_machines)]
        show(spread, "shared", 0, [judge(shared, week, {}, typical) for week in new], cost_shared.cpu_seconds)
        show(spread, "corrected", 0, [judge(level, week, {}, typical) for week in new], cost_corrected.cpu_seconds)
        for n_days in first_days:
            last = WEEK[0] + n_days
            rest = [week[week.day >= last] for week in new]
            show(spread, "shared", n_days, [judge(shared, week, {}, typical) for week in rest], 0.0)
            owns = [confirmed(level, week[week.day < last], typical) for week in new]
            found = [judge(level, week, own, typical) for week, own in zip(rest, owns, strict=True)]
            show(spread, "corrected", n_days, found, 0.0)
            with measured() as cost:
                models = [learn(first, first.X, steps) for first in (week[week.day < last] for week in new)]
            found = [judge(model, week, {}, typical) for model, week in zip(models, rest, strict=True)]
            show(spread, "own", n_days, found, cost.cpu_seconds / n_new)


def judge(model: PiecewiseFlowDetector, week: Readings, own: Place, typical: Place) -> tuple[float, float, float]:
    """Return mean log-density, false alarms over those allowed, and the share of faulty readings that alarm."""
    X, added = corrected(week, own, typical)
    ill, _ = corrected(faulty(week, typical), own, typical)
    level = model.density_.score_samples(X) + added
    return float(level.mean()), float((model.predict(X) < 0).mean() / ALPHA), float((model.predict(ill) < 0).mean())


def show(spread: float, model: str, days: int, found: list[tuple[float, float, float]], cpu: float) -> None:
    """Print the mean over the new machines."""
    density, alarms, recall = np.mean(found, axis=0)
    spent = f"{cpu:.0f}" if cpu else ""
    print(
        f"| {spread} | {model} | {days or 'none'} | {density:.2f} | {alarms:.1f} | {recall:.2f} | {spent} |", flush=True
    )


if __name__ == "__main__":
    main()
