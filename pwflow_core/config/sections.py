"""The sections of `pwflow.toml`, with their defaults; `source.py` and `notify.py` have the longest ones."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pwflow_core.config.base import Section, known_zone
from pwflow_core.config.compute import ComputeConfig
from pwflow_core.config.fleet import FleetConfig
from pwflow_core.config.notify import NotifyConfig
from pwflow_core.config.retention import RetentionConfig
from pwflow_core.config.source import RESERVED_COLUMNS, SensorConfig, SourceConfig
from pwflow_core.config.warehouse import WarehouseConfig
from pwflow_core.config.watch import WatchConfig

__all__ = [
    "ClusterFlowConfig",
    "ClusteringConfig",
    "ComputeConfig",
    "CostsConfig",
    "DriftConfig",
    "EventsConfig",
    "FeaturesConfig",
    "FlowConfig",
    "Language",
    "ModelsConfig",
    "PlantConfig",
    "PlantIdentity",
    "QualityConfig",
    "ReportConfig",
    "ScheduleConfig",
    "ScoringConfig",
    "TrainingConfig",
]

_LOCAL_NAME = ".pwflow/warehouse"
"""What files of this machine are named by, where the warehouse itself is on a server."""

Language = Literal["en", "ja"]
"""Languages that the report, and the page of `pwflow poc`, can be written in."""


class PlantIdentity(Section):
    """Who the plant is."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")] = "plant"
    """Prefix of the asset keys and of the partitions, so that several plants can share one Dagster."""


class TrainingConfig(Section):
    """Which readings the models learn from; without any of these, all that have arrived."""

    start: datetime | None = None
    """Learn only from readings at or after this time (with its offset, or UTC)."""
    until: datetime | None = None
    """Learn only from readings before this time (with its offset, or UTC)."""
    first_rows: Annotated[int, Field(ge=20)] | None = None
    """Learn only from the first readings of every machine and segment: a run-in known to be good."""


class QualityConfig(Section):
    """Which readings can be judged: gaps, missing sensors, stuck sensors."""

    fill_readings: Annotated[int, Field(ge=0, le=1_000)] = 0
    """Gaps of at most this many readings are filled with the value before."""
    fill_seconds: Annotated[float, Field(gt=0)] | None = None
    """The value before may be at most this old, in seconds."""
    max_missing_sensors: Annotated[int, Field(ge=0)] = 0
    """A reading that misses at most this many sensors is scored on the others. It is `partial`."""
    stuck: bool = True
    """Whether a sensor that does not change for implausibly long makes a reading `stuck`."""
    stuck_readings: Annotated[int, Field(ge=3, le=1_000)] = 10
    """Up to this many equal readings in a row are never stuck."""
    stuck_factor: Annotated[float, Field(ge=1)] = 3.0
    """Times the sensor's own healthy runs of equal values that a run has to exceed."""


class FeaturesConfig(Section):
    """What the models see of a sensor beside its value: its last readings."""

    windows: Literal["auto"] | tuple[Annotated[int, Field(ge=2, le=10_000)], ...] = "auto"
    """Lengths of rolling windows in readings, such as [20], or `auto`. That decides once, from the first readings.

    Windows much longer than the 32 readings of a block share readings between learning and calibration: their
    p-values come out too small, see docs/method.md.
    """
    statistics: tuple[Literal["mean", "std", "slope"], ...] = ("mean", "std")
    """What is computed in each window: `mean`, `std`, `slope`. A slope is per second."""
    lags: tuple[Annotated[int, Field(ge=1, le=10_000)], ...] = ()
    """Values this many readings ago: 1 is the reading before."""
    differences: tuple[Annotated[int, Field(ge=1, le=10_000)], ...] = ()
    """Changes since this many readings ago: 1 is the reading before."""
    sensors: tuple[str, ...] | None = None
    """Sensors that get these; all where it is not given."""
    gap_seconds: Annotated[float, Field(gt=0)] | None = None
    """Nothing reaches across a longer silence; five usual intervals where it is not given."""

    @model_validator(mode="after")
    def _computable(self) -> FeaturesConfig:
        for name in ("windows", "statistics", "lags", "differences"):
            given = getattr(self, name)
            if given != "auto" and len(set(given)) < len(given):
                raise ValueError(f"{name}: expected each value once, got {list(given)}")
        if self.windows and not self.statistics:
            raise ValueError("statistics: expected at least one of mean, std and slope for the windows, got none")
        if self.windows != "auto" and min(self.windows, default=3) < 3 and "slope" in self.statistics:
            raise ValueError("windows: expected at least 3 readings for a slope, got 2")
        return self


