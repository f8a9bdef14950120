"""Money: what the alarms, the misses and the computing of a contender cost in a year, as the configuration has it."""

from __future__ import annotations

from dataclasses import dataclass

from pwflow_core.config import CostsConfig
from pwflow_core.poc.results import Result
from pwflow_core.poc.trial import TrialFacts

__all__ = ["YearlyCost", "events_per_year", "price"]

WEEKS = 365.25 / 7
ASSUMED_EVENTS = 12.0
"""Events to be found in a year, where neither the configuration nor labels tell."""
REFITS = 12.0
"""Refits of one regime in a year, where it can be learned alone; of everything, where not."""


@dataclass(frozen=True)
class YearlyCost:
    """What a contender costs in a year, in the currency of the configuration."""

    false_alarms: float
    missed_events: float
    computing: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.false_alarms + self.missed_events + self.computing


def events_per_year(costs: CostsConfig, facts: TrialFacts) -> float:
    """Return how many events there are to find in a year: as configured, as labelled, or assumed."""
    if costs.events_per_year is not None:
        return costs.events_per_year
    return ASSUMED_EVENTS if facts.faults_per_week is None else facts.faults_per_week * WEEKS


def price(result: Result, costs: CostsConfig, n_events: float) -> YearlyCost | None:
    """Return what a contender costs in a year; None if it failed.

    Arguments:
        result: What was measured of it.
        costs: What things cost.
        n_events: Events to be found in a year.
    """
    detection = result.detection
    if detection is None or not detection.n_faults:
        return None
    nightly, refit = result.nightly_cpu_seconds or 0.0, result.partial_refit_cpu_seconds or 0.0
    cpu_hours = (nightly * 365.25 + refit * REFITS) / 3600
    return YearlyCost(
        detection.false_per_week * WEEKS * costs.per_false_alarm,
        (1 - detection.recall) * n_events * costs.per_missed_event,
        cpu_hours * costs.per_cpu_hour,
    )
