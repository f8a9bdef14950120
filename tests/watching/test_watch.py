"""The watch says what the night says of the same readings, in whatever batches and over restarts and kills."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import threading
from contextlib import closing

import numpy as np
import pandas as pd
import pytest

from pwflow_core.errors import ConfigurationError, LiveStoreError, NotFittedError
from pwflow_core.pipeline.flows.training import train_cluster_flows
from pwflow_core.pipeline.publishing.querying import query_published
from pwflow_core.plant import Plant
from pwflow_core.warehouse import fetch_value as query_value
from pwflow_core.watching import service
from pwflow_core.watching.copying import copy_night
from pwflow_core.watching.night import read_night
from pwflow_core.watching.refreshing import copy_in_a_process
from pwflow_core.watching.service import Watch
from pwflow_core.watching.standard_input import StandardInput
from pwflow_core.watching.store import reading_id
from tests.conftest import copy_folder, frame, open_plant, plant_readings, put_file, query, score_all
from tests.processes import REPOSITORY
from tests.watching.conftest import (
    LATER,
    add_lines,
    have_a_night,
    in_this_process,
    later_readings,
    live,
    make_watch,
    open_watched,
    published,
)

SAID = ["reading_id", "machine_id", "segment", "cluster_key", "status", "reason", "flow_version"]
NUMBERS = ["log_density", "p_value", "anomaly_score", "is_anomaly"]
SCORES = "SELECT *, epoch_us(ts) AS at FROM mart.anomaly_scores WHERE ts >= ? ORDER BY machine_id, ts"
PARTS = "SELECT * FROM mart.sensor_contributions WHERE ts >= ? ORDER BY reading_id, sensor"


def assert_same_as_the_night(plant: Plant, scores: pd.DataFrame, parts: pd.DataFrame, since: str = LATER) -> None:
    night = frame(plant, SCORES, since.replace("T", " "))
    assert scores.ts.tolist() == night["at"].tolist()
    for name in SAID:
        assert scores[name].fillna("").tolist() == night[name].fillna("").tolist(), name
    for name in NUMBERS:
        np.testing.assert_allclose(scores[name].astype(float), night[name].astype(float), rtol=0, atol=1e-9)
    told = frame(plant, PARTS, since.replace("T", " "))
    assert parts.sensor.tolist() == told.sensor.tolist()
    assert len(told)
    np.testing.assert_allclose(parts[["contribution", "expected"]], told[["contribution", "expected"]], atol=1e-9)


def pipe_in(data: bytes, rng: np.random.Generator) -> io.FileIO:
    """Return a pipe into which data comes in pieces of random length."""
    end, begin = os.pipe()

    def write() -> None:
        place = 0
        while place < len(data):
            piece = data[place : place + int(rng.integers(1, 20_000))]
            place += os.write(begin, piece)
        os.close(begin)

    threading.Thread(target=write, daemon=True).start()
    return os.fdopen(end, "rb", buffering=0)


AS_JSON = pytest.param(
    False, marks=pytest.mark.long(reason="3 CPU s: JSON is held to the night over MQTT at each push")
)


@pytest.mark.parametrize("is_csv", [True, AS_JSON])
def test_lines_on_standard_input_get_the_scores_of_the_night_in_any_pieces(watched, is_csv):
    readings = later_readings()
    if is_csv:
        text = readings.to_csv(index=False)
    else:
        rows = [{k: None if v != v else v for k, v in row.items()} for row in readings.to_dict(orient="records")]
        text = "\n".join(map(json.dumps, rows))  # the last line has no end
    stream = pipe_in(text.encode(), np.random.default_rng(int(is_csv)))
    counts = make_watch(watched, lambda *_: StandardInput(stream, is_csv=is_csv), once=False).run()
    assert counts.readings == len(readings)
    assert not +counts.refused
    scores, parts = live(watched), live(watched, "SELECT * FROM live_contributions ORDER BY reading_id, sensor")
    assert counts.anomalies == scores.is_anomaly.sum() > 20
    add_lines(watched, readings)
    have_a_night(watched)
    assert_same_as_the_night(watched, scores, parts)


def test_a_growing_folder_is_followed_over_restarts_and_the_night_replaces_what_it_scored(watched):
    readings = later_readings()
    first, second, third = readings[:200], readings[200:430], readings[430:]
    path = add_lines(watched, first)
    assert make_watch(watched).run().readings == 200
    with path.open("a") as file:
        text = second.to_csv(index=False, header=False)
        file.write(text[:-30])
    assert make_watch(watched).run().readings == len(second) - 1, "the last line is not whole yet"
    with path.open("a") as file:
        file.write(text[-30:])
    path.rename(path.with_name("archive.csv"))
    put_file(path, third)  # another file at the path of the first one
    counts = make_watch(watched).run()
    assert (counts.readings, counts.refused.total()) == (len(third) + 1, 0)
    scores, parts = live(watched), live(watched, "SELECT * FROM live_contributions ORDER BY reading_id, sensor")
    events = published(watched, "SELECT event_id, started_at, n_readings, summary FROM mart.live_events ORDER BY ALL")
    have_a_night(watched)
    assert_same_as_the_night(watched, scores, parts)
    since = LATER.replace("T", " ")
    assert events == query(
        watched,
        "SELECT event_id, started_at, n_readings, summary FROM mart.anomaly_events WHERE started_at >= ? ORDER BY ALL",
        since,
    )
    add_lines(watched, later_readings(20, seed=8, start="2024-03-02T06:00:00", fault=False), "archive.csv")
    counts = make_watch(watched).run()
    assert counts.readings == 40
    assert live(watched).ts.min() == pd.Timestamp("2024-03-02T06:00:00").value // 1000
    assert published(watched, "SELECT count(*) FROM mart.live_scores") == [(40,)]


def test_what_a_run_reads_while_nobody_watches_is_not_read_again_and_the_state_goes_on_from_it(watched):
    path = add_lines(watched, later_readings(100))
    have_a_night(watched)
    with path.open("a") as file:
        file.write("2024-03-02T02:4")
    more = later_readings(60, seed=8, start="2024-03-02T02:40:00")
    with path.open("a") as file:
        file.write(more.to_csv(index=False, header=False)[len("2024-03-02T02:4") :])
    counts = make_watch(watched).run()
    assert (counts.readings, +counts.refused) == (120, {})
    scores, parts = live(watched), live(watched, "SELECT * FROM live_contributions ORDER BY reading_id, sensor")
    have_a_night(watched, "run-3")
    assert_same_as_the_night(watched, scores, parts, "2024-03-02T02:40:00")


def test_a_promotion_is_taken_up_while_readings_arrive_and_what_is_remembered_stays(watched, monkeypatch):
    monkeypatch.setattr(service, "_NIGHT_SECONDS", 0.05)
    readings = later_readings(120)
    end, begin = os.pipe()
    watch = make_watch(watched, lambda *_: StandardInput(os.fdopen(end, "rb", buffering=0), is_csv=True), once=False)
    thread = threading.Thread(target=watch.run)
    thread.start()
    os.write(begin, readings[:100].to_csv(index=False).encode())
    before = _wait(lambda: watch.counts.readings == 100 and watch.night)
    since = pd.Timestamp("2024-03-01T06:00:00").to_pydatetime()
    train_cluster_flows(
        watched, ["c0001"], reason="refit", promoted_by="test", learn_from={"c0001": since}, challenge=False
    )
    score_all(watched)
    first = before.bundle.model_set_id
    after = _wait(lambda: watch.night.bundle.model_set_id != first and watch.night)
    os.write(begin, readings[100:].to_csv(index=False, header=False).encode())
    os.close(begin)
    thread.join(30)
    assert watch.counts.readings == 240
    scores = live(watched)
    assert scores.model_set_id.value_counts().to_dict() == {
        before.bundle.model_set_id: 100,
        after.bundle.model_set_id: 140,
    }
    add_lines(watched, readings)
    have_a_night(watched)
    night = frame(watched, SCORES, LATER.replace("T", " "))
    both = scores.merge(night, on="reading_id", suffixes=("", "_night"))
    both = both[both.model_set_id == after.bundle.model_set_id]
    assert len(both) == 140
    np.testing.assert_allclose(both.p_value, both.p_value_night, atol=1e-9)


def _wait(test, seconds=30.0):
    import time

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := test():
            return found
        time.sleep(0.02)
    raise AssertionError("it took too long")


def test_what_arrives_late_twice_or_from_nobody_is_counted_by_its_reason_and_stops_nothing(watched):
    readings = later_readings(40)
    nobody = readings[:3].assign(machine="press-9")
    old = plant_readings(2, start="2024-03-01T05:00:00")
    lines = [json.dumps(row) for row in readings.astype(object).where(readings.notna(), None).to_dict(orient="records")]
    lines += [
        json.dumps(row)
        for part in (readings[5:8].dropna(), nobody.dropna(), old.dropna())
        for row in part.to_dict("records")
    ]
    broken = [
        "{",
        "[]",
        '{"ts": "soon"}',
        '{"machine": "press-1"}',
        '{"ts": NaN}',
        "x" * 1_100_000,
        '"' + "a" * 200_000,
    ]
    odd = {"ts": "2024-03-02T06:00:00Z", "recipe": "A", "temperature": "warm", "pressure": 3}
    lines += [*broken, json.dumps(odd | {"machine": "press-1"}), json.dumps({"ts": odd["ts"], "machine": "press-2"})]
    lines += [json.dumps(odd | {"machine": "m" * 500_000})]
    stream = pipe_in("\n".join(lines).encode(), np.random.default_rng(3))
    counts = make_watch(watched, lambda *_: StandardInput(stream), once=False).run()
    assert counts.readings == 82
    assert counts.refused["unknown_machine"] == len(nobody.dropna()) + 1
    assert counts.refused["read_by_the_night"] == len(old.dropna())
    assert counts.refused["late"] + counts.refused["duplicate"] == len(readings[5:8].dropna())
    assert counts.refused["malformed_line"] == 4
    assert counts.refused["missing_timestamp"] == 1
    assert counts.refused["unreadable_timestamp"] == 2
    assert live(watched, "SELECT status FROM live_scores ORDER BY ts DESC LIMIT 2").status.tolist() == [
        "invalid",
        "missing",
    ]


POINTS = {
    "before the scores are kept": "pwflow_core.watching.store.reading_id",
    "while they are kept": "pwflow_core.watching.store._put",
    "after they are kept": "pwflow_core.watching.folder.Folder.settle",
    "before cases are derived": "pwflow_core.watching.service.derive_live_cases",
    "while cases are derived": "pwflow_core.watching.cases.derive_cases",
    "after cases are derived": "pwflow_core.watching.store.Session.put_events",
    "before the live scores are published": "pwflow_core.watching.service.publish_live",
    "while the live scores are published": "pwflow_core.watching.publishing.copy_rows",
    "while the night is copied": "pwflow_core.watching.copying.export_bundle",
    "before a night is pointed at": "pwflow_core.watching.copying.flush",
    "before a night is begun": "pwflow_core.watching.store.Session.begin_night",
}

RUN = """
import signal, sys
from pkgutil import resolve_name
sys.path.insert(0, {repository!r})
from tests.watching.conftest import make_watch
owner, _, name = {point!r}.rpartition(".")
setattr(resolve_name(owner), name, lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL))
make_watch(plant).run()
"""


def arrive(plant: Plant, *, is_after_a_night: bool) -> None:
    add_lines(plant, later_readings(60, seed=9))
    if is_after_a_night:
        have_a_night(plant)
        add_lines(plant, later_readings(60, seed=9, start="2024-03-02T02:00:00"))


def found_by(plant: Plant) -> tuple[pd.DataFrame, list[tuple]]:
    """Return the live scores, and the live events as analysts have them."""
    scores = live(plant, "SELECT reading_id, ts, status, p_value FROM live_scores ORDER BY reading_id")
    return scores, published(plant, "SELECT event_id, case_id, n_readings, summary FROM mart.live_events ORDER BY ALL")


@pytest.fixture(scope="module")
def arrived(_watched_folder, tmp_path_factory):
    """Return what has arrived at a plant, and what a watch finds that nobody kills: without and with a night."""
    found = {}
    for is_after_a_night in (False, True):
        plant = open_watched(copy_folder(_watched_folder / "plant", tmp_path_factory.mktemp("arrived") / "plant"))
        arrive(plant, is_after_a_night=is_after_a_night)
        before = copy_folder(plant.config.folder, plant.config.folder.with_name("before"))
        make_watch(plant).run()
        found[is_after_a_night] = before, found_by(plant)
    return found


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_loses_no_reading_and_doubles_none(arrived, stem, point, tmp_path):
    before, (scores, events) = arrived["night" in point]
    plant = open_watched(copy_folder(before, tmp_path / "plant"))
    ended = stem.run(plant, RUN.format(repository=str(REPOSITORY), point=POINTS[point]))
    assert ended.was_killed, ended.output
    folder = plant.config.watch_folder
    if (folder / "live.sqlite").exists():
        with closing(sqlite3.connect(folder / "live.sqlite")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    if plant.config.live_path.exists():
        published(plant, "FROM mart.live_scores")
    make_watch(plant).run()
    found, said = found_by(plant)
    pd.testing.assert_frame_equal(found, scores)
    assert len(found) == 120
    assert said == events
    left = {path.name for path in folder.iterdir() if path.name.startswith((".pwflow", "night-"))}
    assert left == {(folder / "night").read_text()}


@pytest.mark.long(reason="2 CPU s for each kill: the enumerated points keep the promise at each push")
def test_kills_at_random_moments_lose_no_reading_and_double_none(watched, stem, tmp_path):
    rng, readings = np.random.default_rng(5), later_readings(500)
    code = RUN.format(repository=str(REPOSITORY), point="pwflow_core.watching.service.DescribedNowhere")
    n_killed = 0
    for part in np.array_split(np.arange(len(readings)), 50):
        add_lines(watched, readings.iloc[part])
        n_killed += stem.run(watched, code, kill_after=float(rng.uniform(0.0, 2.0))).was_killed
    assert n_killed > 20
    make_watch(watched).run()
    scores, parts = live(watched), live(watched, "SELECT * FROM live_contributions ORDER BY reading_id, sensor")
    have_a_night(watched)
    assert_same_as_the_night(watched, scores, parts)


def test_the_night_is_copied_by_a_process_of_its_own_and_only_a_scored_plant_is_watched(watched, tmp_path):
    shutil.rmtree(watched.config.watch_folder)
    copy_in_a_process(watched.config, watched.config.watch_folder)
    found = read_night(watched.config.watch_folder)
    assert found.bundle.model_set_id
    assert set(found.scored_until) == {"press-1", "press-2"}
    put_file(tmp_path / "new" / "data" / "first.csv", plant_readings(20))
    fresh = open_plant(tmp_path / "new")
    with pytest.raises(NotFittedError):
        Watch(fresh, lambda *_: None).run()


def test_two_watches_of_one_plant_are_one_too_many_and_some_sources_cannot_be_followed(watched):
    from pwflow_core.warehouse.lock import hold

    with hold(watched.config.watch_folder / "lock"), pytest.raises(LiveStoreError, match="watches this plant already"):
        make_watch(watched).run()
    asked = open_plant(watched.config.folder, {"source": {"path": None, "sql": "SELECT 1"}})
    with pytest.raises(ConfigurationError, match="pwflow watch --stdin"):
        make_watch(asked).run()
    wide = open_watched(watched.config.folder, source={"encoding": "utf-16"})
    with pytest.raises(ConfigurationError, match="cannot be followed"):
        make_watch(wide).run()


def test_live_scores_are_asked_for_in_sql_beside_the_published_ones(watched):
    add_lines(watched, later_readings(30))
    make_watch(watched).run()
    found = query_published(
        watched.config,
        "SELECT count(*) AS n, count(*) FILTER (ts >= '2024-03-02 01:00') AS live FROM "
        "(SELECT ts FROM mart.anomaly_scores UNION ALL SELECT ts FROM mart.live_scores)",
    )
    assert found.to_dict("records") == [{"n": 3060, "live": 60}]


def test_a_reading_has_the_id_of_the_warehouse(watched):
    rows = query(watched, "SELECT machine_id, epoch_us(ts), reading_id FROM mart.anomaly_scores LIMIT 20")
    assert [reading_id(machine, at) for machine, at, _ in rows] == [number for *_, number in rows]


def test_files_of_other_kinds_and_with_lines_above_the_header_are_read_or_counted(watched):
    readings = later_readings(40)
    data = watched.config.folder / "data"
    put_file(data / "a.csv", "# made by a logger\n" + readings[:30].to_csv(index=False, sep=";"))
    put_file(data / "b.parquet", readings[30:60])
    put_file(data / "c.csv", "nothing\n" * 60)
    put_file(data / "d.csv.gz", b"no")
    put_file(data / "e.csv", readings[60:].to_csv(index=False) + "x" * 3_000_000 + "\n")
    counts = make_watch(watched).run()
    assert counts.readings == 80
    assert +counts.refused == {"file_without_header": 1, "file_not_followed": 1, "malformed_line": 1}
    assert make_watch(watched).run().readings == 0


def test_what_the_path_of_a_file_says_is_a_column_of_its_lines(watched):
    with watched.warehouse.transaction() as connection:
        source = json.loads(query_value(connection, "SELECT value FROM core.plant_facts WHERE fact = 'source'"))
        source |= {"machine": "press", "path_columns": "(?P<press>press-[0-9])_", "segments": ["filename"]}
        connection.execute("UPDATE core.plant_facts SET value = ? WHERE fact = 'source'", [json.dumps(source)])
    in_this_process(watched.config, watched.config.watch_folder)
    readings = later_readings(10).drop(columns=["machine", "recipe"])
    put_file(watched.config.folder / "data" / "press-2_a, b.csv", readings[1::2])
    assert make_watch(watched).run().readings == 10
    assert live(watched)[["machine_id", "segment"]].drop_duplicates().values.tolist() == [
        ["press-2", "press-2_a, b.csv"]
    ]


def test_the_oldest_live_scores_go_where_no_night_comes(watched):
    add_lines(watched, later_readings(60))
    watch = make_watch(watched)
    watch.run()
    with watch.store.session() as session:
        assert session.limit(100) == 20
        assert session.counts()[0] == 100
    assert live(watched).ts.min() == pd.Timestamp("2024-03-02T01:10:00").value // 1000


def test_a_copy_of_the_night_has_what_the_cases_need_and_no_more(watched):
    copy_night(watched, watched.config.watch_folder)
    night = read_night(watched.config.watch_folder)
    import duckdb

    with duckdb.connect(str(night.folder / "cases.duckdb"), read_only=True) as connection:
        [(first, last, n)] = connection.execute("SELECT min(ts), max(ts), count(*) FROM mart.anomaly_scores").fetchall()
        assert connection.execute("SELECT count(*) FROM core.component_log_density").fetchall() == [(0,)]
    assert n <= 3000
    assert last.isoformat() == "2024-03-02T00:59:00"
    assert first < last
