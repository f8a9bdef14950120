"""The configuration of one plant: what `pwflow.toml` may say, and the defaults of what it does not.

Reading and validating the file lives here. What the words mean in the data lives in `pipeline`; guessing a
configuration from a folder of exports lives in `onboarding`.
"""

from __future__ import annotations

import os
import re
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pwflow_core.errors import ConfigurationError

__all__ = [
    "CONFIG_VARIABLE",
    "RESERVED_COLUMNS",
    "ClusterFlowConfig",
    "ClusteringConfig",
    "ComputeConfig",
    "EventsConfig",
    "FlowConfig",
    "ModelsConfig",
    "PlantConfig",
    "PlantIdentity",
    "ScheduleConfig",
    "ScoringConfig",
    "SensorConfig",
    "SourceConfig",
    "TrainingConfig",
    "WarehouseConfig",
    "load_config",
    "locate_config",
]

CONFIG_VARIABLE = "PWFLOW_CONFIG"
DEFAULT_FILE = "pwflow.toml"

RESERVED_COLUMNS = frozenset(
    {
        "reading_id",
        "machine_id",
        "ts",
        "segment",
        "quality",
        "reason",
        "fold",
        "batch_id",
        "file_id",
        "row_number",
        "refused_values",
        "cluster_key",
        "responsibility",
        "instant",
        "ts_text",
        "entry",
        "refusal",
        "refusals",
    }
)
"""Column names that stand beside the sensors in tables and queries, so that a sensor must not take them."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _known_zone(zone: str) -> str:
    if zone not in available_timezones():
        raise ValueError(f"expected an IANA time zone such as 'UTC' or 'Europe/Berlin', got {zone!r}")
    return zone


class PlantIdentity(_Section):
    """Who the plant is."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")] = "plant"
    """Prefix of the asset keys and of the partitions, so that several plants can share one Dagster."""


class SourceConfig(_Section):
    """Where readings come from and which columns say when, which machine and which process condition."""

    path: str | tuple[str, ...] | None = None
    """Path or glob, or several, of CSV (also .gz) or Parquet files, relative to the configuration file."""
    sql: str | None = None
    """Instead of `path`: a DuckDB query that returns all readings; it is read anew in every run."""
    simulated_days: Annotated[int, Field(ge=1, le=3650)] | None = None
    """Instead of `path`: this many days of the bundled simulated plant."""
    timestamp: str | None = None
    """Timestamp column; found by looking at the first file where it is not given."""
    timestamp_format: str | None = None
    """strptime format, or `unix_s` or `unix_ms`; ISO 8601 where it is not given."""
    timezone: Annotated[str, Field()] | None = None
    """Time zone of timestamps that carry none. Without it such rows are refused."""
    machine: str | None = None
    """Machine column; `filename` if every machine has files of its own; without it there is one machine."""
    segments: tuple[str, ...] = ()
    """Columns of known process conditions (recipe, product). `filename` names the file."""
    delimiter: str | None = None
    """CSV delimiter; sniffed where it is not given."""
    decimal: Literal[".", ","] = "."
    """Decimal separator of numbers in CSV files."""

    _zone = field_validator("timezone")(lambda zone: None if zone is None else _known_zone(zone))

    @model_validator(mode="after")
    def _one_source(self) -> SourceConfig:
        given = [key for key in ("path", "sql", "simulated_days") if getattr(self, key) is not None]
        if len(given) != 1:
            got = "none of them" if not given else " and ".join(given)
            raise ValueError(f"expected exactly one of path, sql and simulated_days, got {got}")
        return self

    @property
    def patterns(self) -> tuple[str, ...]:
        """The configured paths and globs, as a tuple."""
        if self.path is None:
            return ()
        return (self.path,) if isinstance(self.path, str) else self.path


class SensorConfig(_Section):
    """One sensor: its column in the source, its unit, and what it can physically read."""

    column: str | None = None
    """Column in the source, if it is not called like the sensor."""
    unit: str = ""
    low: float | None = None
    """Lowest reading that is physically possible, in `unit`; lower ones are refused."""
    high: float | None = None
    """Highest reading that is physically possible, in `unit`; higher ones are refused."""

    @model_validator(mode="after")
    def _ordered(self) -> SensorConfig:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"expected low below high, got low = {self.low:g} and high = {self.high:g}")
        return self


