r"""States: channels that take few values, or never move. What was not seen before is told by counting days.

A valve that is 0 or 1 and a setpoint that never moves have no density. What can be known of them is which values they
take, and in which company: in which regime, on which machine, beside which values of the other states. A value counts
as *known* if it was seen on two days at least, for normal operation comes back; so does a value in a company. A
company that was not seen is *new* only if it was to be expected on ten days, were the two independent: if D_a D_b / D
is at least 10, with D_a and D_b the days on which each of the two was seen, of D.

How often something new is seen in normal operation follows from the readings that were learned from, by what the other
days would have known of each (Good and Turing): of N readings n would have been new, the worst day left out, so that
one fault of the history does not matter, and

    chance = (1 + n) / (1 + N)

is the p-value of a reading that shows something new; that of any other is 1. A sensor that keeps taking new values
would hide all others, so new values of it say nothing. The p-value is merged with that of the models by

    p = a + (chance if a >= chance else 0),    a = the smaller of the two

for the chance that a is at most t is, for any dependence, at most t + chance for t >= chance, and t below. So p is at
most twice the smaller of the two. One state in the wrong company raises an alarm if at least 2 / alpha readings were
learned from. Readings are counted as they are, not by blocks of time: a channel that hardly ever moves has no rhythm.

References:
    Good (1953), The population frequencies of species. Attainable p-values: Tarone (1990).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGEST_CHANCE", "Company", "StateBlame", "States", "fit_states", "merge_states"]

Array = NDArray[np.float64]

LARGEST_CHANCE = 0.01
"""Where something new is seen more often in normal operation, states say nothing."""

_FEWEST_DAYS = 2
_EXPECTED_DAYS = 10
_MOST_NEW = 1 / 2000
_MOST_PAIRED = 40
"""With more states, pairs of them are left out: each is seen beside its regime and its machine alone."""

_REGIME, _MACHINE = -2, -1
_Item = tuple[int, str | float]
"""A regime, a machine, or a value of the state at this position."""


@dataclass(frozen=True)
class Company:
    """One way in which states came.

    Attributes:
        regime: The regime.
        machine: The machine.
        values: Values of the states, None where there is none, shape (S,).
        day: The day, or block of time.
        n_readings: In how many readings.
    """

    regime: str
    machine: str
    values: tuple[float | None, ...]
    day: int
    n_readings: int


@dataclass(frozen=True, eq=False)
class StateBlame:
    """What states have to do with an anomaly, shape (S,) each: the rest of it is that of the models.

    Attributes:
        share: Part of each in the anomaly, 0 to 1.
        observed: Its value, NaN where there is none.
        expected: Its usual value in the regime, NaN where there is none.
    """

    share: Array
    observed: Array
    expected: Array


@dataclass(frozen=True, eq=False)
class States:
    """What is known of the states of a segment.

    Attributes:
        sensors: Their names, in order.
        is_watched: Whether a new value of each says something, shape (S,).
        chance: How often a normal reading shows something new.
        n_days: Days, or blocks of time, that were seen.
        days: On how many of them each regime, machine and value was seen.
        pairs: On how many of them each value was seen in each company.
    """

    sensors: tuple[str, ...]
    is_watched: tuple[bool, ...]
    chance: float
    n_days: int
    days: Mapping[_Item, int]
    pairs: Mapping[tuple[_Item, _Item], int]

    @property
    def can_tell(self) -> bool:
        """Whether something new is rare enough in normal operation to say something."""
        return self.chance <= LARGEST_CHANCE

    def blame(self, regime: str, machine: str, values: Sequence[float | None]) -> Array:
        """Return the share of each state in what is new, shape (S,); zeros where nothing is.

        The state that is in most of the company that is new has all of it; several of those share it.
        """
        n_new = np.zeros(len(self.sensors))
        if self.can_tell:
            for items in self._new(regime, machine, values, own=0):
                n_new[[place for place, _ in items if place >= 0]] += 1
        most = (n_new > 0) & (n_new == n_new.max(initial=0.0))
        return np.asarray(most / max(most.sum(), 1))

    def explain(self, regime: str, machine: str, values: Sequence[float | None], p_value: float) -> StateBlame:
        """Tell what the states have to do with an anomaly.

        All of it, where what they show is rarer than what the models say of the reading. Otherwise both have their part
        by their -log p.

        Arguments:
            regime: Regime of the reading.
            machine: Its machine.
            values: Its states.
            p_value: What merging made of it.
        """
        share = self.blame(regime, machine, values)
        if p_value < self.chance:
            share = share * np.log(self.chance) / (np.log(self.chance) + np.log(p_value))
        observed = np.array([np.nan if value is None else value for value in values])
        return StateBlame(share, observed, self.usual(regime))

    def usual(self, regime: str) -> Array:
        """Return the value that each state has on most days in a regime, or at all, shape (S,); NaN without any."""
        found = np.full(len(self.sensors), np.nan)
        for place in range(len(self.sensors)):
            own = {value: n for (s, value), n in self.days.items() if s == place}
            here = {value: self.pairs.get(((_REGIME, regime), (place, value)), 0) for value in own}
            if own:
                found[place] = min(own, key=lambda value: (-here[value], -own[value], value))
        return found

    def _new(
        self, regime: str, machine: str, values: Sequence[float | None], own: int
    ) -> list[tuple[_Item] | tuple[_Item, _Item]]:
        """Return what is new, were `own` of the days on which each was seen not known."""
        found: list[tuple[_Item] | tuple[_Item, _Item]] = []
        items: list[_Item] = []
        for place, value in enumerate(values):
            if value is None or not self.is_watched[place]:
                continue
            item: _Item = (place, float(value))
            if self.days.get(item, 0) - own < _FEWEST_DAYS:
                found.append((item,))
            items.append(item)
        for pair in _pairs(regime, machine, items):
            if self.pairs.get(pair, 0) - own >= _FEWEST_DAYS:
                continue
            one, other = (self.days.get(item, 0) - own for item in pair)
            if one * other >= _EXPECTED_DAYS * (self.n_days - own):
                found.append(pair)
        return found

    def to_document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "sensors": list(self.sensors),
            "is_watched": list(self.is_watched),
            "chance": self.chance,
            "n_days": self.n_days,
            "days": [[*item, n] for item, n in self.days.items()],
            "pairs": [[*one, *other, n] for (one, other), n in self.pairs.items()],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> States:
        """Return what `to_document` wrote."""
        return cls(
            tuple(document["sensors"]),
            tuple(document["is_watched"]),
            document["chance"],
            document["n_days"],
            {(place, value): n for place, value, n in document["days"]},
            {((a, x), (b, y)): n for a, x, b, y, n in document["pairs"]},
        )


def fit_states(sensors: Sequence[str], seen: Sequence[Company]) -> States:
    """Learn which states are known.

    Arguments:
        sensors: Names of the states, in the order of their values.
        seen: What readings of normal operation came with, each way of a day once.
    """
    days: dict[_Item, set[int]] = {}
    pairs: dict[tuple[_Item, _Item], set[int]] = {}
    for company in seen:
        items: list[_Item] = [(s, float(value)) for s, value in enumerate(company.values) if value is not None]
        for item in ((_REGIME, company.regime), (_MACHINE, company.machine), *items):
            days.setdefault(item, set()).add(company.day)
        for pair in _pairs(company.regime, company.machine, items):
            pairs.setdefault(pair, set()).add(company.day)
    n_readings = sum(company.n_readings for company in seen)
    n_of = {item: len(found) for item, found in days.items()}
    is_watched = []
    for place in range(len(sensors)):
        new: Counter[int] = Counter()
        for company in seen:
            value = company.values[place]
            if value is not None and n_of[place, float(value)] - 1 < _FEWEST_DAYS:
                new[company.day] += company.n_readings
        has_values = any(company.values[place] is not None for company in seen)
        is_watched.append(has_values and _beside_worst(new) <= _MOST_NEW * n_readings)
    known = States(
        tuple(sensors),
        tuple(is_watched),
        1.0,
        len({company.day for company in seen}),
        n_of,
        {pair: len(found) for pair, found in pairs.items()},
    )
    new = Counter()
    for company in seen:
        if known._new(company.regime, company.machine, company.values, own=1):
            new[company.day] += company.n_readings
    chance = (1 + _beside_worst(new)) / (1 + n_readings)
    return States(known.sensors, known.is_watched, chance, known.n_days, known.days, known.pairs)


def merge_states(own: Array, is_new: NDArray[np.bool_], chance: float) -> Array:
    """Merge p-values of the models with what the states say, shape (N,) each; `chance` is that of the states."""
    smaller = np.minimum(own, np.where(is_new, chance, 1.0))
    return np.asarray(np.minimum(smaller + np.where(smaller >= chance, chance, 0.0), 1.0))


def _pairs(regime: str, machine: str, items: Sequence[_Item]) -> list[tuple[_Item, _Item]]:
    beside: list[_Item] = [(_REGIME, regime), (_MACHINE, machine)]
    found = [(one, item) for item in items for one in beside]
    if len(items) <= _MOST_PAIRED:
        found += [(one, other) for i, one in enumerate(items) for other in items[i + 1 :]]
    return found


def _beside_worst(by_day: Counter[int]) -> int:
    return sum(by_day.values()) - max(by_day.values(), default=0)
