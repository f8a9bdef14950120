"""Scoring what arrives, by the models of the last night; they are changed under way, and what is remembered stays."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from pwflow_core.edge import EdgeScorer, Score
from pwflow_core.edge.lines import Readings
from pwflow_core.watching.night import Night, later_part

__all__ = ["LiveScorer"]


class LiveScorer:
    """Scores readings that are later than what the night has read, each once.

    Arguments:
        night: The night to begin with.
        state: State of an earlier watch; None to begin where the night ended.

    Attributes:
        refused: Readings that were not scored, by reason.

    Raises:
        ModelFileError: The bundle or the state is damaged.
    """

    def __init__(self, night: Night, state: bytes | None) -> None:
        self.refused: Counter[str] = Counter()
        self.change(night, state)

    @property
    def night(self) -> Night:
        """The night that it scores by."""
        return self._night

    @property
    def model_set_id(self) -> str:
        """What it scores by."""
        return self._night.bundle.model_set_id

    def change(self, night: Night, state: bytes | None) -> None:
        """Score by another night from now on; each machine goes on from where it is."""
        self._night = night
        self._scorer = EdgeScorer(night.bundle)
        if state is not None:
            self._scorer.restore(later_part(state, night.read_until))

    def state(self) -> bytes:
        """Return what the next readings depend on."""
        return self._scorer.state()

    def score(self, readings: Readings) -> list[Score]:
        """Score readings; those that cannot be scored now are counted, and the night decides about them.

        A machine that the warehouse does not know is not scored: names on the wire must not fill the memory.
        """
        names = [name.strip(" ") for name in readings.machine]
        until = self._night.read_until
        is_known = np.array([name in until for name in names], dtype=np.bool_)
        is_read = readings.at <= np.array([until.get(name, _NEVER) for name in names], dtype=np.int64)
        self.refused["missing_machine"] += names.count("")
        self.refused["unknown_machine"] += int((~is_known).sum()) - names.count("")
        self.refused["read_by_the_night"] += int((is_known & is_read).sum())
        rows: NDArray[np.intp] = np.flatnonzero(is_known & ~is_read)
        found = self._scorer.score(
            [names[row] for row in rows],
            readings.at[rows],
            readings.values[rows],
            [readings.segment[row] for row in rows],
            not_numbers=readings.not_numbers[rows],
        )
        self.refused += self._scorer.refused
        self._scorer.refused.clear()
        return found


_NEVER = np.iinfo(np.int64).min
