"""The store: live scores, with the state of the scorer and the positions of the sources after them, in one SQLite file.

Each batch is one transaction that is on the disk before its source hears of it. So a kill at any moment leaves a file
that can be read, and the next start goes on from what it says.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from pwflow_core.edge import Score
from pwflow_core.errors import LiveStoreError

__all__ = ["LiveStore", "reading_id"]

_LAYOUT = 2
_WAIT_SECONDS = 30.0
_ORPHANS = "DELETE FROM live_contributions WHERE reading_id NOT IN (SELECT reading_id FROM live_scores)"
_SCRIPT = Path(__file__).with_name("store.sql")


class LiveStore:
    """What the watch has found since the last night.

    Attributes:
        path: The file; it is made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open the file for the time of the block; each thread opens it for itself.

        Raises:
            LiveStoreError: It cannot be opened, read or written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _explaining(self.path), closing(sqlite3.connect(self.path, timeout=_WAIT_SECONDS)) as connection:
            connection.isolation_level = None
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            _prepare(connection, self.path)
            yield Session(connection, self.path)


class Session:
    """An open store."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def commit(
        self,
        scores: Sequence[Score],
        *,
        model_set_id: str,
        at: int,
        source: str,
        positions: Mapping[str, str],
        state: bytes,
    ) -> None:
        """Add scores, and keep what comes after them, in one transaction.

        Arguments:
            scores: The scores; one that is there already stays as it is.
            model_set_id: What they were made by.
            at: When, µs since 1970.
            source: Name of the source.
            positions: Where the source goes on from, by place.
            state: State of the scorer after them.
        """
        rows, parts = [], []
        for score in scores:
            number = reading_id(score.machine_id, score.at)
            rows.append(_row(number, score, model_set_id, at))
            parts += _parts(number, score, at)
        with self._transaction() as connection:
            connection.executemany(f"INSERT OR IGNORE INTO live_scores VALUES ({_marks(14)})", rows)
            connection.executemany(f"INSERT OR IGNORE INTO live_contributions VALUES ({_marks(12)})", parts)
            connection.executemany(
                "REPLACE INTO positions VALUES (?, ?, ?)", [(source, *position) for position in positions.items()]
            )
            _put(connection, "state", state)

    def limit(self, most_rows: int) -> int:
        """Remove the oldest scores beyond a number; return how many went."""
        with self._transaction() as connection:
            [(n_rows,)] = connection.execute("SELECT count(*) FROM live_scores").fetchall()
            if n_rows <= most_rows:
                return 0
            connection.execute(
                "DELETE FROM live_scores WHERE reading_id IN (SELECT reading_id FROM live_scores ORDER BY ts LIMIT ?)",
                [n_rows - most_rows],
            )
            connection.execute(_ORPHANS)
        return int(n_rows) - most_rows

    def begin_night(self, name: str, scored_until: Mapping[str, int], state: bytes) -> int:
        """Remove what a night has scored, and keep the state to go on from; return how many scores went."""
        with self._transaction() as connection:
            n_gone = 0
            for machine, until in scored_until.items():
                values = (machine, until)
                n_gone += connection.execute(
                    "DELETE FROM live_scores WHERE machine_id = ? AND ts <= ?", values
                ).rowcount
            connection.execute(_ORPHANS)
            _put(connection, "state", state)
            _put(connection, "night", name)
        return n_gone

    def put_events(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Put the events as they are now in the place of those before."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM live_events")
            connection.executemany(
                "INSERT INTO live_events VALUES (?, ?)",
                [(event["event_id"], json.dumps(event, ensure_ascii=False)) for event in events],
            )

    def state(self) -> bytes | None:
        """Return the state of the scorer after the last batch; None before the first."""
        found = self._fact("state")
        return None if found is None else bytes(found)

    def night(self) -> str | None:
        """Return the name of the night that was begun last."""
        found = self._fact("night")
        return None if found is None else str(found)

    def positions(self, source: str) -> dict[str, str]:
        """Return where a source goes on from, by place."""
        rows = self._connection.execute("SELECT place, position FROM positions WHERE source = ?", [source])
        return dict(rows.fetchall())

    def counts(self) -> tuple[int, int, int]:
        """Return how many scores, anomalies and events there are."""
        scores, anomalies = self._connection.execute(
            "SELECT count(*), coalesce(sum(is_anomaly), 0) FROM live_scores"
        ).fetchone()
        [(events,)] = self._connection.execute("SELECT count(*) FROM live_events").fetchall()
        return scores, anomalies, events

    def last_anomaly(self) -> tuple[int, int]:
        """Return the number of anomalies and the time of the last one to be scored: both change with each one."""
        found: tuple[int, int] = self._connection.execute(
            "SELECT count(*), coalesce(max(scored_at), 0) FROM live_scores WHERE is_anomaly = 1"
        ).fetchone()
        return found

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all reads of the block see the same moment."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    def rows(self, table: str, n_rows: int) -> Iterator[tuple[list[str], list[tuple[Any, ...]]]]:
        """Yield the columns and some rows of a table at a time."""
        cursor = self._connection.execute(f"SELECT * FROM {table}")
        names = [column[0] for column in cursor.description]
        while found := cursor.fetchmany(n_rows):
            yield names, found

    def events(self) -> list[dict[str, Any]]:
        """Return the events, in the order in which they began."""
        rows = self._connection.execute("SELECT event FROM live_events").fetchall()
        found = [json.loads(text) for (text,) in rows]
        return sorted(found, key=lambda event: (event["started_at"], event["machine_id"]))

    def _fact(self, fact: str) -> Any:  # noqa: ANN401 - bytes or text, by the fact
        row = self._connection.execute("SELECT value FROM facts WHERE fact = ?", [fact]).fetchone()
        return None if row is None else row[0]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with _explaining(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


def reading_id(machine: str, at: int) -> int:
    """Return the id that the warehouse gives a reading of a machine at a time, µs since 1970."""
    digest = hashlib.md5(f"{machine}\0{at}".encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[8:], "little") >> 1


def _row(number: int, score: Score, model_set_id: str, at: int) -> tuple[Any, ...]:
    return (
        number,
        score.machine_id,
        score.at,
        score.segment,
        score.cluster_key,
        score.log_density,
        score.p_value,
        score.anomaly_score,
        score.is_anomaly,
        score.status,
        score.reason,
        score.flow_version,
        model_set_id,
        at,
    )


def _parts(number: int, score: Score, at: int) -> list[tuple[Any, ...]]:
    return [
        (
            number,
            score.machine_id,
            score.at,
            part.sensor,
            part.contribution,
            part.expected,
            part.observed,
            part.expected_low,
            part.expected_high,
            part.unit,
            score.cluster_key,
            at,
        )
        for part in score.contributions
    ]


def _put(connection: sqlite3.Connection, fact: str, value: bytes | str) -> None:
    connection.execute("REPLACE INTO facts VALUES (?, ?)", [fact, value])


def _marks(n: int) -> str:
    return ", ".join("?" * n)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > _LAYOUT:
        raise LiveStoreError(f"A newer release of pwflow wrote {path}: install that release.")
    if found < _LAYOUT:
        connection.executescript(
            f"BEGIN;\n{_SCRIPT.read_text(encoding='utf-8')}\nPRAGMA user_version = {_LAYOUT};\nCOMMIT;"
        )


@contextmanager
def _explaining(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise LiveStoreError(
            f"The live scores in {path} cannot be used ({error}): make room, give this user the right to write there, "
            "or move the file away if it is damaged. The night scores everything again."
        ) from error
