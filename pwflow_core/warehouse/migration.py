"""The layout of a warehouse: made for a new one, brought up to date for an older one, refused if it is newer.

`schema.sql` makes the layout of today, and runs on a warehouse of an older one, and only then. What it cannot make by
itself (a column of a table that may be there already, rows that have to change) is a migration. Any change of that
file, be it a comment, is a migration too, if need be one that does nothing: its layout is what older warehouses lack.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import duckdb

from pwflow_core.errors import WarehouseVersionError
from pwflow_core.warehouse.ids import mint_event_ids
from pwflow_core.warehouse.sql import quote_identifier, read_sql, run_script
from pwflow_core.warehouse.times import utc_now

__all__ = ["MIGRATIONS", "SCHEMA_VERSION", "Migration", "find_version", "migrate", "pending"]

_log = logging.getLogger("pwflow.warehouse")

_UNNUMBERED = 1
"""Release 0.1 did not number its layout."""

_Step = Callable[[duckdb.DuckDBPyConnection], None]


def _nothing(connection: duckdb.DuckDBPyConnection) -> None:
    """Leave all to `schema.sql`."""


@dataclass(frozen=True)
class Migration:
    """What leads from one layout to the next.

    Attributes:
        layout: The layout that it leads to.
        name: What it changes, in a few words.
        alter: Changes tables that are there, before `schema.sql` makes those that are missing.
        fill: Fills what is new, after that.
    """

    layout: int
    name: str
    alter: _Step = _nothing
    fill: _Step = _nothing


def find_version(connection: duckdb.DuckDBPyConnection) -> int:
    """Return the number of the layout; 0 if there are no tables yet. To be asked outside a transaction.

    Raises:
        WarehouseVersionError: A newer release wrote the warehouse.
    """
    try:
        row = next(iter(connection.execute("SELECT schema_version FROM core.warehouse_state").fetchall()), None)
    except duckdb.CatalogException:
        known = connection.execute(
            "SELECT 1 FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = 'core'"
        ).fetchall()
        return _UNNUMBERED if known else 0
    found = int(row[0]) if row else _UNNUMBERED
    if found > SCHEMA_VERSION:
        raise WarehouseVersionError(
            f"The warehouse has layout {found}, but this release of pwflow knows layouts up to {SCHEMA_VERSION}: "
            "install the release that wrote it, or restore a backup from before. Nothing was changed."
        )
    return found


def pending(found: int) -> tuple[Migration, ...]:
    """Return the migrations that a warehouse of layout `found` lacks, in their order; none if it has no tables yet."""
    return tuple(migration for migration in MIGRATIONS if migration.layout > found) if found else ()


def migrate(connection: duckdb.DuckDBPyConnection, found: int, schema: str | None = None) -> None:
    """Make the tables, or bring those of layout `found` up to date, in the caller's transaction.

    Arguments:
        connection: Open for writing.
        found: What `find_version` returned.
        schema: The layout of today, where a backend needs another than `schema.sql`.
    """
    missing = pending(found)
    for migration in missing:
        _log.info("the warehouse is brought from layout %d to %d: %s", found, migration.layout, migration.name)
        migration.alter(connection)
    connection.execute(schema or read_sql(__package__, "schema.sql"))
    for migration in missing:
        migration.fill(connection)
    connection.execute("UPDATE core.warehouse_state SET schema_version = ?", [SCHEMA_VERSION])


def _add_columns(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        """
        ALTER TABLE core.readings ADD COLUMN IF NOT EXISTS reason VARCHAR;
        ALTER TABLE core.cluster_models ADD COLUMN IF NOT EXISTS made_by VARCHAR;
        ALTER TABLE core.cluster_models ADD COLUMN IF NOT EXISTS reason VARCHAR;
        ALTER TABLE mart.clusters ADD COLUMN IF NOT EXISTS found_from TIMESTAMP;
        ALTER TABLE mart.flow_versions ADD COLUMN IF NOT EXISTS training_window VARCHAR;
        ALTER TABLE mart.flow_versions ADD COLUMN IF NOT EXISTS random_state BIGINT;
        ALTER TABLE mart.flow_versions ADD COLUMN IF NOT EXISTS file_deleted_at TIMESTAMP;
        """
    )


def _rename_calibration(connection: duckdb.DuckDBPyConnection) -> None:
    """Give two columns of the calibration the names that they have since; one of them has another scale.

    Release 0.1 kept the share of the rare readings that come together, 0 to 1; what is kept now is how many groups
    those make for each rare reading. A group has at least two of them, so that half of the share is the most that it
    can be: that gives fewer false alarms rather than more. A calibration is not made again, for the scores that it
    gave are there.
    """
    if _rename_column(connection, "calibration", "company", "tail_dependence"):
        connection.execute("UPDATE core.calibration SET tail_dependence = tail_dependence / 2")
    _rename_column(connection, "calibration_steps", "log_density", "conformity")


def _rename_column(connection: duckdb.DuckDBPyConnection, table: str, old: str, new: str) -> bool:
    """Rename a column of a table of `core`, if it is there."""
    found = connection.execute(
        "SELECT 1 FROM duckdb_columns() WHERE database_name = current_database() AND schema_name = 'core' "
        "AND table_name = ? AND column_name = ?",
        [table, old],
    ).fetchone()
    if found:
        names = quote_identifier(table), quote_identifier(old), quote_identifier(new)
        connection.execute("ALTER TABLE core.{} RENAME {} TO {}".format(*names))
    return found is not None


def _add_run_ids(connection: duckdb.DuckDBPyConnection) -> None:
    """Keep the runs that decided as such; until then they stood among the names of those who decided."""
    connection.execute("DROP VIEW IF EXISTS core.suspects")
    for table in ("drift_verdicts", "flow_decisions"):
        connection.execute(f"ALTER TABLE IF EXISTS mart.{table} ADD COLUMN IF NOT EXISTS run_id VARCHAR")


def _fill_verdict_changes(connection: duckdb.DuckDBPyConnection) -> None:
    run_script(connection, read_sql(__package__, "verdict_changes.sql"))


def _forget_fingerprints(connection: duckdb.DuckDBPyConnection) -> None:
    """Have the evidence of drift of every night drawn again, once, from the scores that are there.

    The fingerprints until then were the same after an even number of readings of a night had changed, and nothing
    else tells which nights that happened to. Evidence that was right comes out as it was; what nights are compared
    with, and verdicts, stay.
    """
    connection.execute("UPDATE core.drift_states SET fingerprint = NULL")


def _forget_conformity(connection: duckdb.DuckDBPyConnection) -> None:
    """Have all readings scored again, once, by the flows that are in use.

    Until then p-values ranked the log-density with the tail of the blend. Both kinds cannot be ranked among each other.
    The scores stay until the next run has made them again.
    """
    for table in ("component_log_density", "calibration", "calibration_steps"):
        connection.execute(f"DELETE FROM core.{quote_identifier(table)}")
    connection.execute("DELETE FROM core.progress WHERE step IN ('score', 'scores')")
    connection.execute("DELETE FROM mart.detectability")


def _add_bad_quality(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("ALTER TABLE ingest.raw_readings ADD COLUMN IF NOT EXISTS bad_quality MAP(VARCHAR, VARCHAR)")


def _add_ended(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("ALTER TABLE IF EXISTS mart.drift_verdicts ADD COLUMN IF NOT EXISTS ended DATE")
    connection.execute("ALTER TABLE IF EXISTS core.case_evidence ADD COLUMN IF NOT EXISTS is_over BOOLEAN")


def _fill_ended(connection: duckdb.DuckDBPyConnection) -> None:
    """Leave the events that were told until then in the cases that they are in."""
    connection.execute("UPDATE core.case_evidence SET is_over = true")


def _add_duration(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("ALTER TABLE IF EXISTS mart.anomaly_events ADD COLUMN IF NOT EXISTS lasted_until TIMESTAMP")


def _fill_duration(connection: duckdb.DuckDBPyConnection) -> None:
    """Say of events until the next run derives them again that they lasted as long as their anomalies."""
    connection.execute("UPDATE mart.anomaly_events SET lasted_until = ended_at")


def _forget_levels(connection: duckdb.DuckDBPyConnection) -> None:
    """Have levels learned and all readings judged again, once: their table loses columns."""
    connection.execute("DROP TABLE IF EXISTS core.level_steps")


def _add_removal(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("ALTER TABLE ingest.files ADD COLUMN IF NOT EXISTS removed_at TIMESTAMP")


def _fill_changed_days(connection: duckdb.DuckDBPyConnection) -> None:
    """Have each step look at all days once."""
    connection.execute(
        "INSERT INTO core.changed_days SELECT day, $now AS changed_at FROM (SELECT DISTINCT ts::DATE AS day FROM "
        "(SELECT ts FROM core.readings UNION ALL SELECT ts FROM mart.anomaly_scores))",
        {"now": utc_now()},
    )


def _add_shares(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        """
        ALTER TABLE IF EXISTS mart.cluster_health ADD COLUMN IF NOT EXISTS share DOUBLE;
        ALTER TABLE IF EXISTS mart.cluster_health ADD COLUMN IF NOT EXISTS share_threshold DOUBLE;
        """
    )


def _move_shares(connection: duckdb.DuckDBPyConnection) -> None:
    """Move shares of readings out of the columns of evidence, which is a logarithm."""
    connection.execute(
        "UPDATE mart.cluster_health SET share = evidence, share_threshold = threshold, evidence = NULL, "
        "threshold = NULL "
        "WHERE channel IN ('missing', 'invalid', 'stuck', 'thin', 'filled', 'partial', 'alarms')"
    )


def _fill_stretch_changes(connection: duckdb.DuckDBPyConnection) -> None:
    """Keep of each stretch the decision that holds; its reason stands behind the name of who decided."""
    connection.execute(
        "INSERT INTO mart.stretch_changes BY NAME SELECT stretch_id, 'open' AS from_status, status AS to_status, "
        "decided_at AS changed_at, decided_by AS changed_by FROM mart.unusual_stretches WHERE status <> 'open'"
    )


_NAME_EVENTS = {
    "mart.anomaly_events": ("event_id", "started_at"),
    "mart.case_events": ("event_id", "started_at"),
    "mart.alarm_log": ("event_id", "started_at"),
    "core.confirmations": ("event_id", "started_at"),
    "mart.cases": ("worst_event_id", "since"),
    "core.case_evidence": ("event_id", "NULL::TIMESTAMP"),
}
"""Columns with ids of events, each with the time that goes with it."""


def _set_numbers_aside(connection: duckdb.DuckDBPyConnection) -> None:
    """Rename the tables whose ids of events are numbers, for `schema.sql` to make those in which they are text.

    A lake cannot change the type of a column from one to the other.
    """
    for table, (column, _) in _NAME_EVENTS.items():
        schema, name = table.split(".")
        connection.execute(f"DROP TABLE IF EXISTS temp.former_{name}")
        numbers = connection.execute(
            "SELECT 1 FROM duckdb_columns() WHERE database_name = current_database() AND schema_name = ? "
            "AND table_name = ? AND column_name = ? AND data_type = 'BIGINT'",
            [schema, name, column],
        ).fetchall()
        if numbers:
            connection.execute(f"CREATE TEMP TABLE former_{name} AS FROM {table}")
            connection.execute(f"DROP TABLE {table}")


def _name_events(connection: duckdb.DuckDBPyConnection) -> None:
    """Give every event that is known its id as text, and put the rows back."""
    known = {
        row[0]
        for row in connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = 'temp' AND starts_with(table_name, 'former_')"
        ).fetchall()
    }
    former = {f"former_{table.split('.')[1]}": (table, *columns) for table, columns in _NAME_EVENTS.items()}
    former = {name: about for name, about in former.items() if name in known}
    if not former:
        return
    numbers = " UNION ALL ".join(
        f"SELECT {column} AS reading_id, {time} AS ts FROM temp.{name} WHERE {column} IS NOT NULL"
        for name, (_, column, time) in former.items()
    )
    connection.execute(f"CREATE OR REPLACE TEMP TABLE first_anomalies AS {numbers}")
    connection.execute(mint_event_ids())
    for name, (table, column, _) in former.items():
        connection.execute(
            f"INSERT INTO {table} BY NAME SELECT former.* REPLACE (ids.event_id AS {column}) "
            f"FROM temp.{name} AS former LEFT JOIN core.event_ids AS ids ON ids.reading_id = former.{column}"
        )
        connection.execute(f"DROP TABLE temp.{name}")
    connection.execute("DROP TABLE temp.first_anomalies")


def _add_told(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("ALTER TABLE IF EXISTS mart.cases ADD COLUMN IF NOT EXISTS told_as_of TIMESTAMP")


def _fill_told(connection: duckdb.DuckDBPyConnection) -> None:
    """Say of the cases that are there that people were told of them when they opened."""
    connection.execute("UPDATE mart.cases SET told_as_of = coalesce(since, opened_at)")


def _add_volume(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("ALTER TABLE IF EXISTS core.component_log_density ADD COLUMN IF NOT EXISTS log_volume DOUBLE")


MIGRATIONS = (
    Migration(2, "reasons, time windows and seeds get columns", alter=_add_columns),
    Migration(3, "the calibration gets other names and another scale", alter=_rename_calibration),
    Migration(4, "unusual stretches of the history get a table"),
    Migration(5, "every change of a verdict is kept, with its run", alter=_add_run_ids, fill=_fill_verdict_changes),
    Migration(6, "evidence of drift follows every change of readings", fill=_forget_fingerprints),
    Migration(7, "what each regime can see gets a table"),
    Migration(8, "all is scored again, by the flows without their tails", fill=_forget_conformity),
    Migration(9, "how flows were trained gets a table; it was part of the model file, and of its name"),
    Migration(10, "rows of one machine and time with different sensors are put together", alter=_add_bad_quality),
    Migration(11, "cases and what was told of them get tables", alter=_add_duration, fill=_fill_duration),
    Migration(12, "more reasons why a time or a value is refused"),
    Migration(13, "where the regimes lie among each other gets a table"),
    Migration(14, "p-values that count the level of a regime hold at .1, .2, ... as well", alter=_forget_levels),
    Migration(15, "tables are explained in plainer words"),
    Migration(16, "verdicts and events say when they were over", alter=_add_ended, fill=_fill_ended),
    Migration(17, "the share of marked cases that were right gets a view"),
    Migration(18, "which days changed is kept", fill=_fill_changed_days),
    Migration(19, "readings may be removed, and what they told by the hour stays", alter=_add_removal),
    Migration(20, "shares of readings get columns of their own", alter=_add_shares, fill=_move_shares),
    Migration(21, "regimes get names; sensors, machines, regimes, runs and the latest day get tables"),
    Migration(22, "the reasons why a value is refused are listed by name alone"),
    Migration(23, "every decision about an unusual stretch is kept", fill=_fill_stretch_changes),
    Migration(24, "ids of events are short text", alter=_set_numbers_aside, fill=_name_events),
    Migration(25, "what is known of states gets a table"),
    Migration(26, "the promise on false cases gets tables", alter=_add_told, fill=_fill_told),
    Migration(27, "what is particular to a machine gets tables", alter=_add_volume),
)
"""All migrations, in the order of their layouts."""

SCHEMA_VERSION = MIGRATIONS[-1].layout
"""The layout of this release."""
