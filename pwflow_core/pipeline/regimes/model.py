"""The cluster model as a file: the regimes of every segment, with the keys that were minted for them."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from pwflow_core.errors import NotFittedError, UnknownClusterError
from pwflow_core.modelling.seeds import ClusterSeeds
from pwflow_core.modelling.serialization import pack, unpack
from pwflow_core.plant import Plant
from pwflow_core.warehouse import fetch_value

__all__ = [
    "ClusterModel",
    "SegmentClusters",
    "active_cluster_keys",
    "check_cluster_keys",
    "cluster_model_in_force",
    "load_cluster_model",
]

_KIND = "cluster_model"


@dataclass(frozen=True, eq=False)
class SegmentClusters:
    """The regimes of one segment.

    Attributes:
        segment: Its name.
        keys: Cluster keys, in the order of the seeds.
        seeds: The regimes as Gaussians.
    """

    segment: str
    keys: tuple[str, ...]
    seeds: ClusterSeeds


@dataclass(frozen=True, eq=False)
class ClusterModel:
    """The regimes of a plant.

    Attributes:
        columns: Names of the columns that the models see: the sensors, then the features over time.
        segments: One entry per segment that has enough readings.
    """

    columns: tuple[str, ...]
    segments: tuple[SegmentClusters, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Every cluster key, in the order of the segments."""
        return tuple(key for part in self.segments for key in part.keys)

    def locate(self, key: str) -> tuple[SegmentClusters, int]:
        """Return the segment of a cluster and its position in it."""
        for part in self.segments:
            if key in part.keys:
                return part, part.keys.index(key)
        raise UnknownClusterError(_explain_unknown(key, self.keys))

    def to_bytes(self) -> bytes:
        """Write as safetensors; the same model gives the same bytes."""
        arrays = {
            f"{position}.{name}": array
            for position, part in enumerate(self.segments)
            for name, array in part.seeds.tensors().items()
        }
        described = [
            {"segment": part.segment, "keys": list(part.keys), "method": part.seeds.method} for part in self.segments
        ]
        return pack(_KIND, arrays, {"sensors": list(self.columns), "segments": described})

    @classmethod
    def from_bytes(cls, data: bytes) -> ClusterModel:
        """Read what `to_bytes` wrote.

        Raises:
            ModelFileError: The bytes are damaged or of another kind.
        """
        arrays, document = unpack(data, _KIND)
        segments = []
        for position, part in enumerate(document["segments"]):
            prefix = f"{position}."
            own = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
            seeds = ClusterSeeds.from_tensors(own, part["method"])
            segments.append(SegmentClusters(part["segment"], tuple(part["keys"]), seeds))
        return cls(tuple(document["sensors"]), tuple(segments))


def load_cluster_model(plant: Plant) -> tuple[str, ClusterModel]:
    """Return the cluster model in use, behind its id.

    Raises:
        NotFittedError: No cluster model has been fitted yet.
        ModelFileError: Its file is missing or damaged.
    """
    model_id = cluster_model_in_force(plant)
    if model_id is None:
        raise NotFittedError("There are no regimes yet: materialize cluster_model, or run `pwflow run`.")
    return model_id, ClusterModel.from_bytes(plant.models.get(model_id))


def cluster_model_in_force(plant: Plant) -> str | None:
    """Return the id of the cluster model in use; None if there is none yet."""
    with plant.warehouse.snapshot() as connection:
        return model_id_in_force(connection)


def model_id_in_force(connection: duckdb.DuckDBPyConnection) -> str | None:
    """Return the same in a transaction of the caller."""
    model_id: str | None = fetch_value(connection, "SELECT cluster_model_id FROM core.cluster_models WHERE in_force")
    return model_id


def active_cluster_keys(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the keys of the regimes in use, sorted."""
    rows = connection.execute(
        "SELECT cluster_key FROM mart.clusters WHERE status = 'active' ORDER BY cluster_key"
    ).fetchall()
    return [row[0] for row in rows]


def check_cluster_keys(known: tuple[str, ...], wanted: list[str] | None) -> list[str]:
    """Return the wanted cluster keys, or all of them where none are named.

    Raises:
        UnknownClusterError: A wanted key is not among the known ones.
    """
    for key in wanted or ():
        if key not in known:
            raise UnknownClusterError(_explain_unknown(key, known))
    return list(known) if wanted is None else list(dict.fromkeys(wanted))


def _explain_unknown(key: str, known: tuple[str, ...]) -> str:
    shown = key if len(key) <= 80 else f"{key[:80]}…"
    return (
        f"Expected the key of a regime in use ({', '.join(known) or 'there is none yet'}), got {shown!r}: "
        "materialize one of those partitions."
    )