class TrainingConfig(_Section):
    """Which readings the models learn from. Without any of these: all that have arrived."""

    start: datetime | None = None
    """Learn only from readings at or after this time (with its offset, or UTC)."""
    until: datetime | None = None
    """Learn only from readings before this time (with its offset, or UTC)."""
    first_rows: Annotated[int, Field(ge=20)] | None = None
    """Learn only from the first readings of every machine and segment: a run-in known to be good."""


class ClusteringConfig(_Section):
    """How operating regimes are found, inside every segment."""

    method: Literal["gmm", "kmeans"] = "gmm"
    n_clusters: Literal["auto"] | Annotated[int, Field(ge=1, le=256)] = "auto"
    """Regimes per segment, or `auto`: chosen by `selection` among `candidates`."""
    candidates: tuple[Annotated[int, Field(ge=1, le=256)], ...] = (1, 2, 3, 4, 6, 8)
    selection: Literal["held_out", "bic", "silhouette"] = "held_out"
    max_rows: Annotated[int, Field(ge=1_000)] = 20_000
    """Readings per segment that the clustering looks at; more are sampled."""
    random_state: int = 0


class ClusterFlowConfig(_Section):
    """What one regime's flow has different from the others: only what is given counts."""

    kind: Literal["affine", "spline", "auto"] | None = None
    transforms: Annotated[int, Field(ge=1, le=32)] | None = None
    hidden: Annotated[int, Field(ge=4, le=1024)] | None = None
    max_steps: Annotated[int, Field(ge=1, le=100_000)] | None = None


class FlowConfig(_Section):
    """How the flow of a regime is built and trained."""

    kind: Literal["affine", "spline", "auto"] = "affine"
    """`spline` reaches shapes that `affine` cannot, at about four times the cost; `auto` trains both in every regime
    and keeps the spline where readings that it did not learn from gain."""
    transforms: Annotated[int, Field(ge=1, le=32)] = 3
    """Autoregressive transforms, one after the other."""
    hidden: Annotated[int, Field(ge=4, le=1024)] = 32
    """Hidden units of each transform."""
    max_steps: Annotated[int, Field(ge=1, le=100_000)] = 4000
    """Most gradient steps; training mostly stops before."""
    clusters: dict[str, ClusterFlowConfig] = Field(default_factory=dict)
    """By cluster key: `[flow.clusters.c0003]` with a `kind`, `transforms`, `hidden` or `max_steps` of its own."""
    max_rows: Annotated[int, Field(ge=1_000)] = 50_000
    """Readings per regime that its flow learns from; more are sampled."""
    min_rows: Annotated[int, Field(ge=10)] = 200
    """With fewer readings a regime keeps its Gaussian."""
    random_state: int = 0


class ScoringConfig(_Section):
    """When a reading is an anomaly."""

    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.001
    """A reading is an anomaly if its p-value is at most this: the false-alarm rate per normal reading."""
    alarms_per_week: Annotated[float, Field(gt=0)] | None = None
    """Instead of `alpha`: false alarms per week that the plant may raise; converted once for a cluster model."""
    min_calibration_rows: Annotated[int, Field(ge=10)] = 50
    """A regime with fewer held-out readings is `thin`: its readings are not judged."""

    @model_validator(mode="after")
    def _one_rate(self) -> ScoringConfig:
        if self.alarms_per_week is not None and "alpha" in self.model_fields_set:
            raise ValueError("expected alpha or alarms_per_week, got both; remove one")
        return self


class EventsConfig(_Section):
    """When anomalies of a machine are one event."""

    max_gap_minutes: Annotated[float, Field(gt=0)] | None = None
    """Anomalies at most this far apart belong together, whatever is between them. Without it: ten times the usual
    interval between readings of the machine."""
    min_readings: Annotated[int, Field(ge=1)] = 2
    """An event has at least so many anomalies, or one with a p-value of at most a hundredth of alpha."""


