"""The outbox: a file beside the warehouse that says what people have to be told, and how far that has come.

It is kept out of the warehouse on purpose. A run that fails because the warehouse is held, damaged or out of room is
told all the same, no writer of readings ever waits for a mail server, and a warehouse that is made again from its
source tells nobody the same thing twice. SQLite keeps it: each change is one transaction, whatever kills the process.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pwflow_core.config import SEVERITIES, Severity, TargetConfig
from pwflow_core.errors import OutboxError
from pwflow_core.notifying.notices import Notice
from pwflow_core.warehouse import read_sql

__all__ = ["Message", "Outbox", "Queued", "TargetState"]

_WAIT_SECONDS = 30.0
_LAYOUT = 1
_LISTS = ("machines", "sensors", "regimes")
_TIMES = ("at", "since")


@dataclass(frozen=True)
class Queued:
    """A notice that waits to become part of a message."""

    notice_id: str
    subject: str
    severity: Severity


@dataclass(frozen=True)
class Message:
    """One message to one target.

    Attributes:
        message_id: What a receiver knows it by; attempts to send it again have the same.
        target: The target.
        notices: What it tells, in the order in which that came about.
        is_summary: Whether it sums up many things.
        severity: The gravest of them.
        attempts: How often it was tried to send it.
        next_attempt_at: Not to be sent before, UTC.
        made_at: When it was put together, UTC.
        last_error: Why the last attempt failed.
    """

    message_id: str
    target: str
    notices: tuple[Notice, ...]
    is_summary: bool
    severity: Severity
    attempts: int
    next_attempt_at: datetime
    made_at: datetime
    last_error: str | None = None


@dataclass(frozen=True)
class TargetState:
    """How far a target has come.

    Attributes:
        target: Its name.
        n_sent: Messages that arrived.
        n_queued: Notices that wait to be told.
        n_waiting: Messages that wait to be sent, or sent again.
        n_given_up: Messages that were given up.
        last_sent_at: When the last one arrived, UTC.
        last_error: Why the last attempt of one that waits or was given up failed.
    """

    target: str
    n_sent: int
    n_queued: int
    n_waiting: int
    n_given_up: int
    last_sent_at: datetime | None
    last_error: str | None


class Outbox:
    """The outbox of a plant.

    Attributes:
        path: The file; the first change makes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        """Whether anything has been written yet."""
        return self.path.exists()

    @property
    def lock_path(self) -> Path:
        """File that a process locks while it sends."""
        return self.path.with_name(f"{self.path.name}.lock")

    def note(
        self,
        notices: Iterable[Notice],
        targets: Mapping[str, TargetConfig],
        *,
        now: datetime,
        commits: int | None = None,
    ) -> int:
        """Take up what is not known yet, and queue it for the targets that want to know; return how much that was.

        What is over is queued for those alone who were told of its subject before. What is known and is graver now is
        queued for those who did not want to know of it as it was. That a case is worse is told once for each severity.

        Arguments:
            notices: What has to be told, in the order in which it came about.
            targets: The targets, by name.
            now: UTC.
            commits: How many commits of the warehouse these are drawn from; see `commits_read`.
        """
        n_new = 0
        with self._transaction() as connection:
            (last,) = connection.execute("SELECT coalesce(max(place), 0) FROM notices").fetchone()
            for place, notice in enumerate(notices, start=last + 1):
                values = (notice.notice_id, notice.subject, notice.severity, _to_json(notice), now.isoformat(), place)
                is_told = notice.kind == "worse" and _is_told_already(connection, notice)
                if connection.execute("INSERT OR IGNORE INTO notices VALUES (?, ?, ?, ?, ?, ?)", values).rowcount:
                    n_new += not is_told
                elif not _make_graver(connection, notice):
                    continue
                if is_told:
                    continue
                told = set(targets) if not notice.is_over else _knowing(connection, notice.subject)
                connection.executemany(
                    "INSERT OR IGNORE INTO deliveries VALUES (?, ?, NULL)",
                    [(name, notice.notice_id) for name in sorted(told) if _is_told(targets, name, notice)],
                )
            if commits is not None:
                connection.execute("REPLACE INTO facts VALUES ('commits', ?)", [str(commits)])
        return n_new

    def severities(self, notice_ids: Iterable[str]) -> dict[str, Severity]:
        """Return how grave notices were when they were noted, by id; those that are not known are left out."""
        if not self.exists:
            return {}
        with self._transaction() as connection:
            found = [
                connection.execute("SELECT notice_id, severity FROM notices WHERE notice_id = ?", [number]).fetchone()
                for number in notice_ids
            ]
        return dict(row for row in found if row is not None)

    def commits_read(self) -> int | None:
        """Return how many commits the warehouse had when its record was last read; None before the first time."""
        if not self.exists:
            return None
        with self._transaction() as connection:
            row = connection.execute("SELECT value FROM facts WHERE fact = 'commits'").fetchone()
        return None if row is None else int(row[0])

    def queued(self, target: str) -> list[Queued]:
        """Return what waits to become part of a message to a target, in the order in which it came about."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT notice_id, subject, severity FROM deliveries JOIN notices USING (notice_id) "
                "WHERE target = ? AND message_id IS NULL ORDER BY notice ->> '$.at', place, notice_id",
                [target],
            ).fetchall()
        return [Queued(*row) for row in rows]

    def occupied(self, target: str, since: datetime) -> int:
        """Return how many messages to a target wait, or were put together since a time."""
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT count(*) FROM messages WHERE target = ? AND (state = 'waiting' OR made_at > ?)",
                [target, since.isoformat()],
            ).fetchone()
        return int(row[0])

    def put_together(
        self, message_id: str, target: str, parts: Sequence[Queued], *, is_summary: bool, now: datetime
    ) -> None:
        """Make one message of queued notices; from then on it is sent as it is, under its id."""
        severity = max((part.severity for part in parts), key=SEVERITIES.index)
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO messages VALUES (?, ?, ?, ?, 'waiting', ?, 0, ?, NULL, NULL)",
                [message_id, target, is_summary, severity, now.isoformat(), now.isoformat()],
            )
            connection.executemany(
                "UPDATE deliveries SET message_id = ? WHERE target = ? AND notice_id = ? AND message_id IS NULL",
                [(message_id, target, part.notice_id) for part in parts],
            )

    def waiting(self, target: str) -> list[Message]:
        """Return the messages to a target that wait, those with the fewest attempts first, then the oldest."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT message_id, is_summary, severity, attempts, next_attempt_at, made_at, last_error FROM messages "
                "WHERE target = ? AND state = 'waiting' ORDER BY attempts, made_at, message_id",
                [target],
            ).fetchall()
            return [
                Message(
                    message_id,
                    target,
                    _read_notices(connection, target, message_id),
                    bool(is_summary),
                    severity,
                    attempts,
                    datetime.fromisoformat(next_attempt_at),
                    datetime.fromisoformat(made_at),
                    last_error,
                )
                for message_id, is_summary, severity, attempts, next_attempt_at, made_at, last_error in rows
            ]

    def begin_attempt(self, message: Message, *, now: datetime, pause: timedelta) -> Message:
        """Record that a message is about to be sent; if nothing more is recorded, it is due again after a pause."""
        begun = replace(message, attempts=message.attempts + 1, next_attempt_at=now + pause)
        self._change(message, "attempts = ?, next_attempt_at = ?", begun.attempts, begun.next_attempt_at.isoformat())
        return begun

    def record_success(self, message: Message, *, now: datetime) -> None:
        """Record that a message has arrived."""
        self._change(message, "state = 'sent', sent_at = ?, last_error = NULL", now.isoformat())

    def record_failure(self, message: Message, error: str, *, is_given_up: bool) -> None:
        """Record that an attempt failed, and whether it was the last one."""
        self._change(message, "state = ?, last_error = ?", "given up" if is_given_up else "waiting", error)

    def states(self, targets: Iterable[str]) -> list[TargetState]:
        """Return how far each target has come."""
        if not self.exists:
            return [TargetState(name, 0, 0, 0, 0, None, None) for name in targets]
        with self._transaction() as connection:
            return [_read_state(connection, name) for name in targets]

    def _change(self, message: Message, assignment: str, *values: object) -> None:
        with self._transaction() as connection:
            connection.execute(
                f"UPDATE messages SET {assignment} WHERE message_id = ? AND target = ?",
                [*values, message.message_id, message.target],
            )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one transaction: committed and on the disk at the end of the block, else rolled back."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(sqlite3.connect(self.path, timeout=_WAIT_SECONDS, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                with _committed(connection):
                    _prepare(connection, self.path)
                    yield connection
        except sqlite3.Error as error:
            raise OutboxError(
                f"The outbox {self.path} cannot be used ({error}): make room and give this user the right to write "
                "there, or move the file away if it is damaged; what was told before may then be told again."
            ) from error


