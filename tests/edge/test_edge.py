"""The edge: what the nightly job says of readings is said while they come, with NumPy alone."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pwflow_core.edge import EdgeScorer, Score, open_bundle, read_manifest
from pwflow_core.edge.bundle import write_bundle
from pwflow_core.edge.following import follow
from pwflow_core.edge.rules import Rules
from pwflow_core.edge.tracking import QUALITIES, Tracker
from pwflow_core.edge.values import check_values
from pwflow_core.errors import ConfigurationError, ModelFileError, NotFittedError, SourceError
from pwflow_core.pipeline.readings.features import read_features
from pwflow_core.pipeline.scoring.contributions import explain_anomalies
from pwflow_core.pipeline.using.bundling import describe_readings, export_bundle
from tests.conftest import frame, plant_readings, put_file, read_all, reopen, score_all
from tests.processes import REPOSITORY

SENSORS = ["temperature", "pressure"]
LATER = "2024-03-02T01:00:00"
"""Where the readings of the trained plant end."""
SAID = ["status", "reason", "cluster_key", "flow_version", "is_anomaly", "segment"]
NUMBERS = ["log_density", "p_value", "anomaly_score"]
CONTRIBUTED = ["contribution", "observed", "expected", "expected_low", "expected_high"]


def microseconds(readings: pd.DataFrame) -> np.ndarray:
    return pd.to_datetime(readings.ts).dt.tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)


def in_batches(readings: pd.DataFrame, seed: int, most: int = 60) -> Iterator[pd.DataFrame]:
    """Yield readings in the order of time, some at a time."""
    rng = np.random.default_rng(seed)
    ordered = readings.iloc[np.argsort(microseconds(readings), kind="stable")]
    start = 0
    while start < len(ordered):
        stop = start + int(rng.integers(1, most))
        yield ordered.iloc[start:stop]
        start = stop


def score(scorer: EdgeScorer, readings: pd.DataFrame) -> list[Score]:
    values = readings[SENSORS].to_numpy()
    return scorer.score(readings.machine.tolist(), microseconds(readings), values, readings.recipe.tolist())


def without_nan(values: pd.Series) -> list[object]:
    return [None if pd.isna(value) else value for value in values]


def assert_same_as_the_night(plant, scores: list[Score], since: str) -> pd.DataFrame:
    key = ["machine_id", "at"]
    night = frame(plant, "SELECT *, epoch_us(ts) AS at FROM mart.anomaly_scores WHERE ts >= ?", since)
    night = night.set_index(key).sort_index()
    edge = pd.DataFrame([vars(one) for one in scores]).set_index(key).sort_index()
    assert night.index.equals(edge.index)
    for name in SAID:
        assert without_nan(night[name]) == without_nan(edge[name]), name
    for name in NUMBERS:
        np.testing.assert_allclose(edge[name].astype(float), night[name].astype(float), rtol=0, atol=1e-9)
    found = pd.DataFrame([{"at": s.at, "machine_id": s.machine_id} | vars(b) for s in scores for b in s.contributions])
    told = frame(plant, "SELECT *, epoch_us(ts) AS at FROM mart.sensor_contributions WHERE ts >= ?", since)
    assert len(found) == len(told) > 0
    both = told.merge(found, on=[*key, "sensor"], suffixes=("", "_edge"))
    assert len(both) == len(told)
    for name in CONTRIBUTED:
        np.testing.assert_allclose(both[f"{name}_edge"], both[name], rtol=1e-9, atol=1e-9)
    return night


def test_the_edge_says_what_the_night_says_in_whatever_batches_and_over_restarts(trained_plant, tmp_path):
    explain_anomalies(trained_plant)
    folder = tmp_path / "bundle"
    made = export_bundle(trained_plant, folder)
    assert made.n_regimes == 4
    assert made.n_machines == 2
    scores = []
    scorer = EdgeScorer.open(folder, fresh=True)
    for batch in in_batches(plant_readings(), seed=1):
        scores += score(scorer, batch)
    night = assert_same_as_the_night(trained_plant, scores, "2024-01-01")
    assert set(night.status) == {"scored", "missing", "invalid"}
    assert not scorer.refused

    later, goes_on = plant_readings(300, seed=7, start=LATER), []
    scorer = EdgeScorer.open(folder)
    size = len(scorer.state())
    for batch in in_batches(later, seed=2, most=200):
        goes_on += score(scorer, batch)
        state, scorer = scorer.state(), EdgeScorer.open(folder)
        scorer.restore(state)
    assert len(scorer.state()) == size
    put_file(tmp_path / "data" / "later.parquet", later)
    read_all(trained_plant)
    score_all(trained_plant)
    explain_anomalies(trained_plant)
    assert_same_as_the_night(trained_plant, goes_on, LATER.replace("T", " "))


@pytest.mark.parametrize("holds", [None, 150.0])
def test_quality_and_features_over_time_are_those_of_the_pipeline(make_plant, holds):
    rng = np.random.default_rng(3)
    readings = plant_readings(1400, seed=3)
    for name in SENSORS:
        readings.loc[rng.random(len(readings)) < 0.05, name] = np.nan
        for start in rng.integers(0, len(readings) - 40, 8):  # pressure shows a mark for a missing value
            readings.loc[start : start + int(rng.integers(3, 30)), "pressure"] = 7.0
    readings.loc[300:340, "temperature"], readings.loc[1700:1740, "temperature"] = 11.0, 12.0  # and a sensor hangs
    readings = readings[rng.random(len(readings)) > 0.01].reset_index(drop=True)  # and some readings never came
    readings = readings[~readings.index.isin(range(200, 230))].reset_index(drop=True)
    plant = make_plant(
        {"first.parquet": readings},
        source={"segments": ["recipe"]},
        sensors={
            "temperature": {"low": -100.0, "high": 100.0},
            "pressure": {"period": 4.0, "missing": [7.0]} | ({"hold_seconds": holds} if holds else {}),
        },
        quality={"fill_readings": 2, "fill_seconds": 100.0, "max_missing_sensors": 1, "stuck_readings": 3},
        features={
            "windows": [4, 9],
            "statistics": ["mean", "std", "slope"],
            "lags": [2],
            "differences": [1],
            "gap_seconds": 200.0,
        },
    )
    read_all(plant)
    with plant.warehouse.snapshot() as connection:
        columns = read_features(connection).columns
        rules = Rules.of(describe_readings(plant, connection, columns))
    tracker, found = Tracker(rules), []
    for machine, of_machine in readings.groupby("machine"):
        checked = check_values(of_machine[SENSORS].to_numpy(), rules.sensors)
        number, at = tracker.numbers([machine]), microseconds(of_machine)
        for row, recipe in enumerate(of_machine.recipe):
            one = slice(row, row + 1)
            seen = tracker.follow(number, at[one], [recipe], checked.values[one], checked.refused[one])
            found.append([machine, at[row], QUALITIES[seen.quality[0]], seen.reason[0], *seen.columns[0]])
    edge = pd.DataFrame(found, columns=["machine_id", "at", "quality", "reason", *columns])
    night = frame(
        plant,
        "SELECT seen.*, epoch_us(seen.ts) AS at, reading.reason FROM core.model_readings AS seen "
        "JOIN core.readings AS reading USING (reading_id) ORDER BY seen.machine_id, seen.ts",
    )
    assert edge.quality.tolist() == night.quality.tolist()
    assert without_nan(edge.reason) == without_nan(night.reason)
    np.testing.assert_allclose(edge[list(columns)], night[list(columns)].astype(float), rtol=1e-9, atol=1e-9)
    assert set(night.quality) >= {"ok", "partial", "invalid", "stuck"}


ALONE = """
import runpy, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        root = name.partition(".")[0]
        if root not in {*sys.stdlib_module_names, "numpy", "pwflow_core"} and not root.startswith("_sysconfigdata"):
            raise ModuleNotFoundError(f"{name} is not installed here")

