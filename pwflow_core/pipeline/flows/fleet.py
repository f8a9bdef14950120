"""Fleets: what is particular to each machine in a regime, learned beside its flow and kept with its version.

Where machines differ, see `modelling.fleet`, the flow learns from readings as a typical machine would have read them,
and every step sees them so. A machine that comes later is learned from its first days; until these suffice its
readings are `thin` in that regime: they wait, and are judged when it is known. A machine that is not new in the plant
waits in no regime: what strays into one where the machine never was may be a fault.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import duckdb
import numpy as np
from numpy.typing import NDArray

from pwflow_core.config import PlantConfig, TrainingConfig
from pwflow_core.modelling.fleet import FEWEST_ROWS, Correction, Fleet, Newcomer, Typical, learn_fleet
from pwflow_core.pipeline.decisions.kinds import MACHINE_MOVED, find_kind
from pwflow_core.pipeline.decisions.verdicts import (
    Decider,
    StoredVerdict,
    identify_verdict,
    record_verdicts,
    select_suspects,
)
from pwflow_core.pipeline.flows.training_sets import RegimeRows, TrainingWindow, fetch_rows
from pwflow_core.pipeline.readings.folds import N_FOLDS
from pwflow_core.pipeline.regimes.model import ClusterModel
from pwflow_core.plant import Plant
from pwflow_core.warehouse import insert_row, utc_now

__all__ = ["correct_rows", "derive_fleet", "meet_machines", "read_fleet", "read_suspects", "write_fleet"]

_log = logging.getLogger("pwflow.fleet")

_OF_REGIME = 0.5  # responsibility of the regime for a reading that tells where a machine lies
_GROWN = 1.5  # times as many readings are worth learning a machine again
_BY = Decider("fleet")


@dataclass(frozen=True)
class _Waiting:
    """A machine that is not settled in a regime: since when it is there and in the plant, until when, what is known."""

    machine: str
    first: datetime
    first_in_plant: datetime
    last: datetime
    n_before: int
    is_accepted: bool
    is_judged: bool

    def is_new(self, config: PlantConfig) -> bool:
        """Tell whether it is new in the plant, and not only in the regime."""
        return self.last < self.first_in_plant + timedelta(days=config.fleet.first_days)

    def is_over(self, config: PlantConfig) -> bool:
        """Tell whether its first days are over, so that what they tell stays."""
        return self.last >= self.first + timedelta(days=config.fleet.first_days)


def derive_fleet(
    config: PlantConfig, rows: RegimeRows, before: Fleet | None, suspects: Collection[str]
) -> Fleet | None:
    """Learn a fleet from the readings that a flow learns from; None where machines are not told apart.

    A machine of which a retraining has too few readings, or that an open verdict suspects, keeps what was known of it.
    """
    settings = config.fleet
    if not settings.correct_machines:
        return None
    own = ~rows.held_out & (rows.weight > _OF_REGIME) & ~np.isin(rows.machine, list(suspects))
    fleet = learn_fleet(rows.X[own], rows.machine[own], rows.block[own], settings.min_machines)
    if fleet is None or before is None:
        return fleet or before
    return replace(fleet, corrections={**before.corrections, **fleet.corrections})


def correct_rows(rows: RegimeRows, fleet: Fleet | None, suspects: Collection[str] = ()) -> RegimeRows:
    """Return readings as a typical machine would have read them, without those of machines that are not known yet."""
    if fleet is None:
        return rows
    known = rows.of(fleet.knows(rows.machine) & ~np.isin(rows.machine, list(suspects)))
    return replace(known, X=fleet.correct(known.X, known.machine)[0])


def read_suspects(connection: duckdb.DuckDBPyConnection, key: str) -> set[str]:
    """Return the machines that an open verdict suspects in a regime."""
    rows = connection.execute(f"SELECT machine_id FROM ({select_suspects()}) WHERE cluster_key = ?", [key]).fetchall()
    return {row[0] for row in rows}


def read_fleet(connection: duckdb.DuckDBPyConnection, key: str, version: str) -> Fleet | None:
    """Return the fleet that a flow was trained with, and the machines that came since; None if it has none."""
    about = [key, version]
    row = connection.execute(
        "SELECT typical_location, typical_scale, spread, spread_of_scale, farthest, gain, gain_error FROM core.fleets "
        "WHERE cluster_key = ? AND flow_version = ?",
        about,
    ).fetchone()
    if row is None:
        return None
    rows = connection.execute(
        "SELECT machine_id, shift, stretch FROM mart.machine_corrections "
        "WHERE cluster_key = ? AND flow_version = ? ORDER BY decided_at",
        about,
    ).fetchall()
    known = {machine: Correction(np.array(shift), np.array(stretch)) for machine, shift, stretch in rows}
    return Fleet(Typical(*(np.array(part) for part in row[:5])), known, row[5], row[6])


def write_fleet(
    connection: duckdb.DuckDBPyConnection, model: ClusterModel, key: str, version: str, fleet: Fleet, rows: RegimeRows
) -> None:
    """Keep the fleet that a flow was trained with, in the caller's transaction; one that is there stays."""
    if read_fleet(connection, key, version) is not None:
        return
    typical, now = fleet.typical, utc_now()
    about = {"cluster_key": key, "flow_version": version}
    parts: dict[str, object] = {
        "typical_location": typical.location.tolist(),
        "typical_scale": typical.scale.tolist(),
        "spread": typical.spread.tolist(),
        "spread_of_scale": typical.spread_of_scale.tolist(),
        "farthest": typical.farthest.tolist(),
    }
    insert_row(
        connection, "core.fleets", {**about, **parts, "gain": fleet.gain, "gain_error": fleet.error, "made_at": now}
    )
    for machine, correction in sorted(fleet.corrections.items()):
        learned: dict[str, object] = {"n_readings": int((rows.machine == machine).sum())}
        learned |= {"learned_from": rows.first, "learned_until": rows.last, "is_final": True}
        _insert(connection, model, about, machine, correction, learned, "corrected", now)