@contextmanager
def _committed(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what the block does, or roll all of it back; nobody else writes meanwhile."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new file."""
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > _LAYOUT:
        raise OutboxError(f"A newer release of pwflow wrote the outbox {path}: install that release.")
    if found == _LAYOUT:
        return
    for statement in read_sql(__package__, "outbox.sql").split(";"):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {_LAYOUT}")


def _make_graver(connection: sqlite3.Connection, notice: Notice) -> bool:
    """Write a notice that is known as it is now, if it is graver; return whether it is."""
    (before,) = connection.execute("SELECT severity FROM notices WHERE notice_id = ?", [notice.notice_id]).fetchone()
    if notice.is_over or SEVERITIES.index(notice.severity) <= SEVERITIES.index(before):
        return False
    connection.execute(
        "UPDATE notices SET severity = ?, notice = ? WHERE notice_id = ?",
        [notice.severity, _to_json(notice), notice.notice_id],
    )
    return True


def _is_told_already(connection: sqlite3.Connection, notice: Notice) -> bool:
    """Return whether another notice said already that a subject is as grave as that."""
    row = connection.execute(
        "SELECT count(*) FROM notices WHERE subject = ? AND severity = ? AND notice_id <> ? "
        "AND notice ->> '$.kind' = 'worse'",
        [notice.subject, notice.severity, notice.notice_id],
    ).fetchone()
    return bool(row[0])


def _knowing(connection: sqlite3.Connection, subject: str) -> set[str]:
    """Return the targets that were told of a subject, or are about to be."""
    rows = connection.execute(
        "SELECT DISTINCT target FROM deliveries JOIN notices USING (notice_id) WHERE subject = ?", [subject]
    )
    return {target for (target,) in rows}


def _is_told(targets: Mapping[str, TargetConfig], name: str, notice: Notice) -> bool:
    return name in targets and (notice.is_over or targets[name].is_told(notice.severity))


def _read_notices(connection: sqlite3.Connection, target: str, message_id: str) -> tuple[Notice, ...]:
    rows = connection.execute(
        "SELECT notice FROM deliveries JOIN notices USING (notice_id) WHERE target = ? AND message_id = ? "
        "ORDER BY notice ->> '$.at', place, notice_id",
        [target, message_id],
    )
    return tuple(_from_json(text) for (text,) in rows)


def _read_state(connection: sqlite3.Connection, name: str) -> TargetState:
    sent, waiting, given_up, last, error = connection.execute(
        "SELECT count(*) FILTER (WHERE state = 'sent'), count(*) FILTER (WHERE state = 'waiting'), "
        "count(*) FILTER (WHERE state = 'given up'), max(sent_at), "
        "(SELECT last_error FROM messages WHERE target = $target AND last_error IS NOT NULL "
        "ORDER BY next_attempt_at DESC LIMIT 1) FROM messages WHERE target = $target",
        {"target": name},
    ).fetchone()
    (queued,) = connection.execute(
        "SELECT count(*) FROM deliveries WHERE target = ? AND message_id IS NULL", [name]
    ).fetchone()
    return TargetState(name, sent, queued, waiting, given_up, None if last is None else _utc(last), error)


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _to_json(notice: Notice) -> str:
    values = dict(vars(notice))
    for name in _TIMES:
        values[name] = None if values[name] is None else values[name].isoformat()
    return json.dumps(values, ensure_ascii=False)


def _from_json(text: str) -> Notice:
    values: dict[str, Any] = json.loads(text)
    for name in _TIMES:
        values[name] = None if values[name] is None else datetime.fromisoformat(values[name])
    for name in _LISTS:
        values[name] = tuple(values[name])
    return Notice(**values)