sys.meta_path.insert(0, Blocker())
runpy.run_module("pwflow_core.edge", run_name="__main__")
"""


def test_lines_are_scored_where_numpy_and_nothing_else_is_installed_and_no_reading_twice(trained_plant, tmp_path):
    export_bundle(trained_plant, tmp_path / "bundle")
    readings = plant_readings(80, seed=9, start=LATER).sort_values("ts", kind="stable")
    records = [
        {name: None if value != value else value for name, value in row.items()}
        for row in readings.to_dict(orient="records")
    ]
    records.append(records[-1] | {"machine": "Mühle\u2028"})
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    lines[20:20] = ["{", "[1]", json.dumps(records[5] | {"ts": "soon"}), json.dumps(records[5] | {"ts": None}), ""]
    scored, told = [], []
    for sent in (lines[:70], lines):  # the second process gets all of them again
        done = subprocess.run(
            [sys.executable, "-c", ALONE, tmp_path / "bundle", "--state", tmp_path / "state"],
            input="\n".join(sent),
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, done.stderr
        scored += [json.loads(line) for line in done.stdout.splitlines()]
        told.append(done.stderr)
        assert done.stdout.isascii()
    assert scored.pop(-1)["machine_id"] == "Mühle\u2028"
    here = score(EdgeScorer.open(tmp_path / "bundle"), readings)
    assert [[one["machine_id"], one["status"], one["p_value"]] for one in scored] == [
        [one.machine_id, one.status, one.p_value] for one in here
    ]
    assert [one["contributions"] for one in scored] == [[vars(sensor) for sensor in one.contributions] for one in here]
    assert "2 malformed_line" in told[0]
    assert "1 unreadable_timestamp, 1 missing_timestamp" in told[0]
    assert "unreadable_timestamp: 'soon' first" in told[0]
    assert "late" in told[1]


def test_what_is_late_double_ahead_or_nameless_is_counted_and_stops_nothing(trained_plant, tmp_path):
    export_bundle(trained_plant, tmp_path / "bundle")
    scorer = EdgeScorer.open(tmp_path / "bundle")
    readings = plant_readings(6, seed=9, start=LATER).query("machine == 'press-1'").reset_index(drop=True)
    old = plant_readings(2, start="2024-03-01T05:00:00").query("machine == 'press-1'")
    ahead = plant_readings(1, start="2999-01-01")
    ahead.machine = ["press-1", " "]
    assert scorer.score(["press-1"], np.array([-(10**18)]), np.zeros((1, 2)), ["A"]) == []
    assert scorer.refused.pop("unreadable_timestamp") == 1
    found = score(scorer, pd.concat([readings, readings[:2], old, ahead], ignore_index=True))
    assert [one.row for one in found] == list(range(6))
    assert scorer.refused == {"duplicate": 2, "late": 2, "future_timestamp": 1, "missing_machine": 1}
    assert score(scorer, readings) == []
    assert scorer.refused["duplicate"] == 3
    assert scorer.refused["late"] == 7
    wild = readings.assign(recipe="C", temperature=np.inf, ts=plant_readings(6, start="2024-03-02T03:00:00").ts[:6])
    assert {one.reason for one in score(scorer, wild)} == {"refused: temperature (infinite)"}
    unknown = readings.assign(recipe="C", ts=plant_readings(6, start="2024-03-02T04:00:00").ts[:6]).dropna()
    assert {(one.status, one.reason) for one in score(scorer, unknown) if one.status == "thin"} == {
        ("thin", "No operating regime has been learned for segment C")
    }


def test_a_bundle_is_replaced_as_a_whole_and_a_damaged_one_is_refused(trained_plant, tmp_path):
    folder = tmp_path / "bundle"
    with pytest.raises(ModelFileError, match=r"Expected a bundle of `pwflow export` in .*export it again"):
        open_bundle(folder)
    export_bundle(trained_plant, folder)
    before = read_manifest(folder)
    for own in ("notes.json", "own.safetensors"):
        (folder / own).write_text("of the user")
    put_file(tmp_path / "data" / "later.parquet", plant_readings(20, seed=7, start=LATER))
    read_all(trained_plant)
    score_all(trained_plant)
    export_bundle(trained_plant, folder)
    after = read_manifest(folder)
    assert before["files"]["rules"] == after["files"]["rules"]
    assert before["files"]["state"] != after["files"]["state"]
    named = {"manifest.json", *(entry["path"] for entry in after["files"].values())}
    assert {path.name for path in folder.iterdir()} == {*named, "notes.json", "own.safetensors"}
    damaged = folder / after["files"]["arrays"]["path"]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelFileError, match="is damaged: its SHA-256 is not that of the manifest"):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"quality": {"fill_readings": 7}}, r"^\[quality\]"), ({"features": {"lags": [2]}}, r"^\[features\] changed")],
)
def test_nothing_is_exported_under_settings_that_the_scores_are_not_of(trained_plant, tmp_path, changed, named):
    with pytest.raises(NotFittedError, match=f"{named}.* run `pwflow run` first, then export"):
        export_bundle(reopen(trained_plant, **changed), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def rewrite(folder: Path, **source: object) -> None:
    """Write a bundle again with another source."""
    bundle = open_bundle(folder)
    rules = bundle.document
    rules["source"] |= source
    data, named = bundle.files | {"rules": json.dumps(rules).encode()}, bundle.manifest["files"]
    write_bundle(folder, {"model_set_id": "newer"}, {part: (named[part]["path"], data[part]) for part in data})


class Hearer(io.StringIO):
    """Takes scores, and does something after the first ones."""

    def __init__(self, action: Callable[[], None]) -> None:
        super().__init__()
        self.action: Callable[[], None] | None = action

    def flush(self) -> None:
        action, self.action = self.action, None
        if action is not None:
            action()


def test_a_stream_goes_on_by_a_newer_bundle_with_the_header_that_came_first(trained_plant, tmp_path):
    folder = tmp_path / "bundle"
    export_bundle(trained_plant, folder)
    readings = plant_readings(20, seed=9, start=LATER).sort_values("ts", kind="stable").astype({"temperature": object})
    readings.loc[readings.index[:6], "temperature"] = "hot"
    lines = readings.to_csv(index=False).splitlines(keepends=True)
    end, begin = os.pipe()

    def go_on() -> None:
        rewrite(folder, missing_words=["hot"])
        os.write(begin, "".join(lines[1:]).replace("2024", "2025").encode())
        os.close(begin)

    hearer = Hearer(go_on)
    os.write(begin, "".join(lines).encode())
    with os.fdopen(end, "rb") as stream:
        found = follow(folder, stream, hearer, is_csv=True, state_file=tmp_path / "state")
    scores = [json.loads(line) for line in hearer.getvalue().splitlines()]
    assert found.counts.total() == len(scores) == 2 * len(readings)
    by_year = [[score["reason"] for score in scores if score["ts"].startswith(year)] for year in ("2024", "2025")]
    assert [sum("not_a_number" in (reason or "") for reason in reasons) for reasons in by_year] == [6, 0]


def test_lines_of_csv_are_read_in_the_encoding_of_the_source(trained_plant, tmp_path):
    folder = tmp_path / "bundle"
    export_bundle(trained_plant, folder)
    rewrite(folder, encoding="cp1252")
    readings = plant_readings(3, seed=9, start=LATER).assign(machine="Mühle").drop_duplicates("ts")
    (tmp_path / "lines.csv").write_text(readings.to_csv(index=False), encoding="cp1252")
    scores = io.StringIO()
    with (tmp_path / "lines.csv").open("rb") as stream:
        follow(folder, stream, scores, is_csv=True)
    assert {json.loads(line)["machine_id"] for line in scores.getvalue().splitlines()} == {"Mühle"}
    rewrite(folder, encoding="utf-16")
    with (tmp_path / "lines.csv").open("rb") as stream, pytest.raises(SourceError, match="got utf-16: convert them"):
        follow(folder, stream, scores, is_csv=True)


def test_without_scores_there_is_nothing_to_export(make_plant, tmp_path):
    plant = make_plant({"first.parquet": plant_readings(50)}, source={"segments": ["recipe"]})
    read_all(plant)
    with pytest.raises(NotFittedError):
        export_bundle(plant, tmp_path / "bundle")


def test_onnx_files_lie_beside_the_flows_and_the_edge_leaves_them_alone(trained_plant, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed")
    export_bundle(trained_plant, tmp_path / "bundle", with_onnx=True)
    files = read_manifest(tmp_path / "bundle")["files"]
    versions = {regime["flow_version"] for regime in open_bundle(tmp_path / "bundle").document["regimes"].values()}
    assert {f"onnx {version}" for version in versions} <= set(files)
    assert not any(part.startswith("onnx") for part in open_bundle(tmp_path / "bundle").files)
    scored = frame(
        trained_plant,
        "SELECT flow_version, log_density, temperature, pressure FROM core.component_log_density "
        "JOIN core.readings USING (reading_id) WHERE temperature + pressure IS NOT NULL",
    )
    for version, rows in scored.groupby("flow_version"):
        session = onnxruntime.InferenceSession(tmp_path / "bundle" / files[f"onnx {version}"]["path"])
        [found] = session.run(["log_density"], {"readings": rows[SENSORS].to_numpy()})
        np.testing.assert_allclose(found, rows.log_density, atol=1e-4, rtol=1e-6)


def test_without_the_packages_for_onnx_the_export_says_what_to_install(trained_plant, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'pwflow\[onnx\]'"):
        export_bundle(trained_plant, tmp_path / "bundle", with_onnx=True)
    assert not (tmp_path / "bundle").exists()


def test_an_onnx_file_that_gives_other_densities_is_not_exported(trained_plant, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed")
    monkeypatch.setattr("pwflow_core.modelling.onnx_graph.DEGREES", 2.5)
    with pytest.raises(ModelFileError, match="nats off"):
        export_bundle(trained_plant, tmp_path / "bundle", with_onnx=True)