_CRON_RANGES = (range(60), range(24), range(1, 32), range(1, 13), range(8))
_CRON_NAMES = ("", "", "", "jan feb mar apr may jun jul aug sep oct nov dec", "sun mon tue wed thu fri sat")


def _is_cron_field(field: str, allowed: range, names: str) -> bool:
    """Whether each item of a cron field is `*`, a value or a rising range of the allowed ones, maybe with a step."""
    numbers = {name: number for number, name in enumerate(names.split(), start=allowed.start)}
    for item in field.lower().split(","):
        match = re.fullmatch(r"(?:\*|(\w+)(?:-(\w+))?)(?:/([1-9]\d*))?", item)
        if match is None:
            return False
        ends = [numbers.get(end, int(end) if end.isdecimal() else -1) for end in match.groups()[:2] if end]
        if ends != sorted(ends) or any(end not in allowed for end in ends):
            return False
    return True


class ScheduleConfig(_Section):
    """When the nightly job runs."""

    cron: str = "0 2 * * *"
    timezone: str = "UTC"

    _zone = field_validator("timezone")(_known_zone)

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, cron: str) -> str:
        fields = cron.split()
        if len(fields) != 5 or not all(map(_is_cron_field, fields, _CRON_RANGES, _CRON_NAMES)):
            raise ValueError(f"expected a cron expression of five valid fields such as '0 2 * * *', got {cron!r}")
        return cron


class WarehouseConfig(_Section):
    """Where readings and scores are kept."""

    url: Annotated[str, Field(pattern=r"^duckdb:///.+")] = "duckdb:///.pwflow/warehouse.duckdb"
    """`duckdb:///relative/path` (to the configuration file) or `duckdb:////absolute/path`."""
    published: str = ".pwflow/published.duckdb"
    """The read-only copy for analysts, replaced as a whole by every run."""
    wait_seconds: Annotated[float, Field(ge=0)] = 120.0
    """How long to wait for another process that holds the warehouse."""


class ModelsConfig(_Section):
    """Where trained models are kept."""

    url: str = ".pwflow/models"
    """A folder, or any URL that fsspec opens."""


class ComputeConfig(_Section):
    """What the computation may use."""

    threads: Annotated[int, Field(ge=1)] = 1
    """Threads for training and scoring."""
    memory_limit: Annotated[str, Field(pattern=r"^\d+(\.\d+)?\s*(KB|MB|GB|KiB|MiB|GiB)$")] = "1GiB"
    """Memory for DuckDB; what does not fit is spilled to disk."""
    chunk_rows: Annotated[int, Field(ge=1_000)] = 100_000
    """Readings scored at a time."""


class PlantConfig(_Section):
    """Everything that `pwflow.toml` says about one plant."""

    plant: PlantIdentity = PlantIdentity()
    source: SourceConfig
    sensors: dict[str, SensorConfig] = Field(default_factory=dict)
    """By sensor name. Without any: every numeric column of the first file."""
    training: TrainingConfig = TrainingConfig()
    clustering: ClusteringConfig = ClusteringConfig()
    flow: FlowConfig = FlowConfig()
    scoring: ScoringConfig = ScoringConfig()
    events: EventsConfig = EventsConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    warehouse: WarehouseConfig = WarehouseConfig()
    models: ModelsConfig = ModelsConfig()
    compute: ComputeConfig = ComputeConfig()
    folder: Annotated[Path, Field(exclude=True)] = Path()
    """Folder that relative paths start from; set by `load_config`, not by the file."""

    @field_validator("sensors")
    @classmethod
    def _sensor_names(cls, sensors: dict[str, SensorConfig]) -> dict[str, SensorConfig]:
        seen: dict[str, str] = {}
        for name in sensors:
            key = name.casefold()
            if not name.strip():
                raise ValueError("expected a sensor name, got an empty one")
            if key in RESERVED_COLUMNS:
                raise ValueError(
                    f"{name!r} is a name that pwflow needs itself; choose another and "
                    f'point it at the column: [sensors.my_{key}] with column = "{name}"'
                )
            if key in seen:
                raise ValueError(f"{name!r} and {seen[key]!r} differ only in case; give one another name")
            seen[key] = name
        return sensors

    @model_validator(mode="after")
    def _published_beside_the_warehouse(self) -> PlantConfig:
        if self.published_path == self.warehouse_path:
            raise ValueError("warehouse.published: expected another file than warehouse.url, got the same one")
        return self

    def resolve_path(self, path: str) -> Path:
        """Return `path` as an absolute path, taken relative to the configuration file."""
        return (self.folder / Path(path).expanduser()).absolute()

    @property
    def warehouse_path(self) -> Path:
        """File of the warehouse."""
        return self.resolve_path(self.warehouse.url.removeprefix("duckdb:///"))

    @property
    def published_path(self) -> Path:
        """File that analysts open."""
        return self.resolve_path(self.warehouse.published)

    @property
    def models_url(self) -> str:
        """URL of the model store; a plain path is taken relative to the configuration file."""
        url = self.models.url
        return url if re.match(r"^[a-z0-9+]+://", url) else str(self.resolve_path(url))


