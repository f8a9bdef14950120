"""The report in Dagster and on the command line, and the pictures that the UI shows of regimes and flows."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime

import dagster as dg
from click.testing import CliRunner

from pwflow_core.config import ReportConfig
from pwflow_core.reporting import report_path
from pwflow_dagster.cli import main
from pwflow_dagster.definitions import build

PNG = b"\x89PNG\r\n\x1a\n"


def metadata_of(made, asset: str, partition: str | None = None) -> dict:
    with made.instance() as instance:
        records = instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey(["small", asset]), asset_partitions=[partition] if partition else None),
            limit=1,
        ).records
    return records[0].asset_materialization.metadata


def test_every_run_ends_with_a_report_that_its_metadata_points_to(finished):
    metadata = metadata_of(finished, "plant_report")
    path = report_path(finished.config, "en")
    assert metadata["file (en)"].value == str(path)
    assert metadata["address, to copy into a browser (en)"].value == path.as_uri()
    assert metadata["size (MB)"].value == round(path.stat().st_size / 1e6, 1)
    [(n_events,)] = finished.query("SELECT count(*) FROM mart.anomaly_events")
    assert metadata["events"].value == n_events
    assert metadata["pictures"].value == path.read_text(encoding="utf-8").count("<svg ")


def test_a_report_that_fails_does_not_hold_back_publication(plant):
    plant.config = plant.config.model_copy(update={"report": ReportConfig(days=1)})
    before = plant.config.published_path.stat().st_mtime_ns
    blocked = report_path(plant.config, "en")
    blocked.unlink()
    blocked.mkdir()
    (blocked / "in the way").touch()
    error = plant.run()[-1].error
    assert error is not None
    assert "The report cannot be written" in error
    assert plant.config.published_path.stat().st_mtime_ns > before


def test_the_report_is_written_in_the_languages_asked_for(plant):
    assets = ["plant_report"]
    with plant.instance() as instance:
        result = dg.materialize(
            [asset for asset in build(plant.config).assets if asset.key.path[-1] in assets],
            instance=instance,
            resources=dict(build(plant.config).resources),
            run_config={"ops": {"small__plant_report": {"config": {"languages": ["ja"], "days": 1}}}},
        )
    assert result.success
    assert '<html lang="ja">' in report_path(plant.config, "ja").read_text(encoding="utf-8")


def test_flows_and_regimes_carry_their_pictures_inline(finished):
    shown = {
        "training curve in full": metadata_of(finished, "cluster_flow", "c0001"),
        "map of the regimes": metadata_of(finished, "cluster_model"),
    }
    for name, metadata in shown.items():
        found = re.fullmatch(r"!\[[^\]]+\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)", metadata[name].value)
        assert found, name
        picture = base64.b64decode(found[1])
        assert picture.startswith(PNG)
        assert len(picture) < 150_000


def test_the_training_curve_is_small_enough_for_the_ui_to_show_it_without_a_click(finished):
    value = metadata_of(finished, "cluster_flow", "c0001")["training curve"].value
    assert len(value) < 1000
    [picture] = re.findall(r"^!\[[^\]]+\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)$", value)
    assert base64.b64decode(picture).startswith(b"<svg ")


def test_the_command_writes_the_report_where_it_is_told(plant, tmp_path, monkeypatch):
    (tmp_path / "pwflow.toml").write_text(
        '[plant]\nname = "small"\n[source]\npath = "exports/*.parquet"\ntimestamp = "timestamp"\nmachine = "machine"\n'
        'segments = ["recipe"]\n[warehouse]\nurl = "duckdb:///plant/warehouse.duckdb"\n'
        'published = "plant/published.duckdb"\n[models]\nurl = "plant/models"\n'
    )
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["report", "--config", "pwflow.toml", "--output", "out/r.html", "--days", "1"])
    assert done.exit_code == 0, done.output
    assert "Wrote " in done.output
    assert '<html lang="en">' in (tmp_path / "out" / "r.html").read_text(encoding="utf-8")
    started = datetime.now(UTC)
    done = CliRunner().invoke(main, ["report", "--config", "pwflow.toml", "--language", "ja", "--days", "1"])
    assert done.exit_code == 0, done.output
    written = tmp_path / "plant" / "small-report-ja.html"
    assert written.stat().st_mtime >= started.timestamp() - 1


def test_a_report_before_the_first_run_names_the_next_step(tmp_path, monkeypatch):
    (tmp_path / "pwflow.toml").write_text('[source]\npath = "data.csv"\n')
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["report"])
    assert done.exit_code == 1
    assert "pwflow run" in done.output