def meet_machines(
    plant: Plant,
    model: ClusterModel,
    flows: Mapping[str, tuple[str, int]],
    open_flow: Callable[[str, str], Callable[[NDArray[np.float64]], NDArray[np.float64]]],
) -> None:
    """Learn machines that came since the flows were trained, from their first days, and settle those that suffice.

    Arguments:
        plant: The plant.
        model: The cluster model in use.
        flows: Flow and last batch that has been scored by it, by cluster key.
        open_flow: Returns the log-density of a flow, by cluster key and version.
    """
    strangers: dict[str, list[tuple[str, Newcomer, _Waiting]]] = {}
    for key, (version, batch_id) in flows.items():
        with plant.warehouse.snapshot() as connection:
            fleet = read_fleet(connection, key, version)
            waiting = [] if fleet is None else _find_waiting(connection, plant.config, key, version, batch_id)
        if fleet is None or not waiting:
            continue
        log_prob = open_flow(key, version)
        for machine in waiting:
            with plant.warehouse.snapshot() as connection:
                rows = _first_readings(plant, connection, model, key, machine)
            found = fleet.meet(rows.X, rows.block, log_prob)
            if found is None:
                if not machine.is_judged and not machine.is_new(plant.config):
                    _settle(plant, model, (key, version), machine, None, rows, "typical")
                continue
            if found.n_readings < _GROWN * machine.n_before and not machine.is_over(plant.config):
                continue
            status = _judge(found, is_final=machine.is_over(plant.config), is_accepted=machine.is_accepted)
            if status is None:
                continue
            if status == "outside":
                strangers.setdefault(machine.machine, []).append((key, found, machine))
            _settle(plant, model, (key, version), machine, found, rows, status)
    if strangers:
        _ask(plant, model, strangers, {key: version for key, (version, _) in flows.items()})


def _judge(found: Newcomer, *, is_final: bool, is_accepted: bool) -> str | None:
    """Return what becomes of a machine; None while it has to be waited for."""
    if found.is_outside.any() and not is_accepted:
        return "outside" if is_final else None
    if found.is_confirmed:
        return "corrected"
    return "typical" if is_final or found.is_typical else None


def _find_waiting(
    connection: duckdb.DuckDBPyConnection, config: PlantConfig, key: str, version: str, batch_id: int
) -> list[_Waiting]:
    """Return the machines with new readings in a regime that are not settled there for good.

    A machine that lies outside is one of them once a person dismissed the verdict: then it is like that.
    """
    rows = connection.execute(
        """
        WITH accepted AS (
            SELECT DISTINCT unnest(machine_ids) AS machine_id
            FROM mart.drift_verdicts
            WHERE verdict = $kind AND status = 'dismissed' AND list_contains(cluster_keys, $key)
        ), settled AS (
            SELECT machine_id, arg_max(status, decided_at) AS status, arg_max(is_final, decided_at) AS is_final,
                   arg_max(n_readings, decided_at) AS n_readings
            FROM mart.machine_corrections
            WHERE cluster_key = $key AND flow_version = $version
            GROUP BY machine_id
        ), arrived AS (
            SELECT DISTINCT reading.machine_id
            FROM core.readings AS reading
            SEMI JOIN core.cluster_assignments AS assigned
              ON assigned.reading_id = reading.reading_id AND assigned.cluster_key = $key
            WHERE reading.batch_id > $batch
        ), waiting AS (
            SELECT machine_id, coalesce(settled.n_readings, 0) AS n_before,
                   accepted.machine_id IS NOT NULL AS is_accepted, settled.machine_id IS NOT NULL AS is_judged
            FROM (FROM arrived UNION SELECT machine_id FROM settled SEMI JOIN accepted USING (machine_id))
            LEFT JOIN settled USING (machine_id)
            LEFT JOIN accepted USING (machine_id)
            WHERE NOT coalesce(settled.is_final, false) OR (settled.status = 'outside' AND is_accepted)
        )
        SELECT machine_id, min(ts) FILTER (is_here), min(ts), max(ts) FILTER (is_here), any_value(n_before),
               any_value(is_accepted), any_value(is_judged)
        FROM (
            SELECT waiting.*, reading.ts, assigned.reading_id IS NOT NULL AS is_here
            FROM waiting
            JOIN core.readings AS reading USING (machine_id)
            LEFT JOIN core.cluster_assignments AS assigned
              ON assigned.reading_id = reading.reading_id AND assigned.cluster_key = $key
        )
        GROUP BY machine_id
        ORDER BY machine_id
        """,
        {"key": key, "version": version, "batch": batch_id, "kind": MACHINE_MOVED},
    ).fetchall()
    return [
        _Waiting(machine, first, in_plant, last, 0 if is_accepted else before, is_accepted, is_judged)
        for machine, first, in_plant, last, before, is_accepted, is_judged in rows
    ]