def locate_config(given: Path | None = None) -> Path | None:
    """Return the configuration file in force, or None for the bundled simulated plant.

    In this order: `given`, the file that PWFLOW_CONFIG names, `pwflow.toml` in the current folder.
    """
    if given is not None:
        return given
    if named := os.environ.get(CONFIG_VARIABLE):
        return Path(named)
    return Path(DEFAULT_FILE) if Path(DEFAULT_FILE).is_file() else None


def load_config(path: Path) -> PlantConfig:
    """Read and validate a `pwflow.toml`.

    Arguments:
        path: The file.

    Raises:
        ConfigurationError: The file is missing or is not TOML, a key is unknown or missing, or a value has
            the wrong type; the message names the key.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no configuration file {path}: run `pwflow init FILE_OR_FOLDER` to write one from your "
            "data, or unset PWFLOW_CONFIG to run the bundled simulated plant."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"The configuration file {path} cannot be read ({error}); expected a UTF-8 text file."
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}. Mend that line and run again.") from None
    if "folder" in values:
        raise ConfigurationError(f"{path}: unknown key 'folder'; remove it.")
    return parse_config(values, name=str(path), folder=path.absolute().parent)


def parse_config(values: dict[str, Any], *, name: str, folder: Path) -> PlantConfig:
    """Validate the values of a configuration; see `load_config`."""
    try:
        return PlantConfig.model_validate({**values, "folder": folder})
    except ValidationError as error:
        raise ConfigurationError(_explain(error, name, values)) from None


def _explain(error: ValidationError, name: str, values: dict[str, Any]) -> str:
    sentences = []
    for problem in error.errors():
        parts = _written_parts(problem["loc"], values)
        key = ".".join(parts) or "the file"
        if problem["type"] == "extra_forbidden":
            known = _known_keys(parts[:-1])
            sentences.append(f"unknown key '{key}'" + (f" (known here: {', '.join(known)})" if known else ""))
        elif problem["type"] == "missing":
            sentences.append(f"'{key}' is missing")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            got = "" if problem["type"] == "value_error" else f", got {problem['input']!r}"
            where = f"'{key}': " if parts else ""
            sentences.append(f"{where}{message[0].lower()}{message[1:]}{got}")
    return f"{name}: {'; '.join(dict.fromkeys(sentences))}. Mend the file and run again."


def _written_parts(location: tuple[int | str, ...], values: object) -> list[str]:
    """Return the keys of a location as the file writes them, without the names that pydantic gives to alternatives."""
    parts = []
    for part in location:
        if isinstance(values, dict):
            parts.append(str(part))
            values = values.get(part)
        elif isinstance(values, list | tuple) and isinstance(part, int):
            parts.append(str(part))
            values = values[part]
    return parts


def _known_keys(section: list[str]) -> list[str]:
    """Return the keys that may stand in a section, e.g. ["flow"] or ["sensors", "pressure"]."""
    found: Any = PlantConfig
    for part in section:
        fields = getattr(found, "model_fields", None)
        found = fields[part].annotation if fields and part in fields else next(iter(get_args(found)[1:]), None)
    return [key for key in getattr(found, "model_fields", ()) if key != "folder"]
