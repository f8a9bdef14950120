"""How drift is told: false refits in a year without any, and what becomes of shifts, mixes, new regimes and faults.

    python tests/benchmarks/drift_nights.py                                # about ten minutes on one core
    python tests/benchmarks/drift_nights.py --seeds 5 --only shift mix
    python tests/benchmarks/drift_nights.py --only quiet --budget 1

Eight regimes, three machines, eight sensors, 1,440 readings a machine and night, autocorrelation .9 within a regime,
normal or Student's t with three degrees of freedom; the plant is described in `drift_plant.py`. The reference is a
fifth of the blocks of 25 nights, some 140 blocks a regime. Prints Markdown tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from drift_plant import HELD_OUT, LEARNING_NIGHTS, MACHINES, N_CLUSTERS, Change, Night, Process, watched
from measuring import command_line, measured
from scipy import stats

from pwflow_core.modelling.drift import Verdict
from pwflow_core.pipeline.decisions.kinds import find_kind

QUIET_BEFORE = 10
PATIENCE = 60
MOVED = 3
FINAL = ("retrain", "update_weights", "ask")


def one_sensor(size: float) -> Change:
    """Shift one sensor of one regime on all machines, by standard deviations of a reading within it."""

    def change(night: Night, process: Process) -> Night:
        values = night.values.copy()
        values[night.regime == MOVED, 0] += size * process.spread[MOVED, 0]
        return replace(night, values=values)

    return change


def one_latent(size: float) -> Change:
    """Shift what drives one regime along one direction: several sensors move, none of them as much."""

    def change(night: Night, process: Process) -> Night:
        values = night.values.copy()
        values[night.regime == MOVED] += size * process.mixing[MOVED][:, 4]
        return replace(night, values=values)

    return change


def another_mix(night: Night, process: Process) -> Night:
    """From the night after on, one regime takes three times, another a third of its share."""
    process.shares = np.full(N_CLUSTERS, 1.0)
    process.shares[:2] = 3.0, 1 / 3
    process.shares /= process.shares.sum()
    return night


def a_new_regime(night: Night, process: Process) -> Night:
    """From the night after on, 6% of the readings are of a kind that was never learned."""
    process.new_share = 0.06
    return night


def another_unit(night: Night, process: Process) -> Night:
    """Report the third sensor of all machines in kPa, which was bar."""
    return replace(night, values=night.values * np.where(np.arange(night.values.shape[1]) == 2, 100.0, 1.0))


def another_unit_of_one(night: Night, process: Process) -> Night:
    """Report the third sensor of the second machine in kPa."""
    values = night.values.copy()
    values[night.machine == 1, 2] *= 100.0
    return replace(night, values=values)


def no_data(night: Night, process: Process) -> Night:
    """Lose the second machine."""
    rows = night.machine != 1
    return Night(night.night, night.machine[rows], night.regime[rows], night.values[rows])


def an_offset(night: Night, process: Process) -> Night:
    """Let the third sensor of all machines read too much by 0.7 typical standard deviations, whatever the regime."""
    values = night.values.copy()
    values[:, 2] += 0.7 * np.median(process.spread[:, 2])
    return replace(night, values=values)


def a_slow_fault(night: Night, process: Process) -> Night:
    """Let one sensor of one machine drift for a week to two standard deviations; then it is repaired."""
    values, age = night.values.copy(), night.night - 20_000 - LEARNING_NIGHTS - QUIET_BEFORE
    if age < 7:
        hours = np.linspace(age, age + 1, (night.machine == 1).sum())
        values[night.machine == 1, 2] += 2.0 * hours / 7 * np.median(process.spread[:, 2])
    return replace(night, values=values)


def a_fault_of_hours(night: Night, process: Process) -> Night:
    """Let one machine go mad for two hours of the first night only."""
    values = night.values.copy()
    if night.night == 20_000 + LEARNING_NIGHTS + QUIET_BEFORE:
        rows = np.flatnonzero(night.machine == 1)[300:420]
        values[rows] += 8.0 * process.spread.max()
    return replace(night, values=values)


CASES: dict[str, tuple[str, Change, int, Callable[[Verdict], bool]]] = {
    "half a sigma of one sensor of one regime": (
        "shift",
        one_sensor(0.5),
        PATIENCE,
        lambda v: v.verdict == "regime_moved" and v.cluster_keys == (f"c{MOVED + 1:04d}",),
    ),
    "half a sigma of one latent of one regime": (
        "shift",
        one_latent(0.5),
        PATIENCE,
        lambda v: v.verdict == "regime_moved" and v.cluster_keys == (f"c{MOVED + 1:04d}",),
    ),
    "a tenth of a sigma of one latent of one regime": ("tiny", one_latent(0.1), PATIENCE, lambda v: False),
    "another mix": ("mix", another_mix, PATIENCE, lambda v: v.verdict == "mix_moved"),
    "a new regime": ("new", a_new_regime, PATIENCE, lambda v: v.verdict == "new_regime"),
    "bar to kPa on all machines": (
        "unit",
        another_unit,
        14,
        lambda v: v.verdict == "sensor_suspected" and v.sensors == ("s3",) and "× 100" in v.summary,
    ),
    "bar to kPa on one machine": (
        "unit",
        another_unit_of_one,
        14,
        lambda v: v.verdict == "sensor_suspected" and v.sensors == ("s3",) and v.machine_ids == ("M2",),
    ),
    "an outage of one machine": ("outage", no_data, 30, lambda v: v.verdict == "outage" and v.machine_ids == ("M2",)),
    "an offset of one sensor in all regimes": (
        "sensor",
        an_offset,
        PATIENCE,
        lambda v: v.verdict == "sensor_suspected" and v.sensors[:1] == ("s3",),
    ),
    "a slow fault of one sensor of one machine": (
        "fault",
        a_slow_fault,
        30,
        lambda v: find_kind(v.verdict).answer == "ask" and v.machine_ids == ("M2",),
    ),
    "a fault of two hours": ("fault", a_fault_of_hours, 30, lambda v: False),
}


def measure_quiet(seeds: Iterable[int], nights: int, budget: float) -> None:
    print("| readings | years | false refits | a year, 95% interval | budget a year | asked for nothing |")
    print("|---|---|---|---|---|---|")
    for heavy in (False, True):
        refits, asked, years = 0, Counter[str](), 0.0
        for seed in seeds:
            for _, verdicts in watched(Process(seed, heavy=heavy), nights, seed=seed, budget=budget):
                for verdict in verdicts:
                    if find_kind(verdict.verdict).answer == "retrain":
                        refits += 1
                    elif find_kind(verdict.verdict).answer != "none":
                        asked[verdict.verdict] += 1
            years += nights / 365.25
        low, high = stats.chi2.ppf(0.025, 2 * refits) / 2, stats.chi2.ppf(0.975, 2 * refits + 2) / 2
        kind = "Student's t, 3 degrees of freedom" if heavy else "normal"
        print(
            f"| {kind} | {years:.0f} | {refits} | {refits / years:.3f} ({np.nan_to_num(low) / years:.3f} to "
            f"{high / years:.3f}) | {budget / 5:.2f} | {dict(asked) or 'never'} |",
            flush=True,
        )


def measure_case(
    name: str, seeds: Iterable[int], memory: float, heavy: bool, held_out: float, most_nights: int | None
) -> None:
    _, change, patience, is_right = CASES[name]
    patience = min(patience, most_nights or patience)
    delays, first, trained, others = [], Counter[str](), 0, 0
    n_seeds = 0
    for seed in seeds:
        n_seeds += 1
        delay, told, wrong = None, None, False
        process = Process(seed, memory, heavy)
        for n, verdicts in watched(process, QUIET_BEFORE + patience, change, QUIET_BEFORE, seed, held_out=held_out):
            after = n - QUIET_BEFORE + 1
            right = [v for v in verdicts if is_right(v)]
            wrong |= any(find_kind(v.verdict).answer == "retrain" and not is_right(v) for v in verdicts)
            others += sum(find_kind(v.verdict).answer in FINAL and not is_right(v) for v in verdicts) > 0
            told = told or next(
                (v.verdict for v in verdicts if find_kind(v.verdict).answer in FINAL or is_right(v)), None
            )
            if right:
                delay = after
                break
        trained += wrong
        first[told or "nothing"] += 1
        if delay is not None:
            delays.append(delay)
    median = f"{np.median(delays):.0f} ({min(delays)} to {max(delays)})" if delays else "–"
    told = ", ".join(f"{verdict} {count}" for verdict, count in first.most_common())
    print(f"| {name} | {len(delays)} of {n_seeds} | {median} | {told} | {trained} |", flush=True)


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--nights", type=int, default=365, help="of the year without drift")
    parser.add_argument("--budget", type=float, default=1.0, help="false refits per five years")
    parser.add_argument("--memory", type=float, default=0.9, help="correlation of a reading with the next")
    parser.add_argument("--heavy", action="store_true", help="heavy-tailed readings in the cases too")
    parser.add_argument("--held-out", type=float, default=HELD_OUT, help="share of the blocks that make the reference")
    groups = sorted({group for group, *_ in CASES.values()} | {"quiet"})
    parser.add_argument("--only", nargs="*", choices=groups, default=groups)
    arguments = parser.parse_args()
    most_nights = None
    if arguments.smoke:
        arguments.seeds, arguments.nights, most_nights = 1, 3, 2
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    with measured() as cost:
        if "quiet" in arguments.only:
            measure_quiet(seeds, arguments.nights, arguments.budget)
        cases = [name for name, (group, *_) in CASES.items() if group in arguments.only]
        if cases:
            print("\n| what happens | told as it is | nights until then | told first | trained on what it should not |")
            print("|---|---|---|---|---|")
        for name in cases:
            measure_case(name, seeds, arguments.memory, arguments.heavy, arguments.held_out, most_nights)
    print(f"\n{cost.cpu_seconds:.0f} CPU seconds, {len(MACHINES)} machines, {N_CLUSTERS} regimes.")


if __name__ == "__main__":
    main()
