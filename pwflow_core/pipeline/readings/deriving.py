"""Readings: raw rows made valid, typed, UTC, one per machine and time; refusals are kept with a reason."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

import duckdb

from pwflow_core.config import PlantConfig
from pwflow_core.errors import SourceError
from pwflow_core.marks import LARGEST_PHYSICAL
from pwflow_core.pipeline.readings.features import FeatureSet, read_features, settle_features, update_features
from pwflow_core.pipeline.readings.merging import merging_script
from pwflow_core.pipeline.readings.parsing import parse_rows
from pwflow_core.pipeline.readings.quality import settle_quality, update_quality
from pwflow_core.pipeline.readings.timing import pin_interval
from pwflow_core.pipeline.source.source import Sensor, Source, read_source
from pwflow_core.plant import Plant
from pwflow_core.warehouse import fetch_value, quote_identifier, quote_literal, read_sql, run_script, utc_now
from pwflow_core.warehouse.days import note_changed_days
from pwflow_core.warehouse.progress import Progress, read_progress, write_progress

__all__ = ["ReadingsSummary", "derive_readings"]

_log = logging.getLogger("pwflow.readings")

STEP = "readings"

_FOLD = """
    ((floor(epoch(new.ts) / $block_seconds)::BIGINT
      + (md5_number_lower(floor(epoch(new.ts) / $block_seconds / 10)::BIGINT::VARCHAR) % 10)::BIGINT) % 10 + 10) % 10
