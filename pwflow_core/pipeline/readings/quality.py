"""Quality: which readings can be judged, judged in part, or not at all, and why.

A value that is missing may be bridged, a sensor may be stuck: both show only beside the readings before, so they
are settled here, after the readings are in place, and again whenever a reading nearby changes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence

import duckdb

from pwflow_core.config import PlantConfig, QualityConfig
from pwflow_core.pipeline.readings.timing import Timing, Touched, read_timing, touched_chunks
from pwflow_core.pipeline.readings.training_rows import training_window
from pwflow_core.pipeline.source.source import Source, read_source
from pwflow_core.warehouse import quote_identifier, quote_literal, read_sql, run_script
from pwflow_core.warehouse.progress import read_fact, write_fact

__all__ = ["JUDGED", "QUALITY_FACT", "quality_settings", "settle_quality", "update_quality"]

_log = logging.getLogger("pwflow.quality")

JUDGED = ("ok", "filled", "partial")
"""Qualities of readings that get a score."""

QUALITY_FACT = "quality"
_LONGEST_LIMIT = 1000
_MIN_HISTORY = 1000
_HISTORY_ROWS = 50_000
_MIN_RUNS = 100
_ORDINARY_RUNS = 3
_MOST_RESTING_VALUES = 3


def quality_settings(config: PlantConfig) -> str:
    """Return, as JSON, the configuration under which stuck limits stay what they are."""
    settings: dict[str, object] = {
        "quality": config.quality.model_dump(),
        "training": config.training.model_dump(mode="json"),
    }
    if holds := _holds(config):
        settings["hold_seconds"] = holds
    if states := sorted(name for name, sensor in config.sensors.items() if sensor.state):
        settings["states"] = states
    return json.dumps(settings, sort_keys=True)


def _holds(config: PlantConfig) -> dict[str, float]:
    """Return for how many seconds the last value of a sensor holds, by sensor."""
    return {name: sensor.hold_seconds for name, sensor in config.sensors.items() if sensor.hold_seconds is not None}


def settle_quality(connection: duckdb.DuckDBPyConnection, config: PlantConfig) -> list[str] | None:
    """Learn how long the sensors of each machine may go without a change, once its history is long enough.

    The limit is `stuck_factor` times the third longest run of equal values: one or two faults in the history do not
    raise it. If runs are exchangeable, a healthy one is longer than the third longest of n with a probability of at
    most 3 / (n + 1), even without the factor.

    Returns:
        Machines whose readings have to be looked at again; None for all of them.
    """
    quality = config.quality
    settings = quality_settings(config)
    is_new = read_fact(connection, QUALITY_FACT) != settings
    if is_new:
        connection.execute("DELETE FROM core.stuck_limits")
        write_fact(connection, QUALITY_FACT, settings)
    timing = read_timing(connection, config)
    learned = _learn_limits(connection, config, timing) if timing and quality.stuck else []
    return None if is_new else learned


def update_quality(connection: duckdb.DuckDBPyConnection, config: PlantConfig) -> None:
    """Settle the quality of the readings that those in `changed` (reading_id, machine_id, ts) touch.

    Fills `moved` (reading_id) with the readings whose quality, reason or filled values are others than they were.
    """
    source = read_source(connection)
    sensors = [sensor.name for sensor in source.sensors]
    timing = read_timing(connection, config) or Timing(1.0, 1.0)
    longest = dict(
        connection.execute(
            "SELECT sensor, max(max_readings) FROM core.stuck_limits WHERE max_readings IS NOT NULL GROUP BY sensor"
        ).fetchall()
    )
    watched = [sensor for sensor in source.measured if sensor in longest]
    reach = max([1, config.quality.fill_readings, *longest.values()])
    connection.execute("CREATE OR REPLACE TEMP TABLE moved (reading_id BIGINT)")
    connection.execute(f"CREATE OR REPLACE TEMP TABLE limits AS {_select_limits(watched)}")
    connection.execute(
        "DELETE FROM core.filled_values WHERE reading_id IN "
        "(SELECT reading_id FROM changed ANTI JOIN core.readings USING (reading_id))"
    )
    holds = _holds(config)
    reach_seconds = max([reach * timing.gap_seconds, *holds.values()])
    for touched in touched_chunks(connection, config, reach_seconds, len(sensors)):
        run_script(connection, _quality_script(config.quality, holds, source, watched, timing, touched))


def _quality_script(
    quality: QualityConfig,
    holds: Mapping[str, float],
    source: Source,
    watched: Sequence[str],
    timing: Timing,
    touched: Touched,
) -> str:
    sensors, states = [sensor.name for sensor in source.sensors], set(source.states)
    names = [quote_identifier(sensor) for sensor in sensors]
    return read_sql(
        __package__,
        "quality.sql",
        with_context=touched.with_context,
        touched=touched.readings,
        gap_seconds=repr(timing.gap_seconds),
        own_places="".join(
            f", count({quote_identifier(s)}) OVER (machine ROWS UNBOUNDED PRECEDING) AS place_{i}"
            for i, s in enumerate(watched)
            if s in holds
        ),
        changes="".join(
            f"{_change(quote_identifier(s), _place(i, s, holds))} AS change_{i}, " for i, s in enumerate(watched)
        ),
        still="".join(
            f"{_place(i, s, holds)} - max(change_{i}) OVER (machine ROWS UNBOUNDED PRECEDING) AS still_{i}, "
            for i, s in enumerate(watched)
        ),
        fills=", ".join(
            f"{_hold(name, holds[s]) if s in holds else _fill(quality, name)} AS fill_{i}"
            for i, (s, name) in enumerate(zip(sensors, names, strict=True))
        ),
        stuck=_name_each(watched, (_is_stuck(i, quote_identifier(s)) for i, s in enumerate(watched))),
        filled=_name_each(
            [s for s in sensors if s not in holds],
            (f"{n} IS NULL AND fill_{i} IS NOT NULL" for i, n in enumerate(names) if sensors[i] not in holds),
        ),
        is_held=" OR ".join(
            ["false", *(f"({n} IS NULL AND fill_{i} IS NOT NULL)" for i, n in enumerate(names) if sensors[i] in holds)]
        ),
        missing=_name_each(
            source.measured,
            (f"{n} IS NULL AND fill_{i} IS NULL" for i, n in enumerate(names) if sensors[i] not in states),
        ),
        max_missing=str(min(quality.max_missing_sensors, len(source.measured) - 1)),
        fill_columns=", ".join(f"CASE WHEN {n} IS NULL THEN fill_{i} END AS {n}" for i, n in enumerate(names)),
        fill_differs=" OR ".join(f"filled.{name} IS DISTINCT FROM judged.{name}" for name in names),
    )


def _learn_limits(connection: duckdb.DuckDBPyConnection, config: PlantConfig, timing: Timing) -> list[str]:
    """Learn the limits of machines that have none and enough readings to learn from; return those machines."""
    window = training_window(config.training)
    span = {name: window[name] for name in ("training_start", "training_until")}
    connection.execute(
        """
        CREATE OR REPLACE TEMP TABLE fresh_machines AS
        SELECT machine_id
        FROM core.readings
        WHERE quality = 'ok'
          AND ts >= coalesce($training_start::TIMESTAMP, '-infinity'::TIMESTAMP)
          AND ts < coalesce($training_until::TIMESTAMP, 'infinity'::TIMESTAMP)
          AND machine_id NOT IN (SELECT machine_id FROM core.stuck_limits)
        GROUP BY machine_id
        HAVING count(*) >= $min_history
        """,
        span | {"min_history": _MIN_HISTORY},
    )
    machines = [row[0] for row in connection.execute("SELECT machine_id FROM fresh_machines").fetchall()]
    if machines:
        connection.execute(
            """
            CREATE OR REPLACE TEMP TABLE history AS
            SELECT reading_id
            FROM core.readings
            SEMI JOIN fresh_machines USING (machine_id)
            WHERE quality IN ('ok', 'stuck')
              AND ts >= coalesce($training_start::TIMESTAMP, '-infinity'::TIMESTAMP)
              AND ts < coalesce($training_until::TIMESTAMP, 'infinity'::TIMESTAMP)
            QUALIFY row_number() OVER (PARTITION BY machine_id ORDER BY ts) <= $most
            """,
            span | {"most": _HISTORY_ROWS},
        )
    for sensor in read_source(connection).measured if machines else ():
        connection.execute(
            read_sql(
                __package__,
                "stuck_limits.sql",
                sensor=quote_identifier(sensor),
                own="value IS NOT NULL" if sensor in _holds(config) else "true",
            ),
            {
                "sensor": sensor,
                "gap_seconds": timing.gap_seconds,
                "stuck_readings": config.quality.stuck_readings,
                "factor": config.quality.stuck_factor,
                "ordinary": _ORDINARY_RUNS,
                "most_resting": _MOST_RESTING_VALUES,
                "min_runs": _MIN_RUNS,
                "longest_limit": _LONGEST_LIMIT,
            },
        )
    if machines:
        row = connection.execute(
            "SELECT count(*), count(max_readings) FROM core.stuck_limits SEMI JOIN fresh_machines USING (machine_id)"
        ).fetchone()
        if row is not None:
            _log.info("%d machines: stuck sensors can be told for %d of %d sensors", len(machines), row[1], row[0])
    return machines


def _select_limits(watched: Sequence[str]) -> str:
    """Return the query of the limits and resting values of each machine, one column per watched sensor.

    By CASE: of hundreds of aggregates with a FILTER each DuckDB keeps one copy of all columns for every other one.
    """
    columns = "".join(
        f", max(CASE WHEN sensor = {quote_literal(s)} THEN max_readings END) AS limit_{i}"
        f", any_value(CASE WHEN sensor = {quote_literal(s)} THEN resting END) AS resting_{i}"
        for i, s in enumerate(watched)
    )
    return f"SELECT machine_id{columns} FROM core.stuck_limits GROUP BY machine_id"


def _change(name: str, place: str) -> str:
    return (
        f"CASE WHEN is_gap OR ({name} IS NOT NULL AND {name} IS DISTINCT FROM lag({name} IGNORE NULLS) OVER machine) "
        f"THEN {place} END"
    )


def _place(position: int, sensor: str, holds: Mapping[str, float]) -> str:
    """Return the SQL of how many readings there were; of a sensor with times of its own, only those with a value."""
    return f"place_{position}" if sensor in holds else "place"


def _hold(name: str, seconds: float) -> str:
    """Return the SQL of the last value of a sensor with times of its own, as long as it holds."""
    before = "OVER (machine ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
    when = f"last_value(CASE WHEN {name} IS NOT NULL THEN epoch(ts) END IGNORE NULLS) {before}"
    return f"CASE WHEN epoch(ts) - {when} <= {seconds!r} THEN last_value({name} IGNORE NULLS) {before} END"


def _is_stuck(position: int, name: str) -> str:
    return (
        f"{name} IS NOT NULL AND still_{position} >= limit_{position} AND NOT list_contains(resting_{position}, {name})"
    )


def _fill(quality: QualityConfig, name: str) -> str:
    """Return the SQL of the last value that is recent enough to replace a missing one, or NULL."""
    if quality.fill_readings == 0:
        return "NULL::DOUBLE"
    recent = f"OVER (run ROWS BETWEEN {quality.fill_readings:d} PRECEDING AND 1 PRECEDING)"
    value = f"last_value({name} IGNORE NULLS) {recent}"
    if quality.fill_seconds is None:
        return value
    when = f"last_value(CASE WHEN {name} IS NOT NULL THEN epoch(ts) END IGNORE NULLS) {recent}"
    return f"CASE WHEN epoch(ts) - {when} <= {quality.fill_seconds!r} THEN {value} END"


def _name_each(sensors: Sequence[str], tests: Iterable[str]) -> str:
    """Return SQL list items: the name of each sensor that passes its test, else NULL."""
    return ", ".join(
        f"CASE WHEN {test} THEN {quote_literal(sensor)} END" for sensor, test in zip(sensors, tests, strict=True)
    )
