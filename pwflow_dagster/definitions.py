"""The code location: everything that Dagster loads for one plant.

Nothing heavy is imported here: torch, scikit-learn and the warehouse load inside asset bodies only.
"""

from __future__ import annotations

import warnings

import dagster as dg

from pwflow_core.config import ComputeConfig, PlantConfig
from pwflow_core.demo import configuration_in_force
from pwflow_dagster.assets import build_assets
from pwflow_dagster.checks import build_checks
from pwflow_dagster.cycles import build_cycles_schedule
from pwflow_dagster.jobs import build_jobs
from pwflow_dagster.partitions import cluster_partitions
from pwflow_dagster.resources import PlantResource
from pwflow_dagster.schedules import build_nightly_schedule, build_pruning_schedule
from pwflow_dagster.sensors import build_sensors

__all__ = ["build", "defs"]

_PRELOADED = (
    "pwflow_dagster.definitions",
    "duckdb",
    "pandas",
    "torch",
    "pwflow_core.modelling",
    "pwflow_core.warehouse",
)


def build(config: PlantConfig | None = None) -> dg.Definitions:
    """Return the definitions of a plant.

    Arguments:
        config: Its configuration; that of PWFLOW_CONFIG, or of the bundled simulated plant, where it is None.

    Raises:
        ConfigurationError: The configuration in use cannot be used.
    """
    config = config or configuration_in_force(or_demo=True)

    def resolve(job: str) -> dg.JobDefinition:
        return definitions.resolve_job_def(job)

    name = config.plant.name
    partitions = cluster_partitions(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # backfill policies and references to code, known and wanted
        assets = build_assets(config, partitions, _backfills(config.compute))
    definitions = dg.Definitions(
        assets=assets,
        asset_checks=build_checks(name),
        jobs=build_jobs(config, resolve),
        schedules=[
            build_nightly_schedule(config.schedule, partitions),
            *build_cycles_schedule(config, partitions),
            build_pruning_schedule(config.schedule),
        ],
        sensors=build_sensors(config),
        resources={"plant": PlantResource(config)},
        executor=_executor(config.compute),
    )
    return definitions


def _executor(compute: ComputeConfig) -> dg.ExecutorDefinition:
    """Return what executes the steps of a run that Dagster launches; a command executes all in its own process."""
    if compute.executor == "in_process":
        return dg.in_process_executor
    # each step is forked from a process that has imported what all need, which takes seconds
    return dg.multiprocess_executor.configured({"start_method": {"forkserver": {"preload_modules": list(_PRELOADED)}}})


def _backfills(compute: ComputeConfig) -> dg.BackfillPolicy:
    if compute.regimes_per_run is None:
        return dg.BackfillPolicy.single_run()
    return dg.BackfillPolicy.multi_run(compute.regimes_per_run)


defs = build()