def _first_readings(
    plant: Plant, connection: duckdb.DuckDBPyConnection, model: ClusterModel, key: str, machine: _Waiting
) -> RegimeRows:
    """Fetch the readings of a machine's first days, without alarm events; all so far where these are too few."""
    ends = machine.first + timedelta(days=plant.config.fleet.first_days)
    for until in (ends, None):
        window = TrainingWindow(
            TrainingConfig(start=machine.first, until=until), plant.config.flow.max_rows, without_events=True
        )
        rows = fetch_rows(plant, connection, model, key, window, tuple(range(N_FOLDS)), machine.machine)
        rows = rows.of(rows.weight > _OF_REGIME)
        if machine.last < ends or len(rows.X) >= FEWEST_ROWS:
            break
    return rows


def _settle(
    plant: Plant,
    model: ClusterModel,
    flow: tuple[str, str],
    machine: _Waiting,
    found: Newcomer | None,
    rows: RegimeRows,
    status: str,
) -> None:
    """Keep what was learned of a machine, if there was enough to learn from, and have its readings scored again."""
    key, version = flow
    n = len(model.columns)
    own = Correction(np.zeros(n), np.ones(n))
    learned: dict[str, object] = {"n_readings": 0, "is_final": False}
    if found is not None:
        own = found.correction if status == "corrected" else own
        learned = {
            "n_readings": found.n_readings,
            "learned_from": rows.first,
            "learned_until": rows.last,
            "gain": found.gain,
            "gain_error": found.error if np.isfinite(found.error) else None,
            "is_final": machine.is_over(plant.config),
        }
    with plant.warehouse.transaction() as connection:
        about = {"cluster_key": key, "flow_version": version}
        _insert(connection, model, about, machine.machine, own, learned, status, utc_now())
        connection.execute(
            "DELETE FROM core.component_log_density WHERE cluster_key = $key AND reading_id IN "
            "(SELECT reading_id FROM core.readings WHERE machine_id = $machine)",
            {"key": key, "machine": machine.machine},
        )
    _log.info("%s in %s: %s, from %s readings", machine.machine, key, status, f"{learned['n_readings']:,}")


def _insert(
    connection: duckdb.DuckDBPyConnection,
    model: ClusterModel,
    about: Mapping[str, object],
    machine: str,
    correction: Correction,
    learned: Mapping[str, object],
    status: str,
    now: datetime,
) -> None:
    insert_row(
        connection,
        "mart.machine_corrections",
        {
            **about,
            "machine_id": machine,
            "status": status,
            "columns": list(model.columns),
            "shift": correction.shift.tolist(),
            "stretch": correction.stretch.tolist(),
            **learned,
            "decided_at": now,
        },
    )


def _ask(
    plant: Plant,
    model: ClusterModel,
    strangers: Mapping[str, Sequence[tuple[str, Newcomer, _Waiting]]],
    versions: Mapping[str, str],
) -> None:
    """Ask a person about machines that lie further out than the others do: a fault, or a machine of another kind."""
    verdicts = []
    for machine, places in strangers.items():
        keys = sorted(key for key, *_ in places)
        off = np.max([np.abs(found.off) * found.is_outside for _, found, _ in places], axis=0)
        sensors = tuple(model.columns[column] for column in np.argsort(-off)[: max(1, min(3, int((off > 0).sum())))])
        since = min(waiting.first for *_, waiting in places).date()
        summary = (
            f"{machine} is new and differs from all other machines in {', '.join(keys)}, most in {sensors[0]}: by "
            f"{off.max():.1f} standard deviations, five times as far as they differ or more. It is a fault, or another "
            "kind of machine."
        )
        verdicts.append(
            StoredVerdict(
                identify_verdict(since, MACHINE_MOVED, [*keys, machine], [versions[key] for key in keys]),
                since,
                MACHINE_MOVED,
                tuple(keys),
                (machine,),
                sensors,
                since,
                float(off.max()),
                summary,
                find_kind(MACHINE_MOVED).answer,
            )
        )
        _log.warning("%s", summary)
    with plant.warehouse.transaction() as connection:
        record_verdicts(connection, verdicts, by=_BY)
