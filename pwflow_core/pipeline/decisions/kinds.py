"""The kinds of verdict: what each asks for, who acts on it, and where it stands among the others.

This table is what judging, the status, the reports and the command line go by. A new kind is found and told in
`modelling.drift` (`verdicts`, `sentences`), gets its row here, and its words in the texts of each language.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pwflow_core.errors import UnknownVerdictError

__all__ = ["KINDS", "MACHINE_MOVED", "RUN_ANSWERS", "Answer", "Ending", "Identity", "Kind", "find_kind", "kinds_where"]

Answer = Literal["retrain", "update_weights", "ask", "none"]
Identity = Literal["regimes", "machines", "sensor"]
Ending = Literal["not_found", "back", "strangers", "both", "mix"]

RUN_ANSWERS: tuple[Answer, ...] = ("retrain", "update_weights")
"""Answers that a run can give; the others are for people."""

MACHINE_MOVED = "machine_moved"
"""The kind that a machine gets, too, which is new and unlike all others; see `flows.fleet`."""

_BY_RUN = "{by_itself}`pwflow answer {id}`, or {dismiss} if the change will not last"


@dataclass(frozen=True)
class Kind:
    """One kind of verdict.

    Attributes:
        name: Its name in `mart.drift_verdicts`, and its key among the texts `verdict` and `said` of the reports.
        says: What it says, as a sentence.
        answer: What is to be done: `retrain` the regimes, `update_weights` of them, `ask` a person, or nothing.
        acts: Who acts on it.
        identity: By what two verdicts are about the same thing: their regimes, their machines, or one sensor of them.
        next_step: What a person does about an open one. May name {id}, {dismiss} (the command that dismisses it),
            {where} (its sensors and machines), and {by_itself} (what happens without a person).
        is_proposal: Whether a person can approve it as a new regime.
        holds_back: Whether training skips the readings of its machines and regimes while it is open.
        ends: When it is over, and closes by itself: with the first night in which it is `not_found` again, or after
            three nights in which its regimes and machines are `back` where they were, or have no `strangers`, which are
            readings that fit no regime, or both; of a `mix`, in which the shares are what they were. What is about no
            regime, such as a change of units, is over when it is not found again.
    """

    name: str
    says: str
    answer: Answer
    acts: str
    identity: Identity
    next_step: str
    ends: Ending
    is_proposal: bool = False
    holds_back: bool = False


KINDS: tuple[Kind, ...] = (
    Kind(
        "outage",
        says="The readings of a machine stopped coming, or can no longer be judged. It closes by itself.",
        answer="none",
        acts="you",
        identity="machines",
        next_step="find out why no readings come; the verdict closes by itself when they come again",
        ends="not_found",
    ),
    Kind(
        "sensor_suspected",
        says="One sensor is off in all regimes, or reads in another unit.",
        answer="ask",
        acts="you",
        identity="sensor",
        next_step="look at {where}; then {dismiss}",
        ends="both",
    ),
    Kind(
        MACHINE_MOVED,
        says="One machine moved and the others hold still: probably a fault. Training skips its readings meanwhile.",
        answer="ask",
        acts="you",
        identity="regimes",
        next_step="look at {where}; retraining skips these readings until this is closed; {dismiss} if it is normal",
        ends="back",
        holds_back=True,
    ),
    Kind(
        "new_regime",
        says="Many readings fit no regime: a new way of running, or a fault.",
        answer="ask",
        acts="you: [approve](../how-to/approve-a-regime.md) or dismiss",
        identity="regimes",
        next_step="`pwflow approve {id}` if it is a way of running that you know, else {dismiss}",
        ends="strangers",
        is_proposal=True,
    ),
    Kind(
        "regime_moved",
        says="A regime moved, on all machines alike.",
        answer="retrain",
        acts="a run, or `pwflow answer`",
        identity="regimes",
        next_step=_BY_RUN,
        ends="back",
    ),
    Kind(
        "mix_moved",
        says="The regimes are as they were, but their shares changed. Only the weights are updated.",
        answer="update_weights",
        acts="a run, or `pwflow answer`",
        identity="regimes",
        next_step=_BY_RUN,
        ends="mix",
    ),
)
"""Every kind, in the order in which those of one night are shown: what may be a fault comes first."""

_BY_NAME = {kind.name: kind for kind in KINDS}


def find_kind(name: str) -> Kind:
    """Return a kind by its name.

    Raises:
        UnknownVerdictError: This release knows no such kind.
    """
    if name not in _BY_NAME:
        raise UnknownVerdictError(
            f"Expected a kind of verdict that this release knows ({', '.join(_BY_NAME)}), got {name[:80]!r} in "
            "mart.drift_verdicts: install the release that wrote it."
        )
    return _BY_NAME[name]


def kinds_where(trait: Literal["is_proposal", "holds_back"]) -> Sequence[str]:
    """Return the names of the kinds that have a trait."""
    return [kind.name for kind in KINDS if getattr(kind, trait)]
