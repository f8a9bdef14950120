"""From the record to the receivers: what is new is noted, put together into messages, and sent; each step on its own.

A process may be killed anywhere. What was noted is put together by the next one, what was put together is sent by the
next one, and what was sent without that being recorded is sent again under the same id.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

from pwflow_core.config import SEVERITIES, Language, PlantConfig, TargetConfig
from pwflow_core.errors import ConfigurationError, NotificationError, list_few
from pwflow_core.notifying.channels import send
from pwflow_core.notifying.notices import Notice, identify
from pwflow_core.notifying.outbox import Message, Outbox, Queued
from pwflow_core.notifying.record import count_record, read_record
from pwflow_core.notifying.wording import word_message, word_test
from pwflow_core.plant import Plant
from pwflow_core.warehouse import utc_now
from pwflow_core.warehouse.lock import HeldError, hold

__all__ = [
    "Delivered",
    "check_targets",
    "due_work",
    "is_wanted",
    "note_run",
    "send_waiting",
    "take_up",
    "tell",
    "try_targets",
]

_log = logging.getLogger("pwflow.notifying")

_HOUR = timedelta(hours=1)
_PAUSES = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 30))
_PATIENCE = timedelta(days=7)

Draw = Callable[[Notice, Language], bytes | None]
"""Returns the picture of a notice, as PNG; None if there is none."""


@dataclass(frozen=True)
class Delivered:
    """What came of telling.

    Attributes:
        n_new: Notices that were not known before.
        n_sent: Messages that arrived, by target.
        errors: Why sending failed, by target.
    """

    n_new: int
    n_sent: dict[str, int]
    errors: dict[str, str]


def is_wanted(config: PlantConfig) -> bool:
    """Return whether there is anybody to tell."""
    return bool(config.notify.targets)


def tell(plant: Plant, *, now: datetime | None = None) -> Delivered:
    """Take up what the record has to tell, and send what is due; a target that fails is tried again later.

    Arguments:
        plant: The plant.
        now: UTC; the time now where it is None.
    """
    if not is_wanted(plant.config):
        return Delivered(0, {}, {})
    n_new = take_up(plant, now=now or utc_now())
    n_sent, errors = send_waiting(plant.config, now=now, draw=partial(_draw_event, plant))
    return Delivered(n_new, n_sent, errors)


def take_up(plant: Plant, *, now: datetime) -> int:
    """Note what the record has to tell and the outbox does not know yet; return how much that is."""
    outbox = _outbox(plant.config)
    notices, commits = read_record(plant, is_first=not outbox.commits_read())
    return outbox.note(notices, plant.config.notify.targets, now=now, commits=commits)


def note_run(config: PlantConfig, notice: Notice) -> None:
    """Note that a run failed or is late; it is sent with what is due. The warehouse is not asked: it may be why."""
    if is_wanted(config):
        _outbox(config).note([notice], config.notify.targets, now=utc_now())


def send_waiting(
    config: PlantConfig, *, now: datetime | None = None, draw: Draw | None = None
) -> tuple[dict[str, int], dict[str, str]]:
    """Put together and send what is due; return how many messages arrived and why others did not, by target.

    Only one process sends at a time; another one returns at once, with nothing sent.
    """
    outbox = _outbox(config)
    n_sent, errors = {}, {}
    if not outbox.exists:
        return {}, {}
    try:
        with hold(outbox.lock_path):
            for name, target in config.notify.targets.items():
                _put_together(config, outbox, name, target, now or utc_now())
                n_sent[name], error = _send_due(config, outbox, name, target, now, draw)
                if error is not None:
                    errors[name] = error
    except HeldError as error:
        _log.info("%s sends already what people are told", error.holder or "another process")
    return n_sent, errors


def due_work(plant: Plant, *, now: datetime) -> str | None:
    """Return what `tell` would do now, in words that change with each attempt; None if there is nothing to do.

    Asks neither the warehouse nor any target, so it may be asked often.
    """
    config = plant.config
    if not is_wanted(config):
        return None
    outbox = _outbox(config)
    parts = []
    # a warehouse that was put back to a backup has fewer of them; 0 says that they cannot be told now
    if (commits := count_record(plant)) and commits != outbox.commits_read():
        parts.append(f"the record up to commit {commits}")
    if outbox.exists:
        for name, target in config.notify.targets.items():
            due = [f"{m.message_id} ({m.attempts})" for m in _due(config, outbox, name, target, now)]
            queued = _tellable(config, target, outbox.queued(name), now)
            if queued and _room(outbox, name, target, now) > 0:
                due.append(f"{len(queued)} from {queued[0].notice_id}")
            if due:
                parts.append(f"{name}: {list_few(due)}")
    return "; ".join(parts) or None


def check_targets(config: PlantConfig, names: Sequence[str] = ()) -> list[str]:
    """Return the names of targets, all of them where none is given.

    Raises:
        ConfigurationError: The target does not exist, or none at all.
    """
    known = config.notify.targets
    if not known or any(name not in known for name in names):
        wanted = f"got {list_few([repr(name[:40]) for name in names])}" if known else "there is none"
        raise ConfigurationError(
            f"Expected targets of [notify] in pwflow.toml ({', '.join(known) or 'such as [notify.targets.mail]'}), "
            f"{wanted}: name or add one."
        )
    return list(names or known)


def try_targets(config: PlantConfig, names: Sequence[str]) -> dict[str, str | None]:
    """Send a test to targets, whatever the hour; return why it failed, or None, by target."""
    now, outcomes = utc_now(), dict[str, str | None]()
    for name in names:
        target = config.notify.targets[name]
        letter = word_test(config, target.language, identify("test", name, now), now)
        try:
            send(name, target, letter)
            outcomes[name] = None
        except NotificationError as error:
            outcomes[name] = str(error)
    return outcomes


def _outbox(config: PlantConfig) -> Outbox:
    return Outbox(config.outbox_path)


def _tellable(config: PlantConfig, target: TargetConfig, queued: list[Queued], now: datetime) -> list[Queued]:
    """Return what quiet hours do not hold back."""
    local = _local(config, now)
    return [part for part in queued if not target.waits(part.severity, local)]


def _room(outbox: Outbox, name: str, target: TargetConfig, now: datetime) -> int:
    """Return how many more messages may be put together for a target now."""
    return target.most_per_hour - outbox.occupied(name, now - _HOUR)


def _put_together(config: PlantConfig, outbox: Outbox, name: str, target: TargetConfig, now: datetime) -> None:
    """Make messages of what is queued: one per subject, or, if those are too many, the gravest and one summary."""
    queued = _tellable(config, target, outbox.queued(name), now)
    room = _room(outbox, name, target, now)
    if not queued or room <= 0:
        return
    subjects: dict[str, list[Queued]] = {}
    for part in queued:
        subjects.setdefault(part.subject, []).append(part)
    alone = list(subjects.values())
    if len(alone) > room:
        gravest = sorted(alone, key=lambda parts: -max(SEVERITIES.index(part.severity) for part in parts))
        alone, rest = gravest[: room - 1], gravest[room - 1 :]
        parts = [part for group in rest for part in group]
        outbox.put_together(_identify(config, parts, "summary"), name, parts, is_summary=True, now=now)
    for parts in alone:
        outbox.put_together(_identify(config, parts, parts[-1].notice_id), name, parts, is_summary=False, now=now)


def _identify(config: PlantConfig, parts: Sequence[Queued], named: str) -> str:
    """Return the id of a message: that of its notice; of several, that of the last one and a digest of them all."""
    if len(parts) == 1:
        return f"{config.plant.name}.{parts[0].notice_id}"
    digest = hashlib.sha256("\n".join(part.notice_id for part in parts).encode()).hexdigest()[:8]
    return f"{config.plant.name}.{named}.{digest}"


def _due(config: PlantConfig, outbox: Outbox, name: str, target: TargetConfig, now: datetime) -> list[Message]:
    local = _local(config, now)
    return [m for m in outbox.waiting(name) if m.next_attempt_at <= now and not target.waits(m.severity, local)]


def _send_due(
    config: PlantConfig, outbox: Outbox, name: str, target: TargetConfig, now: datetime | None, draw: Draw | None
) -> tuple[int, str | None]:
    """Send what is due to a target, until one message does not arrive; return how many did, and why one did not."""
    n_sent = 0
    for message in _due(config, outbox, name, target, now or utc_now()):
        begun = outbox.begin_attempt(message, now=now or utc_now(), pause=_pause(message.attempts))
        try:
            send(name, target, word_message(config, begun, _picture(begun, target, draw)))
        except NotificationError as error:
            is_given_up = (now or utc_now()) - message.made_at > _PATIENCE
            outbox.record_failure(begun, str(error), is_given_up=is_given_up)
            _log.warning("%s %s", error, "It is given up." if is_given_up else "It is tried again later.")
            return n_sent, str(error)
        outbox.record_success(begun, now=now or utc_now())
        n_sent += 1
    return n_sent, None


def _pause(attempts: int) -> timedelta:
    return _PAUSES[attempts] if attempts < len(_PAUSES) else _HOUR


def _picture(message: Message, target: TargetConfig, draw: Draw | None) -> bytes | None:
    if draw is None or message.is_summary or target.secret_env is not None:
        return None
    try:
        return draw(message.notices[-1], target.language)
    except Exception as error:  # a message without its picture is better than none
        _log.warning("The picture of %s could not be drawn: %s", message.message_id, error)
        return None


def _draw_event(plant: Plant, notice: Notice, language: Language) -> bytes | None:
    """Return the picture of the event that shows a notice best."""
    if notice.event is None:
        return None
    from pwflow_core.reporting.event_picture import draw_event  # matplotlib takes a second to load

    return draw_event(plant, notice.event, language)


def _local(config: PlantConfig, now: datetime) -> datetime:
    return now.replace(tzinfo=UTC).astimezone(ZoneInfo(config.schedule.timezone))
