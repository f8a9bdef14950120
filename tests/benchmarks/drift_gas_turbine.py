"""Real ageing: a gas turbine learned in 2011 and replayed to the end of 2013, month by month.

    python tests/benchmarks/drift_gas_turbine.py                     # a few minutes on one core
    python tests/benchmarks/drift_gas_turbine.py --clusters 4 --csv months.csv

Regimes and flows are learned from 2011. Each day of 2012 and 2013 is then scored by the model in use, and the
evidence of drift is advanced by its blocks. Four policies are compared by the mean log-density of each month's
readings, none of which the model in use had seen:

    never      nothing is ever learned again
    moved      a regime that is told to have moved is learned again, alone, at the end of the month
    confirmed  so are those about which a person would be asked, who says yes
    monthly    every regime is learned again at the end of every month

Learning again takes the readings of the last months that the regime is the likeliest for, every fifth block of a day
held out, goes on from the flow in use, and takes over only if it describes the held-out recent readings better.
Prints Markdown tables; writes the
months as CSV, and as a picture where matplotlib can be imported.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import numpy as np
import torch
from measuring import command_line, is_there, measured
from numpy.typing import NDArray

from pwflow_core.modelling import ClusterRows, FlowSettings, PiecewiseFlow, train_flows
from pwflow_core.modelling.drift import (
    Blocks,
    ClusterEvidence,
    DriftReference,
    DriftState,
    SensorName,
    Verdict,
    advance,
    judge,
    log_threshold,
    measure_shift,
)
from pwflow_core.modelling.flow import ClusterFlow
from pwflow_core.modelling.mixture import FlowMixture
from pwflow_core.pipeline.decisions.kinds import find_kind

Array = NDArray[np.float64]

FILE = "gas_turbine_2011_2013.parquet"
UNITS = {"AT": "°C", "AP": "mbar", "AH": "%", "AFDP": "mbar", "GTEP": "mbar", "TIT": "°C", "TAT": "°C", "TEY": "MWh",
         "CDP": "bar", "CO": "mg/m³", "NOX": "mg/m³"}  # fmt: skip
FIRST_DAY = int(np.datetime64("2011-01-01").astype(int))
BLOCK_HOURS = 4
LEARN_MONTHS = 3
RECENT_DAYS = 30
POLICIES = ("never", "moved", "confirmed", "monthly")


@dataclass(frozen=True, eq=False)
class History:
    """All readings, with the month since January 2011 and the day of each."""

    X: Array
    month: NDArray[np.int64]
    day: NDArray[np.int64]
    names: list[str]


@dataclass(eq=False)
class Policy:
    """A model in use, the evidence against it, and what it cost to keep it up to date."""

    name: str
    model: PiecewiseFlow
    flows: list[ClusterFlow]
    limits: list[float] = field(default_factory=list)
    references: list[DriftReference | None] = field(default_factory=list)
    states: list[DriftState | None] = field(default_factory=list)
    seconds: float = 0.0
    n_trained: int = 0
    n_promoted: int = 0
    told: list[tuple[int, Verdict]] = field(default_factory=list)

    @property
    def mixture(self) -> FlowMixture:
        """The density in use."""
        return FlowMixture(self.model.weights_, self.flows)

    def winners(self, X: Array) -> NDArray[np.intp]:
        """Return the likeliest regime of each reading by the model of 2011, so that regimes stay what they are."""
        return self.model.predict(X)


def read_history(data: Path) -> History:
    """Read the hourly readings; hours that are missing are not marked, so months are twelfths of a year."""
    with duckdb.connect() as connection:
        frame = connection.execute(f"FROM '{data / FILE}' ORDER BY year, row_in_year").df()
    names = [name for name in frame.columns if name not in ("year", "row_in_year")]
    year, row = frame.year.to_numpy(), frame.row_in_year.to_numpy()
    in_year = 365 * row // frame.groupby("year").year.transform("size").to_numpy()
    month = 12 * (year - 2011) + 12 * in_year // 365
    return History(frame[names].to_numpy(float), month, FIRST_DAY + 365 * (year - 2011) + in_year, names)


def make_blocks(X: Array, day: NDArray[np.int64], flow: ClusterFlow, limit: float) -> Blocks:
    """Average the readings of a regime over four hours of a day."""
    if len(X) == 0:
        return Blocks(day, np.empty(0, dtype="U1"), day, np.empty((0, X.shape[1] + 1)), X, np.empty(0))
    found = flow.evaluate(X)
    columns = np.column_stack([found.conformity, found.latents, X, found.conformity <= limit])
    place = np.arange(len(day)) - np.searchsorted(day, day)
    first = np.flatnonzero(place % BLOCK_HOURS == 0)
    sizes = np.diff(np.append(first, len(day)))
    means = np.add.reduceat(columns, first, axis=0) / sizes[:, None]
    n_sensors = X.shape[1]
    return Blocks(
        night=day[first],
        machine=np.full(len(first), "turbine"),
        n_readings=sizes,
        means=means[:, : n_sensors + 1],
        sensors=means[:, n_sensors + 1 : -1],
        improbable=means[:, -1],
    )


def held_out_rows(day: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Hold out every fifth block of a day's readings, so that neighbours stay together."""
    place = np.arange(len(day)) - np.searchsorted(day, day)
    return (day + place // BLOCK_HOURS) % 5 == 0


def set_reference(policy: Policy, k: int, X: Array, day: NDArray[np.int64]) -> None:
    """Make the reference of a regime from held-out readings of the time that its flow learned from."""
    limit = float(np.quantile(policy.flows[k].evaluate(X).conformity, 0.01)) if len(X) else 0.0
    blocks = make_blocks(X, day, policy.flows[k], limit)
    try:
        policy.references[k] = DriftReference.fit(blocks, X.std(axis=0))
        policy.states[k] = DriftState.start(policy.references[k])
    except ValueError:
        policy.references[k] = policy.states[k] = None
    policy.limits[k] = limit


def learn_again(policy: Policy, clusters: list[int], history: History, month: int) -> None:
    """Learn some regimes again from the last months, and put those in use that prove better on held-out readings."""
    rows = np.flatnonzero((history.month > month - LEARN_MONTHS) & (history.month <= month))
    X, day = history.X[rows], history.day[rows]
    own, held_out = policy.winners(X), held_out_rows(day)
    learners, names = [], []
    for k in clusters:
        mine = own == k
        if (mine & held_out).sum() < 20 or (mine & ~held_out).sum() < 100:
            continue
        train, judged = X[mine & ~held_out], X[mine & held_out]
        covariance = np.cov(train.T) + np.diag(1e-6 * train.var(axis=0) + 1e-12)
        learners.append(
            ClusterRows(
                X=train,
                weight=np.ones(len(train)),
                X_held_out=judged,
                weight_held_out=np.ones(len(judged)),
                mean=train.mean(axis=0),
                covariance=covariance,
                start=policy.flows[k],
            )
        )
        names.append(k)
    challengers = train_flows(learners, FlowSettings(), random_state=month) if learners else []
    policy.n_trained += len(learners)
    for k, rows_of, challenger in zip(names, learners, challengers, strict=True):
        gain = challenger.log_prob(rows_of.X_held_out).mean() - policy.flows[k].log_prob(rows_of.X_held_out).mean()
        if gain > 0.02:
            policy.flows[k] = challenger
            policy.n_promoted += 1
            set_reference(policy, k, rows_of.X_held_out, day[(own == k) & held_out])


def follow(policy: Policy, history: History, month: int, threshold: float, recent: list[list[Blocks]]) -> Counter[int]:
    """Advance the evidence by the days of a month; returns how often each regime is to be learned again."""
    rows = np.flatnonzero(history.month == month)
    X, day = history.X[rows], history.day[rows]
    own = policy.winners(X)
    sensors = [SensorName(name, UNITS.get(name, "")) for name in history.names]
    wanted: Counter[int] = Counter()
    for today in np.unique(day):
        followed = [k for k, reference in enumerate(policy.references) if reference is not None]
        for k in followed:
            mine = (own == k) & (day == today)
            blocks = make_blocks(X[mine], day[mine], policy.flows[k], policy.limits[k])
            policy.states[k] = advance(policy.references[k], policy.states[k], blocks)
            recent[k] = [b for b in [*recent[k], blocks] if len(b) and b.night[0] > today - RECENT_DAYS]
        if max((policy.states[k].combined for k in followed), default=-np.inf) < threshold:
            continue
        evidence = [
            ClusterEvidence(
                f"c{k + 1:04d}",
                "",
                policy.states[k].combined,
                measure_shift(policy.references[k], joined(recent[k])) if recent[k] else None,
            )
            for k in followed
        ]
        for verdict in judge(int(today), evidence, threshold=threshold, sensors=sensors):
            keys = [int(key[1:]) - 1 for key in verdict.cluster_keys]
            policy.told.append((month, verdict))
            answer = find_kind(verdict.verdict).answer
            if answer == "retrain" or (policy.name == "confirmed" and answer == "ask"):
                wanted.update(keys)
        for k in followed:
            if policy.states[k].combined >= threshold:
                policy.states[k] = DriftState.start(policy.references[k])
    return wanted


def joined(parts: list[Blocks]) -> Blocks:
    names = ("night", "machine", "n_readings", "means", "sensors", "improbable")
    return Blocks(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def run(policy: Policy, history: History, budget: float) -> list[float]:
    """Replay the months; returns the mean log-density of each."""
    n_clusters = len(policy.flows)
    threshold = log_threshold(budget, n_clusters)
    learned = history.month < 12
    X, day, held_out = history.X[learned], history.day[learned], policy.model.held_out_
    own = policy.winners(X)
    policy.references, policy.states = [None] * n_clusters, [None] * n_clusters
    policy.limits = [0.0] * n_clusters
    for k in range(n_clusters):
        mine = (own == k) & held_out
        set_reference(policy, k, X[mine], day[mine])
    recent: list[list[Blocks]] = [[] for _ in range(n_clusters)]
    means = []
    for month in range(12, int(history.month.max()) + 1):
        now = history.month == month
        means.append(float(policy.mixture.log_prob(history.X[now]).mean()))
        if policy.name == "never":
            continue
        is_monthly = policy.name == "monthly"
        wanted = range(n_clusters) if is_monthly else sorted(follow(policy, history, month, threshold, recent))
        with measured() as cost:
            learn_again(policy, list(wanted), history, month)
        policy.seconds += cost.cpu_seconds
        for k in wanted:
            recent[k] = []
    return means


def main() -> None:
    parser = command_line(__doc__, data=True)
    parser.add_argument("--clusters", type=int, default=6)
    parser.add_argument("--budget", type=float, default=1.0, help="false refits per five years")
    parser.add_argument("--csv", type=Path, help="where to write the months; a picture goes beside it")
    arguments = parser.parse_args()
    if not is_there("gas turbine", arguments.data / FILE):
        return
    torch.set_num_threads(1)
    history = read_history(arguments.data)
    if arguments.smoke:
        arguments.clusters, few = 2, history.month < 14
        history = History(history.X[few], history.month[few], history.day[few], history.names)
    with measured() as cost:
        model = PiecewiseFlow(arguments.clusters, refine=None, random_state=0).fit(history.X[history.month < 12])
    print(f"{len(model.flows_)} regimes learned from 2011 in {cost.cpu_seconds:.0f} CPU seconds.\n")
    results, policies = {}, {}
    for name in POLICIES:
        policies[name] = Policy(name, model, list(model.flows_))
        results[name] = run(policies[name], history, arguments.budget)
    print("| policy | 2012, nats a reading | 2013 | flows trained | put in use | CPU seconds of training |")
    print("|---|---|---|---|---|---|")
    for name, means in results.items():
        policy = policies[name]
        print(
            f"| {name} | {np.mean(means[:12]):.2f} | {np.mean(means[12:] or np.nan):.2f} | {policy.n_trained} | "
            f"{policy.n_promoted} | {policy.seconds:.0f} |"
        )
    show_told(policies["moved"].told)
    if arguments.csv:
        write_months(arguments.csv, results)


def show_told(told: list[tuple[int, Verdict]]) -> None:
    """Print in which months each regime was told to have moved, and what else was told of which sensor or regime."""
    months: dict[tuple[str, str], list[str]] = {}
    for month, verdict in told:
        about = verdict.sensors[:1] if verdict.verdict == "sensor_suspected" else verdict.cluster_keys
        when = months.setdefault((verdict.verdict, ", ".join(about)), [])
        name = f"{2011 + month // 12}-{month % 12 + 1:02d}"
        if name not in when:
            when.append(name)
    print("\n| told (policy `moved`) | of | months |\n|---|---|---|")
    for (kind, about), when in sorted(months.items()):
        print(f"| {kind} | {about} | {', '.join(when)} |")
    print(f"\nThe first: {told[0][1].summary}" if told else "")


def write_months(path: Path, results: dict[str, list[float]]) -> None:
    """Write the months as CSV, and as a picture if there is something to draw with."""
    months = [f"{2012 + m // 12}-{m % 12 + 1:02d}" for m in range(len(results["never"]))]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["month", *results])
        writer.writerows(zip(months, *results.values(), strict=True))
    try:
        from matplotlib import pyplot
    except ImportError:
        return
    figure, axes = pyplot.subplots(figsize=(9, 4))
    for name, means in results.items():
        axes.plot(months, means, label=name, marker=".")
    axes.set_ylabel("mean log-density (nats a reading)")
    axes.set_title("Gas turbine learned in 2011: what learning again is worth, month by month", fontsize=10)
    axes.tick_params("x", rotation=90)
    axes.grid(alpha=0.3)
    axes.legend(title="learned again", ncols=4, loc="lower left")
    figure.tight_layout()
    figure.savefig(path.with_suffix(".png"), dpi=120)


if __name__ == "__main__":
    main()