class ClusteringConfig(Section):
    """How operating regimes are found, inside every segment."""

    method: Literal["gmm", "kmeans"] = "gmm"
    """`gmm` finds regimes as a Gaussian mixture, `kmeans` as the paper does."""
    n_clusters: Literal["auto"] | Annotated[int, Field(ge=1, le=256)] = "auto"
    """Regimes per segment, or `auto`: chosen by `selection` among `candidates`."""
    candidates: tuple[Annotated[int, Field(ge=1, le=256)], ...] = (1, 2, 3, 4, 6, 8)
    """Numbers of regimes that `auto` chooses among."""
    selection: Literal["held_out", "bic", "silhouette"] = "held_out"
    """How `auto` chooses: `held_out`, `bic` or `silhouette`. `held_out` is what flows reach on readings that they did
    not learn from, `silhouette` is the paper's."""
    max_rows: Annotated[int, Field(ge=1_000)] = 20_000
    """Readings per segment that the clustering looks at; more are sampled."""
    random_state: int = 0
    """Seed."""


class ClusterFlowConfig(Section):
    """What one regime's flow has different from the others: only what is given counts."""

    kind: Literal["affine", "spline", "auto"] | None = None
    """Its own `kind`."""
    transforms: Annotated[int, Field(ge=1, le=32)] | None = None
    """Its own `transforms`."""
    hidden: Annotated[int, Field(ge=4, le=1024)] | None = None
    """Its own `hidden`."""
    max_steps: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Its own `max_steps`."""


class FlowConfig(Section):
    """How the flow of a regime is built and trained; `[flow.clusters.KEY]` is for one regime alone."""

    kind: Literal["affine", "spline", "auto"] = "affine"
    """`affine`, `spline`, or `auto` for what suits each regime. `spline` reaches shapes that `affine` cannot, at about
    four times the cost; `auto` trains both and keeps the spline where readings that it did not learn from gain."""
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
    """Seed."""


class ScoringConfig(Section):
    """When a reading is an anomaly."""

    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.001
    """False-alarm rate per normal reading: 0.001 is one in a thousand. The largest p-value of an anomaly."""
    alarms_per_week: Annotated[float, Field(gt=0)] | None = None
    """Instead of `alpha`: false events per week in the whole plant. It is converted once for a cluster model, by the
    rule of `[events]`. Cases are fewer still: each has at least one event."""
    false_cases: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of false cases among those that people are told of: 0.2 is at most one in five, on average. A case that
    cannot be told from chance yet is kept, shown as not told, and sent to nobody. Without it, every case is told."""
    min_calibration_rows: Annotated[int, Field(ge=10)] = 50
    """A regime with fewer held-out readings is `thin`: its readings are not judged."""

    @model_validator(mode="after")
    def _one_rate(self) -> ScoringConfig:
        if self.alarms_per_week is not None and "alpha" in self.model_fields_set:
            raise ValueError("expected alpha or alarms_per_week, got both; remove one")
        return self