"""
# Ten blocks in a row are ten folds, rotated at random: a plain remainder would tie the folds to the time of day.


@dataclass(frozen=True)
class ReadingsSummary:
    """What one run of the readings step did.

    Attributes:
        n_readings: Readings in the warehouse now.
        n_new: Readings that are new.
        n_changed: Readings whose values changed, because their file did.
        rejected: Rows and values refused in this run, by reason.
        by_quality: Readings in the warehouse now, by quality.
        features: What the models see of a reading.
        version: Changes when, and only when, the readings do.
    """

    n_readings: int
    n_new: int
    n_changed: int
    rejected: dict[str, int]
    by_quality: dict[str, int]
    features: FeatureSet
    version: str


def derive_readings(plant: Plant) -> ReadingsSummary:
    """Make readings from the raw rows that arrived since the last run, in one transaction.

    A reading whose values changed loses its scores, so that the next steps make them again.

    Raises:
        SourceError: Nothing has been ingested, or no row of the source has a usable timestamp.
    """
    with plant.warehouse.transaction() as connection:
        source = read_source(connection)
        before = read_progress(connection, STEP)
        seen = int(before.model or 0)
        connection.execute(
            "CREATE TEMP TABLE gone_files AS SELECT file_id FROM ingest.files WHERE superseded_in > $seen",
            {"seen": seen},
        )
        connection.execute(
            "CREATE TEMP TABLE fresh_files AS SELECT file_id FROM ingest.files "
            "WHERE status = 'ingested' AND superseded_in IS NULL AND arrived_in > $seen",
            {"seen": seen},
        )
        started = utc_now()
        _run(connection, source, started)
        batch_id = before.batch_id + 1
        _insert(connection, source, batch_id, pin_interval(connection))
        _settle_over_time(connection, plant.config, batch_id)
        n_new, n_changed = _forget_changed(connection, batch_id)
        note_changed_days(connection, "SELECT ts FROM changed")
        n_batches = before.batch_id + (1 if n_new or n_changed else 0)
        arrived = fetch_value(connection, "SELECT coalesce(max(arrived_in), 0) FROM ingest.files")
        write_progress(connection, STEP, Progress(str(arrived), n_batches))
        rejected = dict(
            connection.execute(
                "SELECT reason, count(*) FROM mart.rejected_readings WHERE rejected_at = ? GROUP BY reason "
                "ORDER BY reason",
                [started],
            ).fetchall()
        )
        by_quality = dict(
            connection.execute(
                "SELECT quality, count(*) FROM core.readings GROUP BY quality ORDER BY quality"
            ).fetchall()
        )
        n_readings = sum(by_quality.values())
        features = read_features(connection)
        if n_readings == 0:
            raise SourceError(_explain_none(connection, source))
    _log.info("%s readings, %s new, %s changed", f"{n_readings:,}", f"{n_new:,}", f"{n_changed:,}")
    return ReadingsSummary(n_readings, n_new, n_changed, rejected, by_quality, features, version=str(n_batches))


def _run(connection: duckdb.DuckDBPyConnection, source: Source, now: datetime) -> None:
    spelling = parse_rows(connection, source, now)
    word = spelling.zone_word("ts_text")
    script = read_sql(
        __package__,
        "deriving.sql",
        is_naive="false" if source.timezone else spelling.is_naive("ts_text"),
        is_in_unknown_zone=f"coalesce({word} <> '', false) AND {spelling.wall('ts_text')} IS NOT NULL",
        zone_detail=f"'The time zone ' || coalesce({word}, '') || ' is not known, or has several meanings'".replace(
            "ts_text", "refused.ts_text"
        ),
        future_detail=quote_literal(f"The time is more than {source.future_hours:g} hours ahead (source.future_hours)"),
        refusals=", ".join(_refusal(sensor) for sensor in source.sensors),
        valid_values=", ".join(f"{_valid(s)} AS {quote_identifier(s.name)}" for s in source.sensors),
        merging=merging_script(connection, source.sensors),
    )
    run_script(connection, script, {"now": now})


def _number(sensor: Sensor) -> str:
    """Return the SQL of a value that is there: finite, and none of the marks for a missing one."""
    column = quote_identifier(sensor.name)
    marks = f" AND {column} NOT IN ({_marks(sensor)})" if sensor.missing else ""
    return f"(CASE WHEN abs({column}) <= {LARGEST_PHYSICAL!r}{marks} THEN {column} END)"


def _marks(sensor: Sensor) -> str:
    return ", ".join(f"{mark!r}::DOUBLE" for mark in sensor.missing)


def _valid(sensor: Sensor) -> str:
    value = _number(sensor)
    tests = [f"{value} >= {sensor.low!r}"] if sensor.low is not None else []
    tests += [f"{value} <= {sensor.high!r}"] if sensor.high is not None else []
    valid = f"CASE WHEN {' AND '.join(tests)} THEN {value} END" if tests else value
    return _within_turn(valid, sensor.period, sensor.cut) if sensor.period else valid


def _within_turn(value: str, period: float, cut: float) -> str:
    """Return the SQL of an angle from `cut` to a turn more, so that it goes on over the jump from 359 to 0."""
    return f"({value} - {period!r} * floor(({value} - {cut!r}) / {period!r}))"


def _refusal(sensor: Sensor) -> str:
    """Return the SQL of a struct that says why the value of a sensor is refused; its reason may be NULL."""
    column, name = quote_identifier(sensor.name), quote_literal(sensor.name)
    unit = f" {sensor.unit}" if sensor.unit else ""
    cases = [
        (f"refused_values[{name}] IS NOT NULL", "not_a_number", "Expected a number"),
        (f"isinf({column})", "infinite", "Expected a finite number"),
    ]
    if sensor.missing:
        cases.insert(0, (f"{column} IN ({_marks(sensor)})", "", ""))
    too_large = f"abs({column}) > {LARGEST_PHYSICAL!r} AND NOT isnan({column})"
    cases.append((too_large, "not_physical", f"Expected at most {LARGEST_PHYSICAL:g} in size"))
    if sensor.low is not None:
        cases.append((f"{column} < {sensor.low!r}", "below_limit", f"Expected at least {sensor.low:g}{unit}"))
    if sensor.high is not None:
        above = f"{column} > {sensor.high!r} AND NOT isnan({column})"
        cases.append((above, "above_limit", f"Expected at most {sensor.high:g}{unit}"))
    reason, detail = (
        " ".join(f"WHEN {case[0]} THEN {quote_literal(case[i]) if case[1] else 'NULL'}" for case in cases)
        for i in (1, 2)
    )
    return (
        f"{{'sensor': {name}, 'value': coalesce(refused_values[{name}], {column}::VARCHAR), "
        f"'reason': CASE {reason} END, 'detail': CASE {detail} END}}"
    )


def _insert(connection: duckdb.DuckDBPyConnection, source: Source, batch_id: int, block_seconds: float) -> None:
    """Insert the accepted rows; one that is as it was before keeps its batch, its quality and its scores."""
    values = [quote_identifier(name) for name in ("segment", *(sensor.name for sensor in source.sensors))]
    same = " AND ".join(f"old.{name} IS NOT DISTINCT FROM new.{name}" for name in values)
    refused = "(CASE WHEN old.quality = 'invalid' THEN old.reason END) IS NOT DISTINCT FROM new.reason"
    same = f"old.reading_id IS NOT NULL AND {refused} AND {same}"
    connection.execute(
        f"""
        INSERT INTO core.readings BY NAME
        SELECT
            new.reading_id, new.machine_id, new.ts,
            CASE WHEN {same} THEN old.quality ELSE new.quality END AS quality,
            CASE WHEN {same} THEN old.reason ELSE new.reason END AS reason,
            {", ".join(f"new.{name}" for name in values)},
            {_FOLD} AS fold,
            CASE WHEN {same} THEN old.batch_id ELSE $batch_id END AS batch_id,
            new.file_id, new.row_number
        FROM accepted AS new
        LEFT JOIN taken_back AS old USING (reading_id)
        ORDER BY new.machine_id, new.ts
        """,
        {"block_seconds": block_seconds, "batch_id": batch_id},
    )
    connection.execute(
        """
        CREATE TEMP TABLE changed_readings AS
        SELECT old.reading_id
        FROM taken_back AS old
        LEFT JOIN core.readings AS new USING (reading_id)
        WHERE new.reading_id IS NULL OR new.batch_id = ?
        """,
        [batch_id],
    )


def _settle_over_time(connection: duckdb.DuckDBPyConnection, config: PlantConfig, batch_id: int) -> None:
    """Settle what depends on the readings before: quality and features. What it moves becomes part of the batch."""
    connection.execute(
        """
        CREATE TEMP TABLE changed AS
        SELECT reading_id, machine_id, ts FROM core.readings WHERE batch_id = $batch_id
        UNION ALL
        SELECT reading_id, machine_id, ts FROM taken_back ANTI JOIN core.readings USING (reading_id)
        """,
        {"batch_id": batch_id},
    )
    machines = settle_quality(connection, config)
    _add_changed(connection, "true" if machines is None else "machine_id IN (SELECT unnest($machines))", machines)
    update_quality(connection, config)
    _move(connection, batch_id)
    if settle_features(connection, config):
        _add_changed(connection, "true")
    update_features(connection, config)
    _move(connection, batch_id)


def _add_changed(connection: duckdb.DuckDBPyConnection, test: str, machines: list[str] | None = None) -> None:
    """Have the readings that pass a test looked at again."""
    if machines == []:
        return
    connection.execute(
        "INSERT INTO changed SELECT reading_id, machine_id, ts FROM core.readings ANTI JOIN changed USING (reading_id) "
        f"WHERE {test}",
        None if machines is None else {"machines": machines},
    )


def _move(connection: duckdb.DuckDBPyConnection, batch_id: int) -> None:
    """Make the readings in `moved` part of the batch, and of `changed`; earlier ones count as changed."""
    earlier = "batch_id <> $batch_id AND reading_id IN (SELECT reading_id FROM moved)"
    values = {"batch_id": batch_id}
    connection.execute(f"INSERT INTO changed_readings SELECT reading_id FROM core.readings WHERE {earlier}", values)
    connection.execute(f"UPDATE core.readings SET batch_id = $batch_id WHERE {earlier}", values)
    connection.execute(
        "INSERT INTO changed SELECT reading_id, machine_id, ts FROM core.readings "
        "SEMI JOIN moved USING (reading_id) ANTI JOIN changed USING (reading_id)"
    )


def _forget_changed(connection: duckdb.DuckDBPyConnection, batch_id: int) -> tuple[int, int]:
    """Take back what was derived from changed readings; return how many readings are new and how many changed."""
    for table in ("core.cluster_assignments", "core.component_log_density", "mart.anomaly_scores"):
        connection.execute(f"DELETE FROM {table} WHERE reading_id IN (SELECT reading_id FROM changed_readings)")
    n_changed = fetch_value(connection, "SELECT count(*) FROM changed_readings")
    n_written = fetch_value(connection, f"SELECT count(*) FROM core.readings WHERE batch_id = {batch_id:d}")
    n_gone = fetch_value(connection, "SELECT count(*) FROM changed_readings ANTI JOIN core.readings USING (reading_id)")
    return n_written - (n_changed - n_gone), n_changed


def _explain_none(connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    row = connection.execute(
        "SELECT reason, count(*), any_value(ts) FROM mart.rejected_readings WHERE sensor IS NULL "
        "GROUP BY reason ORDER BY count(*) DESC LIMIT 1"
    ).fetchone()
    if row is None:
        return "Expected readings in the source, got none: export it again."
    reason, count, example = row
    if reason == "naive_timestamp":
        return (
            f"Expected timestamps with a time zone in column '{source.timestamp}', got {example!r} and "
            f'{count - 1:,} others like it: add timezone = "UTC" (or the zone of the plant) under [source] '
            "in pwflow.toml."
        )
    return (
        f"Expected timestamps in column '{source.timestamp}', got {example!r} and others like it ({count:,}, "
        f"{reason}): name another column with source.timestamp, or its format with source.timestamp_format."
    )
