"""The bundle: all that scores written to a folder, for `pwflow_core.edge` on whatever machine."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from pwflow_core.config import PlantConfig
from pwflow_core.edge.bundle import ONNX, write_bundle
from pwflow_core.edge.rules import Rules
from pwflow_core.edge.tracking import Tracker
from pwflow_core.errors import ConfigurationError, NotFittedError
from pwflow_core.modelling.serialization import pack, unpack
from pwflow_core.pipeline.flows.fleet import read_fleet
from pwflow_core.pipeline.readings.features import are_settled, check_columns, features_by_sensor, read_features
from pwflow_core.pipeline.readings.quality import QUALITY_FACT, quality_settings
from pwflow_core.pipeline.readings.timing import Timing, read_timing
from pwflow_core.pipeline.regimes.model import ClusterModel, load_cluster_model
from pwflow_core.pipeline.scoring.calibration import load_calibration
from pwflow_core.pipeline.scoring.densities import UNREADABLE_STEP, load_flow
from pwflow_core.pipeline.scoring.judge import ModelSet, read_model_set
from pwflow_core.pipeline.scoring.levels import load_levels
from pwflow_core.pipeline.scoring.scores import SCORES_STEP
from pwflow_core.pipeline.scoring.states import load_states
from pwflow_core.pipeline.source.source import Source, read_source
from pwflow_core.pipeline.using.onnx_files import make_onnx, require_onnx
from pwflow_core.plant import Plant
from pwflow_core.spelling import NUMERIC_FORMATS, parse_format
from pwflow_core.warehouse import quote_columns, utc_now
from pwflow_core.warehouse.progress import read_fact, read_progress

__all__ = ["ExportedBundle", "describe_readings", "describe_source", "export_bundle"]

_log = logging.getLogger("pwflow.export")

_LONGEST_MEMORY = 1001
"""Readings: no sensor is stuck later than after 1,000."""

_BESIDE = 5  # columns of a reading before those of the sensors

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ExportedBundle:
    """What was exported.

    Attributes:
        folder: Where the bundle is.
        model_set_id: The clusters, weights and flows that it scores with.
        n_regimes: Regimes that score.
        n_machines: Machines whose last readings it knows.
        n_bytes: Size of all its files.
    """

    folder: Path
    model_set_id: str
    n_regimes: int
    n_machines: int
    n_bytes: int


def export_bundle(plant: Plant, folder: Path, *, with_onnx: bool = False) -> ExportedBundle:
    """Write the models and rules that the scores in the warehouse were made by, in place of an older bundle.

    Arguments:
        plant: The plant.
        folder: Where; it is made if it is not there.
        with_onnx: Whether each flow is written as ONNX too.

    Raises:
        NotFittedError: Nothing was scored yet, or other regimes or settings came into use since.
        ModelFileError: A model file is missing or damaged, or ONNX does not give the densities of the last run.
        ConfigurationError: The folder cannot be written, or the packages for ONNX are not installed.
    """
    if with_onnx:
        require_onnx()
    model_id, model = load_cluster_model(plant)
    with plant.warehouse.snapshot() as connection:
        models = read_model_set(connection, read_progress(connection, SCORES_STEP).model)
        if models is None or models.cluster_model_id != model_id:
            raise NotFittedError("Nothing was scored with the regimes in use yet: run `pwflow run` first, then export.")
        _check_settings(connection, plant.config)
        check_columns(connection, model.columns)
        source = read_source(connection)
        groups = list(features_by_sensor(model.columns, source.measured).values())
        readings = describe_readings(plant, connection, model.columns)
        unreadable = connection.execute("SELECT cluster_key FROM core.progress WHERE step = ?", [UNREADABLE_STEP])
        document: dict[str, Any] = {
            "plant": plant.config.plant.name,
            "source": describe_source(source),
            "readings": readings,
            "groups": groups,
            "alpha": models.alpha,
            "min_calibration_rows": models.min_calibration_rows,
            "unreadable": sorted(key for (key,) in unreadable.fetchall()),
            "segments": {},
            "regimes": {},
        }
        arrays: Arrays = {}
        for number, part in enumerate(model.segments):
            _describe_segment(connection, models, model, number, document, arrays)
            _log.info("segment %s described", part.segment)
        state = _state(connection, readings)
    files = {f"flow {v}": (f"flow-{v[:12]}.safetensors", data) for v, data in _flows(plant, models).items()}
    if with_onnx:
        made = make_onnx(plant, models, model)
        files |= {f"{ONNX} {v}": (f"flow-{v[:12]}.onnx", data) for v, data in made.items()}
    _learn_bends(plant, models, model, groups, arrays)
    files |= {
        "rules": ("rules.json", json.dumps(document, indent=1, ensure_ascii=False).encode()),
        "arrays": ("arrays.safetensors", pack("edge_arrays", arrays, {})),
        "state": ("state.safetensors", state),
    }
    about = {
        "pwflow": version("pwflow"),
        "made_at": f"{utc_now().isoformat(timespec='seconds')}Z",
        "model_set_id": models.model_set_id,
        "cluster_model_id": model_id,
    }
    try:
        manifest = write_bundle(folder, about, files)
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written: {error.strerror}. Name another folder.") from None
    n_bytes = sum((folder / named["path"]).stat().st_size for named in manifest["files"].values())
    return ExportedBundle(folder, models.model_set_id, len(document["regimes"]), len(_machines(state)), n_bytes)


def _check_settings(connection: duckdb.DuckDBPyConnection, config: PlantConfig) -> None:
    """Raise where readings would be judged otherwise than those that the scores in the warehouse are of."""
    changed = {
        "[quality], [training] or hold_seconds": read_fact(connection, QUALITY_FACT) != quality_settings(config),
        "[features]": not are_settled(connection, config),
    }
    if named := " and ".join(what for what, is_changed in changed.items() if is_changed):
        raise NotFittedError(
            f"{named} changed in pwflow.toml since the readings were scored: run `pwflow run` first, then export."
        )


def describe_source(source: Source) -> dict[str, Any]:
    """Return what the columns of a line mean, as `edge.lines.LineReader` reads it."""
    described: dict[str, Any] = json.loads(source.to_json()) | {"times": None}
    if source.timestamp_format not in NUMERIC_FORMATS:
        pattern = parse_format(source.timestamp_format)
        core = pattern.translated or pattern.core
        described["times"] = {"shapes": pattern.shapes, "core": core, "has_half": pattern.has_half}
    return described


def describe_readings(plant: Plant, connection: duckdb.DuckDBPyConnection, columns: Sequence[str]) -> dict[str, Any]:
    """Return how values become the columns that the models see, as `edge.rules.Rules` reads it."""
    source, features = read_source(connection), read_features(connection)
    timing = read_timing(connection, plant.config) or Timing(1.0, 1.0)
    quality, given = plant.config.quality, plant.config.sensors
    kept = ("name", "unit", "low", "high", "period", "cut", "missing", "state")
    stuck: dict[str, dict[str, Any]] = {}
    for machine, sensor, longest, resting in connection.execute(
        "SELECT machine_id, sensor, max_readings, resting FROM core.stuck_limits WHERE max_readings IS NOT NULL "
        "ORDER BY machine_id, sensor"
    ).fetchall():
        stuck.setdefault(machine, {})[sensor] = {"max_readings": longest, "resting": resting}
    return {
        "sensors": [
            {name: getattr(sensor, name) for name in kept}
            | {"hold_seconds": given[sensor.name].hold_seconds if sensor.name in given else None}
            for sensor in source.sensors
        ],
        "features": [asdict(feature) | {"name": feature.name} for feature in features.features],
        "columns": list(columns),
        "gap_seconds": timing.gap_seconds,
        "fill_readings": quality.fill_readings,
        "fill_seconds": quality.fill_seconds,
        "max_missing": min(quality.max_missing_sensors, len(source.measured) - 1),
        "stuck": stuck,
        "future_hours": source.future_hours,
    }


def _describe_segment(
    connection: duckdb.DuckDBPyConnection,
    models: ModelSet,
    model: ClusterModel,
    number: int,
    document: dict[str, Any],
    arrays: Arrays,
) -> None:
    """Put the regimes of a segment, with their levels and calibrations, into the document and the arrays."""
    part = model.segments[number]
    arrays |= {f"{number}.{name}": array for name, array in part.seeds.tensors().items()}
    pinned = models.regimes.get(part.segment, {})
    levels = load_levels(connection, models.cluster_model_id, part.segment, part.keys)
    document["segments"][part.segment] = {
        "number": number,
        "keys": list(part.keys),
        "method": part.seeds.method,
        "has_levels": levels is not None,
    }
    states = load_states(connection, models.cluster_model_id, part.segment)
    if states is not None:
        document["segments"][part.segment]["states"] = states.to_document()
    if levels is not None:
        arrays |= {f"{number}.levels.{name}": array for name, array in vars(levels).items()}
    for key, pin in pinned.items():
        numbers = None
        calibration = load_calibration(connection, key, pin.flow_version)
        if calibration is not None:
            numbers = asdict(calibration)
            arrays[f"{key}.conformity"] = numbers.pop("log_density")
            arrays[f"{key}.p_value"] = numbers.pop("p_value")
        document["regimes"][key] = {
            "weight": pin.weight,
            "flow_version": pin.flow_version,
            "calibration": numbers,
        }
        if (fleet := read_fleet(connection, key, pin.flow_version)) is not None:
            document["regimes"][key]["machines"] = list(fleet.corrections)
            arrays |= {f"{key}.typical.{name}": array for name, array in vars(fleet.typical).items()}
            for name in ("shift", "stretch"):
                arrays[f"{key}.{name}"] = np.stack([getattr(own, name) for own in fleet.corrections.values()])


def _flows(plant: Plant, models: ModelSet) -> dict[str, bytes]:
    versions = {pin.flow_version for regimes in models.regimes.values() for pin in regimes.values()}
    return {v: plant.models.get(v) for v in sorted(versions)}


def _learn_bends(plant: Plant, models: ModelSet, model: ClusterModel, groups: list[list[int]], arrays: Arrays) -> None:
    """Learn what each flow expects of a sensor, which takes draws of it, as explaining an anomaly does."""
    from pwflow_core.modelling import SensorAttributor

    with plant.threads():
        for regimes in models.regimes.values():
            weights = np.array([pin.weight for pin in regimes.values()])
            flows = [load_flow(plant, key, pin.flow_version, len(model.columns)) for key, pin in regimes.items()]
            for key, bends in zip(regimes, SensorAttributor(weights, flows, groups).bends, strict=True):
                arrays |= {f"{key}.{name}": array for name, array in vars(bends).items()}


def _state(connection: duckdb.DuckDBPyConnection, readings: Mapping[str, Any]) -> bytes:
    """Return what the next readings of each machine depend on."""
    rules = Rules.of(readings)
    tracker = Tracker(rules)
    names = [sensor.name for sensor in rules.sensors]
    n_rows = max(_LONGEST_MEMORY, rules.reach + 1, rules.fill_readings + 1)
    rows = connection.execute(
        f"""
        SELECT left_over, machine_id, epoch_us(ts) AS at, segment,
               CASE WHEN quality = 'invalid' THEN reason END AS refused, {quote_columns(names)}
        FROM (
            SELECT *, row_number() OVER (PARTITION BY machine_id ORDER BY ts DESC) AS left_over FROM core.readings
        )
        WHERE left_over <= ?
        ORDER BY left_over DESC, machine_id
        """,
        [n_rows],
    ).df()
    values = rows.iloc[:, _BESIDE:].to_numpy(dtype=np.float64, na_value=np.nan)
    turns, machines, times, segments, refused = (rows.iloc[:, i].to_numpy() for i in range(_BESIDE))
    number = tracker.numbers(machines.tolist())
    for turn in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(turns)) + 1) if len(rows) else ():
        why = [reason if isinstance(reason, str) else None for reason in refused[turn]]
        tracker.follow(number[turn], times[turn], segments[turn].tolist(), values[turn], why)
    return pack("edge_state", *tracker.to_arrays())


def _machines(state: bytes) -> list[str]:
    machines: list[str] = unpack(state, "edge_state")[1]["machines"]
    return machines