class EventsConfig(Section):
    """When anomalies of a machine are one event."""

    max_gap_minutes: Annotated[float, Field(gt=0)] | None = None
    """Anomalies at most this far apart are one event, whatever is between them. Without it: ten times the usual
    interval between readings of the machine."""
    min_readings: Annotated[int, Field(ge=1)] = 2
    """Fewest anomalies of an event, unless one of them is a hundred times rarer than `alpha` asks for."""


class CasesConfig(Section):
    """When events are one case, and when it is over."""

    quiet_minutes: Annotated[float, Field(gt=0, le=525_600)] | None = None
    """A case closes by itself once its machines ran normally for so long; what comes back within four times that is the
    same case. Without it: 72 times the gap between two events, at most three days."""
    flood: Annotated[int, Field(ge=1)] = 20
    """More new cases than this in one run are a flood: a check warns, and they are summed up."""


class DriftConfig(Section):
    """When a regime counts as changed, and what happens then."""

    policy: Literal["retrain", "propose", "observe"] = "retrain"
    """`retrain` what moved, `propose` it to a person, or only `observe`. A regime that moved is retrained on its own;
    its new flow is used if it proves better."""
    false_refits_per_5_years: Annotated[float, Field(gt=0, le=1_000)] = 1.0
    """How often in five years a regime that did not move may be taken to have moved."""
    min_effect: Annotated[float, Field(ge=0, le=10)] = 0.25
    """Smallest shift that is acted on, in standard deviations of a reading within its regime."""
    min_gain: Annotated[float, Field(ge=0)] = 0.02
    """How much better a new flow has to be, in nats per recent held-out reading."""


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


class ScheduleConfig(Section):
    """When the nightly job runs, and what runs between two nights."""

    cron: str = "0 2 * * *"
    """When, as a cron expression of five fields."""
    timezone: str = "UTC"
    """Time zone of the schedule, and of the nights in the tables."""
    every_minutes: Literal[5, 10, 15, 20, 30, 60] | None = None
    """Minutes between two short cycles, which score what has arrived since; without it, that is done at night alone."""
    keep_runs_days: Annotated[int, Field(ge=1)] | None = None
    """Once a week, Dagster forgets runs that are older than this many days; without it, it keeps them all."""

    _zone = field_validator("timezone")(known_zone)

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, cron: str) -> str:
        fields = cron.split()
        if len(fields) != 5 or not all(map(_is_cron_field, fields, _CRON_RANGES, _CRON_NAMES)):
            raise ValueError(f"expected a cron expression of five valid fields such as '0 2 * * *', got {cron!r}")
        return cron


class ReportConfig(Section):
    """The report that every run writes beside the published tables."""

    languages: tuple[Language, ...] = ("en",)
    """One file for each: `en`, `ja`. With none, no run writes a report."""
    days: Annotated[int, Field(ge=1, le=3_650)] = 60
    """Days of readings to show, from the last one backwards."""


class ModelsConfig(Section):
    """Where trained models are kept."""

    url: str = ".pwflow/models"
    """A folder, or a URL such as `s3://bucket/models` that fsspec opens."""
    keep_days: Annotated[int, Field(ge=0)] = 365
    """Days that the files of earlier flows are kept. Those that a score refers to stay."""


class CostsConfig(Section):
    """What things cost, for `pwflow poc`: without this section it speaks of no money."""

    per_false_alarm: Annotated[float, Field(ge=0)] = 0.0
    """What a false alarm costs: somebody goes and looks."""
    per_missed_event: Annotated[float, Field(ge=0)] = 0.0
    """What an event costs that nobody was told of."""
    per_cpu_hour: Annotated[float, Field(ge=0)] = 0.0
    """What an hour of one core costs."""
    currency: Annotated[str, Field(min_length=1, max_length=12)] = "EUR"
    """Name of the currency; nothing is converted."""
    events_per_year: Annotated[float, Field(ge=0)] | None = None
    """Events that there are to find in a year; counted in the labels where it is not given, else taken to be 12."""


