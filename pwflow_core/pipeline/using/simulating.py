"""Sampling: readings as the models in use imagine them, of one regime or of the mixture of a segment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pwflow_core.errors import NotFittedError, RegimeError
from pwflow_core.pipeline.publishing.exporting import check_target, export_query
from pwflow_core.pipeline.regimes.model import SegmentClusters, load_cluster_model
from pwflow_core.pipeline.scoring.densities import load_flow
from pwflow_core.pipeline.source.source import read_source
from pwflow_core.plant import Plant
from pwflow_core.warehouse import registered

__all__ = ["SampledFile", "sample_readings"]


@dataclass(frozen=True)
class SampledFile:
    """What sampling came to.

    Attributes:
        path: The file that was written.
        segment: The process condition.
        n_by_cluster: Readings by regime.
    """

    path: Path
    segment: str
    n_by_cluster: dict[str, int]


def sample_readings(
    plant: Plant,
    n_readings: int,
    target: Path,
    *,
    cluster_key: str | None = None,
    segment: str | None = None,
    random_state: int = 0,
) -> SampledFile:
    """Draw readings from the mixture of a segment, or from one regime, and write them to a file.

    Each has its segment, its regime, and a value per sensor in the sensor's unit. Features over time, which the models
    see too, are drawn with them and left out.

    Arguments:
        plant: The plant.
        n_readings: How many.
        target: CSV or Parquet file to write.
        cluster_key: The regime; all of the segment, by their weights, if None.
        segment: The segment; that of the regime, or the only one, if None.
        random_state: Seed.

    Raises:
        UnknownClusterError: The regime is not in use.
        RegimeError: The segment is not known, or none was named among several.
        NotFittedError: A regime has no flow yet.
    """
    check_target(target)
    _, model = load_cluster_model(plant)
    part = model.locate(cluster_key)[0] if cluster_key is not None else _find_segment(model.segments, segment)
    if segment is not None and part.segment != segment:
        raise RegimeError(f"{cluster_key} is a regime of segment {part.segment!r}, not of {segment!r}: leave one out.")
    with plant.warehouse.snapshot() as connection:
        names = [sensor.name for sensor in read_source(connection).sensors if sensor.name in model.columns]
        versions = dict(
            connection.execute("SELECT cluster_key, flow_version FROM mart.flow_versions WHERE in_force").fetchall()
        )
    keys = part.keys if cluster_key is None else (cluster_key,)
    if without := [key for key in keys if key not in versions]:
        raise NotFittedError(f"{without[0]} has no flow yet: materialize its partition, or run `pwflow run`.")
    weights = part.seeds.weights if cluster_key is None else np.ones(1)
    rng = np.random.default_rng(random_state)
    counts = rng.multinomial(n_readings, weights / weights.sum())
    drawn = []
    with plant.threads():
        for key, count in [drawn for drawn in zip(keys, counts.tolist(), strict=True) if drawn[1]]:
            X = load_flow(plant, key, versions[key], len(model.columns)).sample(count, rng)
            drawn.append(pd.DataFrame(X, columns=list(model.columns))[names].assign(cluster_key=key))
    frame = pd.concat(drawn, ignore_index=True).assign(segment=part.segment)
    with plant.warehouse.scratch() as scratch, registered(scratch, drawn=frame[["segment", "cluster_key", *names]]):
        export_query(scratch, "FROM drawn", target)
    return SampledFile(target, part.segment, dict(zip(keys, counts.tolist(), strict=True)))


def _find_segment(parts: tuple[SegmentClusters, ...], segment: str | None) -> SegmentClusters:
    if segment is None and len(parts) == 1:
        return parts[0]
    for part in parts:
        if part.segment == segment:
            return part
    known = ", ".join(repr(part.segment) for part in parts)
    got = "none" if segment is None else repr(segment[:80])
    raise RegimeError(f"Expected a segment with regimes ({known}), got {got}: name one of those, or a regime.")
