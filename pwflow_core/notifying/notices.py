"""A notice: one thing that people have to be told, once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pwflow_core.config import Severity

__all__ = ["Notice", "NoticeKind", "identify"]

NoticeKind = Literal["opened", "worse", "reopened", "closed", "decision", "no_data", "blind", "failed_run", "late"]


@dataclass(frozen=True)
class Notice:
    """One thing that people have to be told.

    Attributes:
        notice_id: The same whenever it is found again in the record, and never that of another.
        kind: What it is.
        subject: What it is about: a case, a verdict, a regime, a run. Several notices of one subject that wait for
            each other are told together.
        severity: How bad it is.
        at: When it came about, UTC.
        summary: What happened, as a sentence in English.
        is_over: Whether it is history: news to those who were told how it began, and to nobody else.
        machines: Machines, as far as it is about some.
        sensors: Sensors that caused it.
        regimes: Keys of regimes.
        since: Since when, as far as that is known: a day or a time, UTC.
        verdict: Kind of the verdict on drift that it is about.
        next_step: What to do, as a sentence in English; empty if there is nothing.
        event: Id of the event that shows it best.
        regime_names: The regimes as people know them, each with its key, in the order of `regimes`; empty where nobody
            named any.
    """

    notice_id: str
    kind: NoticeKind
    subject: str
    severity: Severity
    at: datetime
    summary: str
    is_over: bool = False
    machines: tuple[str, ...] = ()
    sensors: tuple[str, ...] = ()
    regimes: tuple[str, ...] = ()
    since: datetime | None = None
    verdict: str | None = None
    next_step: str = ""
    event: str | None = None
    regime_names: tuple[str, ...] = ()

    @property
    def shown_regimes(self) -> tuple[str, ...]:
        """The regimes as people are to read them."""
        return self.regime_names or self.regimes


def identify(*parts: object) -> str:
    """Return an id made of what a notice is about: readable where that is short, always told apart by all of it."""
    named = [part.isoformat() if isinstance(part, datetime) else str(part) for part in parts]
    digest = hashlib.sha256("\n".join(named).encode()).hexdigest()[:12]
    return f"{'.'.join(named[:2])[:60]}.{digest}"
