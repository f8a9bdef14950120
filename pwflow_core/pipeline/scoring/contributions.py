"""Contributions: which sensors caused each anomaly; only for those that are not explained yet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
from numpy.typing import NDArray

from pwflow_core.errors import ModelFileError
from pwflow_core.modelling.completion import complete_by_likeliest
from pwflow_core.modelling.fleet import Fleet, Winners
from pwflow_core.modelling.states import StateBlame
from pwflow_core.pipeline.flows.fleet import read_fleet
from pwflow_core.pipeline.readings.features import check_columns, features_by_sensor
from pwflow_core.pipeline.regimes.model import ClusterModel, load_cluster_model
from pwflow_core.pipeline.scoring.states import explain_states
from pwflow_core.pipeline.source.source import read_source
from pwflow_core.plant import Plant
from pwflow_core.storage import working_folder
from pwflow_core.warehouse import quote_columns, quote_identifier, quote_literal, read_sql, run_script
from pwflow_core.warehouse.days import note_changed_days
from pwflow_core.warehouse.streaming import Spool, copy_out, read_chunks

if TYPE_CHECKING:
    from pwflow_core.modelling import ClusterFlow, SensorAttributor

__all__ = ["ContributionsSummary", "explain_anomalies"]

_log = logging.getLogger("pwflow.contributions")

_ANOMALIES, _READINGS, _RESULTS = "anomalies.parquet", "readings.parquet", "results.parquet"
_SPOOLED = {
    "reading_id": "BIGINT",
    "position": "BIGINT",
    "share": "DOUBLE",
    "observed": "DOUBLE",
    "expected": "DOUBLE",
    "expected_low": "DOUBLE",
    "expected_high": "DOUBLE",
    "cluster_key": "VARCHAR",
}
_OF_STATES = ("share", "observed", "expected")


@dataclass(frozen=True)
class ContributionsSummary:
    """What explaining the anomalies came to.

    Attributes:
        n_new: Anomalies explained in this run.
        n_explained: Anomalies explained, all together.
        n_rows: Rows of the table: one per explained anomaly and sensor.
        n_incomplete: Anomalies that cannot be explained: a sensor has no value, or a model file cannot be used.
        blame: Of how many anomalies each sensor is the first cause, all together.
    """

    n_new: int
    n_explained: int
    n_rows: int
    n_incomplete: int
    blame: dict[str, int]


@dataclass(frozen=True)
class _Mixture:
    """The regimes that some anomalies were scored with: their keys, weights and flow versions."""

    model_set_id: str
    segment: str
    keys: tuple[str, ...]
    weights: tuple[float, ...]
    versions: tuple[str, ...]


def explain_anomalies(plant: Plant) -> ContributionsSummary:
    """Fill `sensor_contributions` for anomalies that are new, or that were scored again.

    What explains readings that are no anomalies any more is removed. Each anomaly is explained by the flows that it
    was scored with. Everything is written in one transaction.

    Where a model file cannot be used, the anomalies that it took part in stay unexplained.

    Raises:
        NotFittedError: There is no warehouse, or there are no regimes yet.
        ModelFileError: The file of the regimes is missing or damaged.
    """
    _, model = load_cluster_model(plant)
    with working_folder(plant.warehouse.folder, "explain") as folder:
        with plant.warehouse.snapshot() as connection:
            source = read_source(connection)
            units = {sensor.name: sensor.unit for sensor in source.sensors}
            check_columns(connection, model.columns)
            _copy_unexplained(connection, list(units), model.columns, folder)
            mixtures = _read_mixtures(connection, folder / _ANOMALIES)
            fleets = [_read_fleets(connection, mixture) for mixture in mixtures]
            told = explain_states(connection, folder / _ANOMALIES)
        groups = features_by_sensor(model.columns, source.measured)
        _explain(plant, model, list(zip(mixtures, fleets, strict=True)), list(groups.values()), told, folder)
        summary = _write(plant, [(sensor, units[sensor]) for sensor in (*groups, *source.states)], folder)
    _log.info("%s anomalies explained, %s in all", f"{summary.n_new:,}", f"{summary.n_explained:,}")
    return summary


def _copy_unexplained(
    connection: duckdb.DuckDBPyConnection, sensors: Sequence[str], columns: Sequence[str], folder: Path
) -> None:
    """Copy the anomalies to explain, and what the models saw of them, to two files: a sensor may have any name."""
    complete = " AND ".join(f"{quote_identifier(sensor)} IS NOT NULL" for sensor in sensors if sensor in columns)
    copy_out(
        connection,
        f"""
        SELECT score.reading_id, score.scored_at, score.model_set_id, score.segment, score.cluster_key, score.machine_id
        FROM mart.anomaly_scores AS score
        SEMI JOIN (SELECT reading_id FROM core.model_readings WHERE {complete}) AS reading USING (reading_id)
        ANTI JOIN mart.sensor_contributions AS explained
          ON score.reading_id = explained.reading_id AND score.scored_at = explained.scored_at
        WHERE score.is_anomaly
        """,
        {},
        folder / _ANOMALIES,
    )
    copy_out(
        connection,
        f"SELECT reading_id, {quote_columns(columns)} FROM core.model_readings "
        "WHERE reading_id IN (SELECT reading_id FROM read_parquet($anomalies))",
        {"anomalies": str(folder / _ANOMALIES)},
        folder / _READINGS,
    )


def _read_mixtures(connection: duckdb.DuckDBPyConnection, anomalies: Path) -> list[_Mixture]:
    rows = connection.execute(
        """
        SELECT model_set_id, segment, list(cluster_key ORDER BY cluster_key), list(weight ORDER BY cluster_key),
               list(flow_version ORDER BY cluster_key)
        FROM core.model_sets
        SEMI JOIN read_parquet(?) AS anomaly USING (model_set_id, segment)
        GROUP BY model_set_id, segment
        ORDER BY model_set_id, segment
        """,
        [str(anomalies)],
    ).fetchall()
    return [_Mixture(row[0], row[1], *(tuple(values) for values in row[2:])) for row in rows]


def _explain(
    plant: Plant,
    model: ClusterModel,
    mixtures: list[tuple[_Mixture, dict[str, Fleet]]],
    groups: list[list[int]],
    told: dict[int, StateBlame],
    folder: Path,
) -> None:
    flows: dict[str, ClusterFlow] = {}
    with plant.threads(), plant.warehouse.scratch() as scratch:
        spool = Spool(scratch, _SPOOLED)
        own = np.array([group[0] for group in groups], dtype=np.intp)
        for mixture, fleets in mixtures:
            copy_out(
                scratch,
                "SELECT * FROM read_parquet($readings) JOIN (SELECT reading_id, cluster_key, machine_id "
                "FROM read_parquet($anomalies) WHERE model_set_id = $model_set_id AND segment = $segment) "
                "USING (reading_id)",
                {
                    "readings": str(folder / _READINGS),
                    "anomalies": str(folder / _ANOMALIES),
                    "model_set_id": mixture.model_set_id,
                    "segment": mixture.segment,
                },
                folder / "part.parquet",
            )
            try:
                attributor = _open_attributor(plant, mixture, groups, flows)
            except ModelFileError as error:
                _log.warning("anomalies in segment %s stay unexplained: %s", mixture.segment, error)
                continue
            winners = _open_winners(scratch, folder / "part.parquet", fleets)
            for reading_id, X in read_chunks(
                scratch, folder / "part.parquet", model.columns, plant.config.compute.chunk_rows
            ):
                mine = winners(reading_id)
                found = mine.tell(attributor.attribute(_completed(mine.see(X), model, mixture.segment)), own)
                n_sensors = found.share.shape[1]
                keys = np.array(mixture.keys, dtype=object)[found.cluster]
                by_states = np.array([told[i].share.sum() if i in told else 0.0 for i in reading_id.tolist()])
                spool.append(
                    reading_id=np.repeat(reading_id, n_sensors),
                    position=np.tile(np.arange(n_sensors), len(X)),
                    share=(found.share * (1.0 - by_states)[:, None]).ravel(),
                    observed=found.observed.ravel(),
                    expected=found.expected.ravel(),
                    expected_low=found.low.ravel(),
                    expected_high=found.high.ravel(),
                    cluster_key=np.repeat(keys, n_sensors),
                )
                _append_states(spool, reading_id, keys, told, n_sensors)
        spool.close(folder / _RESULTS)


def _read_fleets(connection: duckdb.DuckDBPyConnection, mixture: _Mixture) -> dict[str, Fleet]:
    found = {k: read_fleet(connection, k, version) for k, version in zip(mixture.keys, mixture.versions, strict=True)}
    return {key: fleet for key, fleet in found.items() if fleet is not None}


def _open_winners(
    scratch: duckdb.DuckDBPyConnection, part: Path, fleets: dict[str, Fleet]
) -> Callable[[NDArray[np.int64]], Winners]:
    """Return what gives the machines and regimes of readings by their ids."""
    none = np.empty(0, dtype=np.str_)
    if not fleets:
        return lambda _: Winners({}, none, none)
    query = f"SELECT reading_id, machine_id, cluster_key FROM read_parquet({quote_literal(str(part))})"
    of = {reading: (machine, key) for reading, machine, key in scratch.execute(query).fetchall()}

    def find(reading_id: NDArray[np.int64]) -> Winners:
        machine, key = np.array([of[reading] for reading in reading_id.tolist()], dtype=np.str_).T
        return Winners(fleets, machine, key)

    return find


def _append_states(
    spool: Spool,
    reading_id: NDArray[np.int64],
    keys: NDArray[np.object_],
    told: dict[int, StateBlame],
    first: int,
) -> None:
    """Put the states that have a value behind the sensors that measure, from position `first` on."""
    rows = [row for row, number in enumerate(reading_id.tolist()) if number in told]
    if not rows:
        return
    blames = [told[number] for number in reading_id[rows].tolist()]
    share, observed, expected = (np.stack([getattr(b, part) for b in blames]) for part in _OF_STATES)
    row, place = np.nonzero(~np.isnan(observed) & ~np.isnan(expected))
    usual = expected[row, place]
    spool.append(
        reading_id=reading_id[rows][row],
        position=first + place,
        share=share[row, place],
        observed=observed[row, place],
        expected=usual,
        expected_low=usual,
        expected_high=usual,
        cluster_key=keys[rows][row],
    )


def _completed(X: NDArray[np.float64], model: ClusterModel, segment: str) -> NDArray[np.float64]:
    """Complete the readings that have too little history for a feature."""
    seeds = next((part.seeds for part in model.segments if part.segment == segment), None)
    return X if seeds is None else complete_by_likeliest(seeds, X)


def _open_attributor(
    plant: Plant, mixture: _Mixture, groups: list[list[int]], flows: dict[str, ClusterFlow]
) -> SensorAttributor:
    from pwflow_core.modelling import ClusterFlow, SensorAttributor

    for version in mixture.versions:
        if version not in flows:
            flows[version] = ClusterFlow.from_bytes(plant.models.get(version))
    return SensorAttributor(np.array(mixture.weights), [flows[version] for version in mixture.versions], groups)


def _write(plant: Plant, sensors: list[tuple[str, str]], folder: Path) -> ContributionsSummary:
    """Replace what explains scores that are gone; readings that were scored again meanwhile wait for the next run."""
    with plant.warehouse.transaction() as connection:
        connection.execute("CREATE TEMP TABLE sensors (position BIGINT, sensor VARCHAR, unit VARCHAR)")
        connection.executemany(
            "INSERT INTO sensors VALUES (?, ?, ?)", [(place, *sensor) for place, sensor in enumerate(sensors)]
        )
        values = {"results": str(folder / _RESULTS), "anomalies": str(folder / _ANOMALIES)}
        run_script(connection, read_sql(__package__, "contributions.sql"), values)
        note_changed_days(connection, "SELECT ts FROM explained UNION ALL SELECT ts FROM outdated")
        return _summarise(connection)


def _summarise(connection: duckdb.DuckDBPyConnection) -> ContributionsSummary:
    new, explained, rows, incomplete = connection.execute(
        """
        SELECT (SELECT count(*) FROM explained), (SELECT count(DISTINCT reading_id) FROM mart.sensor_contributions),
               (SELECT count(*) FROM mart.sensor_contributions),
               (SELECT count(*) FROM mart.anomaly_scores WHERE is_anomaly AND reading_id NOT IN
                   (SELECT reading_id FROM mart.sensor_contributions))
        """
    ).fetchall()[0]
    blame = connection.execute(
        """
        SELECT sensor, count(*) AS n
        FROM (SELECT arg_max(sensor, contribution) AS sensor FROM mart.sensor_contributions GROUP BY reading_id)
        GROUP BY sensor
        ORDER BY n DESC, sensor
        """
    ).fetchall()
    return ContributionsSummary(new, explained, rows, incomplete, dict(blame))
