"""The configuration of one plant: what `pwflow.toml` may say, and the defaults of what it does not.

Reading and validating the file lives here. What the words mean in the data lives in `pipeline`; guessing a
configuration from a folder of exports lives in `onboarding`.
"""

from pwflow_core.config.compute import ComputeConfig
from pwflow_core.config.fleet import FleetConfig
from pwflow_core.config.loading import CONFIG_VARIABLE, DEFAULT_FILE, load_config, locate_config, parse_config
from pwflow_core.config.notify import SEVERITIES, NotifyConfig, Severity, TargetConfig
from pwflow_core.config.retention import RetentionConfig
from pwflow_core.config.sections import (
    ClusterFlowConfig,
    ClusteringConfig,
    CostsConfig,
    DriftConfig,
    EventsConfig,
    FeaturesConfig,
    FlowConfig,
    Language,
    ModelsConfig,
    PlantConfig,
    PlantIdentity,
    QualityConfig,
    ReportConfig,
    ScheduleConfig,
    ScoringConfig,
    TrainingConfig,
)
from pwflow_core.config.source import DATE_IN_PATH, RESERVED_COLUMNS, SensorConfig, SourceConfig, path_expression
from pwflow_core.config.warehouse import WarehouseConfig
from pwflow_core.config.watch import WatchConfig

__all__ = [
    "CONFIG_VARIABLE",
    "DATE_IN_PATH",
    "DEFAULT_FILE",
    "RESERVED_COLUMNS",
    "SEVERITIES",
    "ClusterFlowConfig",
    "ClusteringConfig",
    "ComputeConfig",
    "CostsConfig",
    "DriftConfig",
    "EventsConfig",
    "FeaturesConfig",
    "FleetConfig",
    "FlowConfig",
    "Language",
    "ModelsConfig",
    "NotifyConfig",
    "PlantConfig",
    "PlantIdentity",
    "QualityConfig",
    "ReportConfig",
    "RetentionConfig",
    "ScheduleConfig",
    "ScoringConfig",
    "SensorConfig",
    "Severity",
    "SourceConfig",
    "TargetConfig",
    "TrainingConfig",
    "WarehouseConfig",
    "WatchConfig",
    "load_config",
    "locate_config",
    "parse_config",
    "path_expression",
]
