"""The states of the plant: learned once for a cluster model, and what is new beside them found among readings.

See `modelling/states.py`. They are counted again where other sensors are states.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

import duckdb
import pandas as pd

from pwflow_core.modelling.states import Company, StateBlame, States, fit_states
from pwflow_core.pipeline.readings.training_rows import select_training_rows, training_window
from pwflow_core.pipeline.scoring.model_sets import create_pins
from pwflow_core.pipeline.source.source import read_source
from pwflow_core.plant import Plant
from pwflow_core.warehouse import fetch_value, insert_row, quote_identifier, read_sql, registered

__all__ = [
    "MadeStates",
    "explain_states",
    "load_states",
    "mark_new_states",
    "measure_states",
    "write_states",
]

_log = logging.getLogger("pwflow.states")

_DAY_SECONDS = 86_400.0
_FEWEST_DAYS, _BLOCKS = 10, 20
"""A record of fewer days is cut into equal blocks of time instead."""

MadeStates = Mapping[tuple[str, str], States]
"""By cluster model and segment."""


def _state_values(states: tuple[str, ...]) -> str:
    """Return the SQL of the values of the states of a reading: a list in their order, NULL where there is none."""
    return f"[{', '.join(map(quote_identifier, states))}]::DOUBLE[]"


def measure_states(plant: Plant) -> MadeStates:
    """Learn the states of the segments of which none are known under the cluster model in use.

    Raises:
        NotFittedError: No slice has been scored yet.
    """
    window = training_window(plant.config.training)
    training_rows = select_training_rows(plant.config.training)
    with plant.warehouse.snapshot() as connection:
        states = read_source(connection).states
        if not states:
            return {}
        create_pins(connection)
        if not _find_missing(connection, states):
            return {}
        row = connection.execute(f"SELECT epoch(min(ts)), epoch(max(ts)) FROM ({training_rows})", window).fetchone()
        first, last = row or (None, None)
        if first is None:
            return {}
        is_long = last - first >= _FEWEST_DAYS * _DAY_SECONDS
        query = read_sql(__package__, "states.sql", training_rows=training_rows, values=_state_values(states))
        unit = (_DAY_SECONDS, 0.0) if is_long else (max((last - first) / _BLOCKS, 1.0), first)
        rows = connection.execute(query, window | {"unit_seconds": unit[0], "origin": unit[1]}).fetchall()
        model_id = fetch_value(connection, "SELECT any_value(cluster_model_id) FROM pins")
    made = {}
    for segment, of_segment in groupby(rows, key=lambda row: row[0]):
        seen = [Company(key, machine, tuple(found), day, n) for _, key, machine, found, day, n in of_segment]
        made[model_id, segment] = known = fit_states(states, seen)
        if quiet := [name for name, told in zip(states, known.is_watched, strict=True) if not told]:
            _log.warning("segment %s: %s keep taking new values, so that a new one raises no alarm", segment, quiet)
        if not known.can_tell:
            _log.warning(
                "segment %s: %.2g of the readings show something new in their states; no alarm follows from those",
                segment,
                known.chance,
            )
    return made


def write_states(connection: duckdb.DuckDBPyConnection, made: MadeStates) -> bool:
    """Keep states of the cluster model that is still in use; return whether any were missing.

    Expects the temporary table `pins`.
    """
    missing = _find_missing(connection, read_source(connection).states)
    written = [key for key in missing if key in made]
    for model_id, segment in written:
        about: dict[str, object] = {"cluster_model_id": model_id, "segment": segment}
        connection.execute(
            "DELETE FROM core.known_states WHERE cluster_model_id = $cluster_model_id AND segment = $segment", about
        )
        document = json.dumps(made[model_id, segment].to_document())
        insert_row(connection, "core.known_states", about | {"document": document})
    return bool(written)


def load_states(connection: duckdb.DuckDBPyConnection, model_id: str, segment: str) -> States | None:
    """Return what is known of the states of a segment; None if nothing was learned, or of other sensors."""
    text = fetch_value(
        connection,
        "SELECT document FROM core.known_states WHERE cluster_model_id = ? AND segment = ?",
        [model_id, segment],
    )
    known = States.from_document(json.loads(text)) if text else None
    return known if known is not None and known.sensors == read_source(connection).states else None


def mark_new_states(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the temporary tables `state_chances` (flow, chance) and `new_states` (flow, reading_id).

    Expects the temporary tables `pins` and `affected`. Both tables are empty where no sensor is a state.
    """
    connection.execute("CREATE OR REPLACE TEMP TABLE state_chances (flow SMALLINT, chance DOUBLE)")
    connection.execute("CREATE OR REPLACE TEMP TABLE new_states (flow SMALLINT, reading_id BIGINT)")
    states = read_source(connection).states
    if not states:
        return
    pins = connection.execute("SELECT flow, cluster_key, segment, cluster_model_id FROM pins ORDER BY flow").fetchall()
    known = {segment: load_states(connection, model, segment) for segment, model in {(p[2], p[3]) for p in pins}}
    telling = {segment: found for segment, found in known.items() if found is not None and found.can_tell}
    if not telling:
        return
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE companies AS
        SELECT row_number() OVER () AS number, segment, machine_id, state_values
        FROM (
            SELECT DISTINCT segment, machine_id, {_state_values(states)} AS state_values
            FROM core.model_readings
            SEMI JOIN affected USING (reading_id)
        )
        """
    )
    rows = connection.execute("SELECT * FROM companies ORDER BY number").fetchall()
    new = []
    for flow, key, segment, _ in pins:
        if segment in telling:
            connection.execute("INSERT INTO state_chances VALUES (?, ?)", [flow, telling[segment].chance])
            new += [
                (flow, number)
                for number, of, machine, found in rows
                if of == segment and telling[segment].blame(key, machine, found).any()
            ]
    if not new:
        return
    with registered(connection, new_companies=pd.DataFrame(new, columns=["flow", "number"])):
        connection.execute(
            f"""
            INSERT INTO new_states
            SELECT new.flow, reading.reading_id
            FROM core.model_readings AS reading
            SEMI JOIN affected USING (reading_id)
            JOIN companies
              ON companies.segment = reading.segment
             AND companies.machine_id = reading.machine_id
             AND companies.state_values = {_state_values(states)}
            JOIN new_companies AS new USING (number)
            """
        )


def explain_states(connection: duckdb.DuckDBPyConnection, anomalies: Path) -> dict[int, StateBlame]:
    """Return what the states have to do with each of some anomalies, by reading; of a segment without them, nothing.

    Arguments:
        connection: Open for reading.
        anomalies: Parquet file with the `reading_id` of the anomalies.
    """
    states = read_source(connection).states
    if not states:
        return {}
    rows = connection.execute(
        f"""
        SELECT score.reading_id, sets.cluster_model_id, score.segment, score.cluster_key, score.machine_id,
               score.p_value, {_state_values(states)}
        FROM mart.anomaly_scores AS score
        SEMI JOIN read_parquet($anomalies) AS anomaly USING (reading_id)
        JOIN core.model_readings AS reading USING (reading_id)
        JOIN (SELECT DISTINCT model_set_id, cluster_model_id FROM core.model_sets) AS sets USING (model_set_id)
        """,
        {"anomalies": str(anomalies)},
    ).fetchall()
    known = {pair: load_states(connection, *pair) for pair in {(model, segment) for _, model, segment, *_ in rows}}
    return {
        reading_id: found.explain(*about)
        for reading_id, model, segment, key, machine, p_value, values in rows
        if (found := known[model, segment]) is not None
        for about in [(key, machine, values, p_value)]
    }


def _find_missing(connection: duckdb.DuckDBPyConnection, states: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the cluster model and segment of those pinned of which these states are not known."""
    if not states:
        return []
    pinned = connection.execute("SELECT DISTINCT cluster_model_id, segment FROM pins ORDER BY ALL").fetchall()
    return [(model, segment) for model, segment in pinned if load_states(connection, model, segment) is None]
