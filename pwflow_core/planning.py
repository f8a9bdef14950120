"""Planning: what a plant of some size will cost, from what nights were measured to cost.

The figures are those of `docs/scale.md`, beside the command that measures them again: eight sensors, the warehouse in
one DuckDB file, one core. What depends on readings is taken in proportion to the sensors, which was not measured.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PlantPlan", "PlantSize", "plan_plant"]

_SENSORS = 8
_NIGHT_SECONDS = 13.0  # CPU, whatever comes: 5 for the steps, 8 for the report
_NEW_SECONDS, _KEPT_SECONDS = 20e-6, 3.1e-6  # CPU, for each reading that comes and for each that is kept
_BASE_BYTES, _NEW_BYTES, _KEPT_BYTES, _MOST_BYTES = 400 * 2**20, 1000, 170, 2**30  # memory, and compute.memory_limit
_WAREHOUSE_BYTES, _PUBLISHED_BYTES = 135, 61  # disk, for each reading that is kept

_LONGEST_NIGHT = 8 * 3600.0
_LARGEST_COPY = 50e9


@dataclass(frozen=True)
class PlantSize:
    """How large a plant is.

    Attributes:
        machines: Machines.
        hz: Readings a second of each.
        days: Days of history.
        sensors: Sensors of a reading.
        keep_days: Days that `[retention] readings_days` keeps; None if all are kept.

    Raises:
        ValueError: A number that is not above zero.
    """

    machines: int
    hz: float
    days: int
    sensors: int = _SENSORS
    keep_days: int | None = None

    def __post_init__(self) -> None:
        for name in ("machines", "hz", "days", "sensors", "keep_days"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"Expected {name} above zero, got {value!r}.")


@dataclass(frozen=True)
class PlantPlan:
    """What a plant costs on its last day.

    Attributes:
        readings_a_day: Readings that come in a day.
        readings_kept: Readings in the warehouse.
        cpu_seconds: CPU seconds of a night.
        cpu_seconds_kept: Those of them that what is kept costs, and not what comes.
        memory_bytes: Peak memory of a night.
        warehouse_bytes: Size of the warehouse.
        published_bytes: Size of the published file.
        walls: What does not fit, as sentences with what to do; empty if nothing does.
    """

    readings_a_day: float
    readings_kept: float
    cpu_seconds: float
    cpu_seconds_kept: float
    memory_bytes: float
    warehouse_bytes: float
    published_bytes: float
    walls: tuple[str, ...]


def plan_plant(size: PlantSize) -> PlantPlan:
    """Return what a plant costs on its last day."""
    by_sensors = size.sensors / _SENSORS
    a_day = size.machines * size.hz * 86_400
    kept = a_day * min(size.days, size.keep_days or size.days)
    of_kept = _KEPT_SECONDS * kept * by_sensors
    cpu = _NIGHT_SECONDS + _NEW_SECONDS * a_day * by_sensors + of_kept
    memory = _BASE_BYTES + min((_NEW_BYTES * a_day + _KEPT_BYTES * kept) * by_sensors, _MOST_BYTES)
    published = _PUBLISHED_BYTES * kept * by_sensors
    walls = []
    if cpu > _LONGEST_NIGHT:
        keep = "keep fewer days ([retention] readings_days), or " if of_kept > cpu / 2 else ""
        walls.append(
            f"A night takes {cpu / 3600:,.1f} CPU hours, and the steps run on one core: {keep}make plants of groups of "
            "machines, with a pwflow.toml each."
        )
    if published > _LARGEST_COPY:
        walls.append(
            f"The published file of {published / 1e9:,.0f} GB is copied in every night: put it on a file system that "
            "shares blocks between files (XFS, Btrfs), or keep fewer days."
        )
    return PlantPlan(a_day, kept, cpu, of_kept, memory, _WAREHOUSE_BYTES * kept * by_sensors, published, tuple(walls))
