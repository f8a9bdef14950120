"""What the doctor says of the disk, whatever the warehouse is."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from pwflow_core.config import PlantConfig, parse_config
from pwflow_core.pipeline.looking.findings import examine_disk
from tests.conftest import DEFAULTS

pytestmark = pytest.mark.quick
GIGABYTE = 10**9


def config_of(folder: Path, **warehouse: str) -> PlantConfig:
    values = DEFAULTS | {"warehouse": {"published": "published.duckdb"} | warehouse}
    return parse_config(values, name="test", folder=folder)


def put(path: Path) -> None:
    """Make a file of one gigabyte that takes no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(GIGABYTE)


@pytest.mark.parametrize(
    ("warehouse", "files"),
    [
        ({"url": "duckdb:///warehouse.duckdb"}, ["warehouse.duckdb"]),
        ({"url": "ducklake:///lake"}, ["lake/catalog.ducklake", "lake/data/mart/a.parquet"]),
        ({"url": "ducklake:///lake", "data": "elsewhere"}, ["lake/catalog.ducklake", "elsewhere/mart/a.parquet"]),
        ({"url": "ducklake+postgres://pwflow@db/pwflow", "data": "elsewhere"}, ["elsewhere/mart/a.parquet"]),
        ({"url": "ducklake:///lake", "data": "s3://bucket/lake"}, ["lake/catalog.ducklake"]),
    ],
)
def test_a_run_may_need_all_that_lies_here_a_second_time_be_it_a_file_or_a_lake(
    warehouse, files, tmp_path, monkeypatch
):
    config = config_of(tmp_path, **warehouse)
    for name in files:
        put(tmp_path / name)
    usage = namedtuple("usage", "free")
    for free, is_well in ((len(files) + 1, True), (len(files) + 0.9, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage(int(free * GIGABYTE)))
        found = examine_disk(config)
        assert f"a run may need {len(files) + 1:.1f} GB" in found.sentence
        assert found.is_well == is_well
