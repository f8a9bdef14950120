"""The watch: takes what arrives, scores it, and keeps scores, state and positions in one step, until it is stopped."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pwflow_core.config import PlantConfig
from pwflow_core.errors import LiveStoreError, NotFittedError, PwflowError
from pwflow_core.notifying.delivering import is_wanted, send_waiting
from pwflow_core.plant import Plant
from pwflow_core.warehouse import utc_now
from pwflow_core.warehouse.lock import HeldError, hold
from pwflow_core.watching.arriving import Arrived, Source
from pwflow_core.watching.cases import derive_live_cases, tell_live
from pwflow_core.watching.duties import Duty
from pwflow_core.watching.health import serving
from pwflow_core.watching.night import Night, read_night
from pwflow_core.watching.publishing import publish_live
from pwflow_core.watching.refreshing import CopyNight, copy_in_a_process
from pwflow_core.watching.returning import Returning
from pwflow_core.watching.scoring import LiveScorer
from pwflow_core.watching.store import LiveStore, Session

__all__ = ["OpenSource", "Watch", "WatchCounts"]

_log = logging.getLogger("pwflow.watch")

OpenSource = Callable[[Night, Callable[[str], Mapping[str, str]]], Source]
"""Opens a source, given the night and what returns the positions of an earlier watch, by the name of the source."""

_LOCK = "lock"
_STORE = "live.sqlite"
_WAIT_SECONDS = 0.5
_IDLE_POLLS = 2.5
_LIMIT_SECONDS = 60.0
_PROGRESS_SECONDS = 60.0
_NIGHT_SECONDS = 5.0
_CASES_SECONDS = 1.0
_SEND_SECONDS = 5.0
_END_SECONDS = 20.0
_LONGEST_REST = 120.0
_MOST_LAGS = 10_000
_STUCK_SECONDS = 60.0


class Lags:
    """The last of the lags: seconds from the arrival of a batch until its scores were on the disk."""

    def __init__(self) -> None:
        self.count = 0
        self._last = np.full(_MOST_LAGS, np.nan)

    def add(self, seconds: float) -> None:
        """Add one."""
        self._last[self.count % _MOST_LAGS] = seconds
        self.count += 1

    def percentiles(self, *shares: float) -> list[float]:
        """Return percentiles, in seconds; NaN before the first one."""
        found: list[float] = np.nanpercentile(self._last, shares).tolist() if self.count else [np.nan] * len(shares)
        return found


@dataclass
class WatchCounts:
    """What a watch has done since it began.

    Attributes:
        by_status: Readings by status.
        anomalies: Anomalies.
        refused: What arrived and was not scored, by reason.
        nights: Nights that were taken up.
        lags: How long the scores took.
        newest: Time of the latest reading, µs since 1970; None before the first.
    """

    by_status: Counter[str] = field(default_factory=Counter)
    anomalies: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    nights: int = 0
    lags: Lags = field(default_factory=Lags)
    newest: int | None = None

    @property
    def readings(self) -> int:
        """Readings that got a score, or a status that says why they are not judged."""
        return self.by_status.total()

    def __str__(self) -> str:
        """Return it as a sentence."""
        unjudged = ", ".join(f"{n:,} {name}" for name, n in sorted(self.by_status.items()) if name != "scored")
        refused = ", ".join(f"{n:,} {reason}" for reason, n in sorted((+self.refused).items()))
        said = f"{self.readings:,} readings, {self.anomalies:,} anomalies; not judged: {unjudged or 'none'}; "
        said += f"refused: {refused or 'none'}"
        if self.lags.count:
            middle, most = self.lags.percentiles(50, 99)
            said += f"; lag {middle:.2f} s, at most {most:.2f} s for 99 %"
        return f"{said}."


class Watch:
    """Scores what arrives between two nights.

    Arguments:
        plant: The plant.
        open_source: Opens what brings the readings.
        once: End when nothing more arrives, instead of waiting for more.
        copy_night: Copies what is needed of the warehouse.

    Attributes:
        counts: What it has done.
        store: What it has found.
    """

    def __init__(
        self,
        plant: Plant,
        open_source: OpenSource,
        *,
        once: bool = False,
        copy_night: CopyNight = copy_in_a_process,
    ) -> None:
        self.counts = WatchCounts()
        self.folder = plant.config.watch_folder
        self.store = LiveStore(self.folder / _STORE)
        self._plant, self._open_source, self._once, self._copy_night = plant, open_source, once, copy_night
        self._stopped = threading.Event()
        self._fresh: Night | None = None
        self._commit_seen, self._commit_seen_at, self._changed_at = -1, 0.0, 0.0
        self._cases_of: tuple[object, ...] = ()
        self._published_of: tuple[object, ...] = ()
        self._n_batches = 0
        self._night: Night | None = None
        self._source: Source | None = None
        self._duties: list[Duty] = []
        self._alive_at = time.monotonic()
        self._returning: Returning | None = None

    @property
    def config(self) -> PlantConfig:
        """The configuration of the plant."""
        return self._plant.config

    @property
    def night(self) -> Night | None:
        """The night that is scored by; None before the first batch."""
        return self._night

    @property
    def troubles(self) -> dict[str, str]:
        """What is wrong now, by what it is about; empty if all is well."""
        found = {duty.name: duty.error for duty in self._duties if duty.error is not None}
        if not getattr(self._source, "is_connected", True):
            found["source"] = "the broker is not connected"
        if self._returning is not None and not self._returning.is_connected:
            found["writing back"] = "the broker is not connected"
        if time.monotonic() - self._alive_at > _STUCK_SECONDS:
            found["scoring"] = f"nothing was taken for more than {_STUCK_SECONDS:g} s"
        return found

    def describe(self) -> dict[str, Any]:
        """Return what there is to know of it now, as JSON has it."""
        night, counts = self._night, self.counts
        last_run = None if night is None else night.facts["last_run"]
        middle, most = counts.lags.percentiles(50, 99)
        return {
            "plant": self.config.plant.name,
            "is_ok": not self.troubles,
            "troubles": self.troubles,
            "readings": counts.readings,
            "by_status": dict(counts.by_status),
            "anomalies": counts.anomalies,
            "refused": dict(+counts.refused),
            "lag_seconds": {"p50": middle, "p99": most} if counts.lags.count else None,
            "newest_reading": None if counts.newest is None else counts.newest / 1e6,
            "model_set_id": None if night is None else night.bundle.model_set_id,
            "last_run": last_run and last_run | {"ended_at": last_run["ended_at"] / 1e6},
            "last_scored_at": None if night is None else (night.facts["scored_at"] or 0) / 1e6,
        }

    def stop(self) -> None:
        """End it after the batch that is at work."""
        self._stopped.set()

    def run(self) -> WatchCounts:
        """Watch until it is stopped, or until the source ends.

        Raises:
            NotFittedError: Nothing was scored by a run yet.
            LiveStoreError: Another watch of this plant is at work, or the live scores cannot be kept.
            ConfigurationError: The source cannot be followed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with hold(self.folder / _LOCK):
                self._run()
        except HeldError as error:
            raise LiveStoreError(
                f"{error.holder or 'Another process'} watches this plant already: end it first; one is enough."
            ) from None
        return self.counts

    def _run(self) -> None:
        night = self._first_night()
        with self.store.session() as session:
            scorer = LiveScorer(night, session.state())
            duties = self._duties = self._make_duties()
            try:
                if session.night() != night.name:
                    session.begin_night(night.name, night.scored_until, scorer.state())
                self._night = night
                source = self._source = self._open_source(night, session.positions)
                source.use(night.bundle.document["source"])
                _log.info("scoring by model set %s; %s", scorer.model_set_id, _say_night(night))
                if self.config.watch.publish_to is not None:
                    self._returning = Returning(self.config)
                for duty in duties:
                    duty.start()
                with serving(self):
                    self._loop(session, scorer, source)
            finally:
                for duty in duties:
                    duty.end(_END_SECONDS)
                for held in (self._source, self._returning):
                    if held is not None:
                        held.close()
            for duty in duties[1:]:
                duty.do()

    def _loop(self, session: Session, scorer: LiveScorer, source: Source) -> None:
        idle_since, told_at, limited_at = time.monotonic(), time.monotonic(), time.monotonic()
        while not self._stopped.is_set():
            if (fresh := self._fresh) is not None:
                self._fresh = None
                self._take_up(fresh, session, scorer, source)
            arrived = source.take(_WAIT_SECONDS)
            self.counts.refused += source.refused
            source.refused.clear()
            now = self._alive_at = time.monotonic()
            if arrived is not None:
                self._score(arrived, session, scorer, source)
                idle_since = now
            elif source.is_over or (self._once and now - idle_since > _IDLE_POLLS * self.config.watch.poll_seconds):
                return
            if now - limited_at > _LIMIT_SECONDS:
                self.counts.refused["beyond_most_readings"] += session.limit(self.config.watch.most_readings)
                limited_at = now
            if now - told_at > _PROGRESS_SECONDS:
                _log.info("%s", self.counts)
                told_at = now

    def _score(self, arrived: Arrived, session: Session, scorer: LiveScorer, source: Source) -> None:
        """Score readings, and keep what comes after them; only then does the source hear of it."""
        scores = scorer.score(arrived.readings)
        now = time.time()
        session.commit(
            scores,
            model_set_id=scorer.model_set_id,
            at=int(now * 1e6),
            source=source.name,
            positions=arrived.positions,
            state=scorer.state(),
        )
        source.settle(arrived)
        if self._returning is not None:
            self._returning.publish(scores)
        self._n_batches += 1
        counts = self.counts
        counts.refused += scorer.refused
        scorer.refused.clear()
        counts.by_status.update(score.status for score in scores)
        counts.anomalies += sum(bool(score.is_anomaly) for score in scores)
        counts.newest = max([score.at for score in scores] + ([counts.newest] if counts.newest else []), default=None)
        counts.lags.add(time.time() - arrived.at)

    def _take_up(self, night: Night, session: Session, scorer: LiveScorer, source: Source) -> None:
        """Go on by another night: its models, and without the live scores that it replaced."""
        before = scorer.model_set_id
        scorer.change(night, scorer.state())
        n_gone = session.begin_night(night.name, night.scored_until, scorer.state())
        source.use(night.bundle.document["source"])
        self._night = night
        self.counts.nights += 1
        what = "the same models" if scorer.model_set_id == before else f"model set {scorer.model_set_id}"
        _log.info("a run has ended: %s; it replaced %s live scores; %s", what, f"{n_gone:,}", _say_night(night))

    def _first_night(self) -> Night:
        """Return the night to begin with: a copy of the warehouse, or the last one if it cannot be copied now."""
        try:
            known = read_night(self.folder)
        except PwflowError as error:
            known = None
            _log.warning("%s", error)
        if known is not None and known.commit == self._plant.warehouse.last_commit_number():
            return known
        _log.info("copying models, rules and cases from the warehouse")
        try:
            self._copy_night(self.config, self.folder)
        except PwflowError as error:
            if known is None:
                raise
            _log.warning("Scoring by the run before: %s", error)
        found = read_night(self.folder)
        if found is None:
            raise NotFittedError("There is nothing to score by yet: run `pwflow run` first.")
        return found

    def _make_duties(self) -> list[Duty]:
        return [
            Duty("following the runs", self._follow_runs, every_seconds=_NIGHT_SECONDS, share=0.5),
            Duty("events and cases", self._derive_cases, every_seconds=_CASES_SECONDS),
            Duty("telling", self._send, every_seconds=_SEND_SECONDS, share=0.5),
            Duty("publishing", self._publish, every_seconds=self.config.watch.publish_seconds),
        ]

    def _follow_runs(self) -> None:
        """Copy the warehouse again once it has changed, and rests."""
        commit, now = self._plant.warehouse.last_commit_number(), time.monotonic()
        night = self._fresh or self._night
        if night is None or not commit or commit == night.commit:
            self._changed_at = now
            return
        if commit != self._commit_seen and now - self._changed_at < _LONGEST_REST:
            self._commit_seen = commit
            return
        self._changed_at = now
        self._copy_night(self.config, self.folder)
        self._fresh = read_night(self.folder)

    def _derive_cases(self) -> None:
        """Derive events and cases again if there are other anomalies than before."""
        night = self._night
        if night is None:
            return
        with self.store.session() as session:
            now = (night.name, *session.last_anomaly())
            is_empty = not now[1] and not session.counts()[2]
        if now == self._cases_of or is_empty:
            return
        found = derive_live_cases(self._plant, night, self.store, self.folder)
        with self.store.session() as session:
            session.put_events(found.events)
        if n_new := tell_live(self.config, found.notices):
            _log.info("%d to tell: %s", n_new, "; ".join(notice.summary for notice in found.notices[-3:]))
        self._cases_of = now

    def _send(self) -> None:
        """Send what people are told; a target that does not take it is tried again later."""
        if is_wanted(self.config):
            send_waiting(self.config)

    def _publish(self) -> None:
        """Publish the live scores if there are others than before."""
        now = (self._n_batches, self.counts.nights, self._cases_of, self.config.live_path.exists())
        if now != self._published_of:
            publish_live(self.store, self.config.live_path, self.config.compute.memory_limit)
            self._published_of = (*now[:3], True)


def _say_night(night: Night) -> str:
    scored_at = night.facts.get("scored_at")
    if scored_at is None:
        return "nothing was scored yet"
    age = max(0.0, (utc_now() - np.datetime64(scored_at, "us").astype(object)).total_seconds())
    return f"the last run scored {age / 3600:.1f} hours ago"