class PlantConfig(Section):
    """Everything that `pwflow.toml` says about one plant."""

    plant: PlantIdentity = PlantIdentity()
    source: SourceConfig
    sensors: dict[str, SensorConfig] = Field(default_factory=dict)
    """By sensor name. Without any: every numeric column of the first file."""
    quality: QualityConfig = QualityConfig()
    features: FeaturesConfig = FeaturesConfig()
    training: TrainingConfig = TrainingConfig()
    clustering: ClusteringConfig = ClusteringConfig()
    flow: FlowConfig = FlowConfig()
    fleet: FleetConfig = FleetConfig()
    scoring: ScoringConfig = ScoringConfig()
    events: EventsConfig = EventsConfig()
    cases: CasesConfig = CasesConfig()
    drift: DriftConfig = DriftConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    report: ReportConfig = ReportConfig()
    notify: NotifyConfig = NotifyConfig()
    watch: WatchConfig = WatchConfig()
    retention: RetentionConfig = RetentionConfig()
    warehouse: WarehouseConfig = WarehouseConfig()
    models: ModelsConfig = ModelsConfig()
    compute: ComputeConfig = ComputeConfig()
    costs: CostsConfig | None = None
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
    def _features_of_known_sensors(self) -> PlantConfig:
        for name in self.features.sensors or ():
            if self.sensors and name not in self.sensors:
                raise ValueError(f"features.sensors: expected names of [sensors], got {name!r}")
            if self.sensors and self.sensors[name].state:
                raise ValueError(f"features.sensors: expected sensors that measure, got {name!r}, which is a state")
        return self

    @model_validator(mode="after")
    def _some_measure(self) -> PlantConfig:
        if self.sensors and all(sensor.state for sensor in self.sensors.values()):
            raise ValueError("sensors: expected at least one that measures, but all have state = true")
        return self

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
        """File or folder of the warehouse; of one on a server, the path that what lies beside it here is named by."""
        return self.resolve_path(self.warehouse.path or _LOCAL_NAME)

    @property
    def lake_data(self) -> str:
        """Folder or URL of the Parquet files of a lake."""
        data = self.warehouse.data
        if data is None:
            return f"{self.warehouse_path / 'data'}/"
        return data if "://" in data else f"{self.resolve_path(data)}/"

    @property
    def warehouse_folder(self) -> Path:
        """Folder of this machine beside the warehouse, for what Dagster keeps."""
        return self.warehouse_path.parent

    @property
    def scratch_folder(self) -> Path:
        """Folder of this machine for files on their way, and for what DuckDB spills."""
        return self.resolve_path(self.compute.scratch) if self.compute.scratch else self.warehouse_folder

    @property
    def outbox_path(self) -> Path:
        """File of the outbox, beside the warehouse: what people are told, and how far that has come."""
        return self.warehouse_path.with_name(f"{self.warehouse_path.stem}.outbox.sqlite")

    @property
    def watch_folder(self) -> Path:
        """Folder of `pwflow watch`, beside the warehouse."""
        return self.warehouse_path.with_name(f"{self.warehouse_path.stem}.watch")

    @property
    def live_path(self) -> Path:
        """File with the live scores that analysts open, beside the published one."""
        path = self.published_path
        return path.with_name(f"{path.stem}-live{path.suffix}")

    @property
    def published_path(self) -> Path:
        """File that analysts open."""
        return self.resolve_path(self.warehouse.published)

    @property
    def published_folder(self) -> Path:
        """Folder with the same tables as Parquet: the name of the file without its ending."""
        path = self.published_path
        return path.with_suffix("") if path.suffix else path.with_name(f"{path.name}.parquet")

    @property
    def models_url(self) -> str:
        """URL of the model store; a plain path is taken relative to the configuration file."""
        url = self.models.url
        return url if re.match(r"^[a-z0-9+]+://", url) else str(self.resolve_path(url))
