"""The whole of `pwflow poc`: readings, contenders, results, recommendation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pwflow_core.config import CostsConfig
from pwflow_core.errors import ConfigurationError, LabelsError
from pwflow_core.pipeline.evaluation.labels import labels_from_file, labels_of_simulation
from pwflow_core.plant import Plant
from pwflow_core.poc.contenders import RIVALS, choose_contenders
from pwflow_core.poc.costs import YearlyCost, events_per_year, price
from pwflow_core.poc.readings import LEARNED, ensure_readings, read_facts, read_trial
from pwflow_core.poc.recommendation import Need, Recommendation, needed_readings, recommend, refuse
from pwflow_core.poc.results import Result
from pwflow_core.poc.running import run_trial
from pwflow_core.poc.trial import Trial, TrialFacts
from pwflow_core.poc.worker import Job
from pwflow_core.warehouse import utc_now

__all__ = ["DEFAULT_REGIMES", "Comparison", "prove_plant"]

DEFAULT_REGIMES = (1, 2, 4, 8)
_MOST_REGIMES = 256

RunTrial = Callable[..., list[Result]]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything that came of it.

    Attributes:
        made_at: When, UTC.
        facts: What is known of the plant and of the sample.
        need: How many readings are needed.
        trial: The readings; None if there are too few.
        results: One per contender; an error each if there are too few readings.
        recommendation: What to do.
        costs: What things cost, if the configuration says so.
        n_events: Events to be found in a year; None without costs.
        yearly: What each contender costs in a year, by key.
    """

    made_at: datetime
    facts: TrialFacts
    need: Need
    trial: Trial | None
    results: tuple[Result, ...]
    recommendation: Recommendation
    costs: CostsConfig | None = None
    n_events: float | None = None
    yearly: dict[str, YearlyCost] | None = None


def prove_plant(
    plant: Plant,
    *,
    labels_file: Path | None = None,
    regimes: Sequence[int] = DEFAULT_REGIMES,
    rivals: Sequence[str] = RIVALS,
    rows: int = LEARNED,
    max_steps: int | None = None,
    random_state: int = 0,
    on_progress: Callable[[str], None] | None = None,
    run: RunTrial = run_trial,
) -> Comparison:
    """Compare pwflow with simpler models on the readings of a plant, and say what to use.

    Arguments:
        plant: The plant; its source is read first if it has no readings yet.
        labels_file: Known faults; those of the simulated plant, or injected ones, if None.
        regimes: Numbers of regimes to try, over the whole plant; those that leave a regime fewer readings than a
            flow needs are left out, and 1 is always tried.
        rivals: Which of `RIVALS` to compare with.
        rows: Most readings to learn from.
        max_steps: Most gradient steps of a flow, for a quick look.
        random_state: Seed of every model.
        on_progress: Called with one line when something has been done.
        run: What fits and measures the contenders.

    Raises:
        ConfigurationError: A number of regimes that cannot be.
        LabelsError: The labels cannot be read, or belong to no reading that can be judged.
        SourceError: The source cannot be read.
    """
    if not regimes or min(regimes) < 1 or max(regimes) > _MOST_REGIMES:
        raise ConfigurationError(
            f"Expected numbers of regimes from 1 to {_MOST_REGIMES}, such as 1,2,4,8, got {list(regimes)}."
        )
    say = on_progress or (lambda _: None)
    ensure_readings(plant)
    facts = read_facts(plant)
    need = needed_readings(plant.config, len(facts.sensors), facts.block_readings)
    now = utc_now()
    if facts.n_complete < need.n_readings:
        results = [
            Result(contender, error="not run: too few readings") for contender in choose_contenders(regimes, rivals)
        ]
        return Comparison(now, facts, need, None, tuple(results), refuse(facts, need))
    say(f"reading a sample of {facts.n_complete:,} readings")
    trial = _read_trial(plant, facts, labels_file, rows)
    possible = [k for k in regimes if k * plant.config.flow.min_rows <= len(trial.learn)]
    jobs = [
        Job(contender, plant.config.flow, random_state, max_steps) for contender in choose_contenders(possible, rivals)
    ]
    results = run(trial, jobs, plant.config, say)
    _refuse_failures(results)
    costs, n_events, yearly = plant.config.costs, None, {}
    if costs is not None:
        n_events = events_per_year(costs, trial.facts)
        priced = {result.key: price(result, costs, n_events) for result in results}
        yearly = {key: cost for key, cost in priced.items() if cost is not None}
    return Comparison(
        now, trial.facts, need, trial, tuple(results), recommend(results, yearly), costs, n_events, yearly
    )


def _read_trial(plant: Plant, facts: TrialFacts, labels_file: Path | None, rows: int) -> Trial:
    if labels_file is not None:
        return read_trial(plant, facts, labels_from_file(plant, labels_file), rows=rows)
    try:
        return read_trial(plant, facts, labels_of_simulation(plant), rows=rows)
    except LabelsError:  # no simulated plant, or one without a fault in what can be judged
        return read_trial(plant, facts, None, rows=rows)


def _refuse_failures(results: Sequence[Result]) -> None:
    """Refuse to recommend anything if no flow could be trained.

    Raises:
        ConfigurationError: Names the first reason.
    """
    flows = [result for result in results if result.contender.kind == "pwflow"]
    if next((result for result in flows if result.contender.n_regimes == 1 and not result.error), None) is None:
        raise ConfigurationError(f"No flow could be trained on these readings: {flows[0].error}.")
