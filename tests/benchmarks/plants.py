"""Plants for the benchmarks: readings into files, a configuration over them, and the steps up to scores."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from pwflow_core.config import PlantConfig, parse_config
from pwflow_core.pipeline.flows.training import train_cluster_flows
from pwflow_core.pipeline.readings.deriving import derive_readings
from pwflow_core.pipeline.regimes.assigning import assign_readings
from pwflow_core.pipeline.regimes.finding import fit_cluster_model
from pwflow_core.pipeline.scoring.densities import score_slices
from pwflow_core.pipeline.scoring.scores import ScoresSummary, derive_scores
from pwflow_core.pipeline.source.ingest import ingest_files
from pwflow_core.plant import Plant

TINY: dict[str, Any] = {"clustering": {"n_clusters": 2, "max_rows": 2000}, "flow": {"max_steps": 20, "max_rows": 1000}}
"""Sections with which a plant learns in a second or two, for `--smoke`."""
BUNDLED = Path(__file__).parents[2] / "pwflow_core" / "demo.toml"


def open_plant(folder: Path, sensors: Iterable[str], source: dict[str, object], **sections: Any) -> Plant:
    """Open a plant in a folder, by the names of its sensors, its source and further sections of a configuration."""
    source = {"timestamp": "ts", "machine": "machine"} | source
    values = {"source": source, "sensors": {name: {} for name in sensors}, **sections}
    return Plant.open(parse_config(values, name="benchmark", folder=folder))


def plant_of(folder: Path, readings: pd.DataFrame, sensors: Iterable[str], **sections: Any) -> Plant:
    """Write readings with the columns ts (UTC), machine and maybe segment to a file; open a plant over it."""
    (folder / "data").mkdir()
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("readings", readings)
        connection.execute(
            "COPY (SELECT * REPLACE (ts::TIMESTAMPTZ AS ts) FROM readings) "
            f"TO '{folder}/data/readings.parquet' (FORMAT parquet)"
        )
    source: dict[str, object] = {"path": "data/*.parquet"}
    return open_plant(
        folder, sensors, source | ({"segments": ["segment"]} if "segment" in readings else {}), **sections
    )


def bundled_config(folder: Path, **sections: Any) -> PlantConfig:
    """Return the configuration of the simulated plant over files in `exports/`, with sections put in its place."""
    values = tomllib.loads(BUNDLED.read_text(encoding="utf-8"))
    values["source"] = {k: v for k, v in values["source"].items() if k != "simulated_days"} | {
        "path": "exports/*.parquet",
        "timezone": "UTC",
    }
    return parse_config(values | sections, name=BUNDLED.name, folder=folder)


def read_all(plant: Plant) -> None:
    """Take in the files and make readings."""
    ingest_files(plant)
    derive_readings(plant)


def learn_and_score(plant: Plant) -> ScoresSummary:
    """Find the regimes, train a flow for each, and score."""
    fit_cluster_model(plant)
    assign_readings(plant)
    train_cluster_flows(plant, reason="benchmark", promoted_by="benchmark")
    for _ in score_slices(plant):
        pass
    return derive_scores(plant)
