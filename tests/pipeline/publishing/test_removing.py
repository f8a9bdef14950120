"""Readings that are older than they are kept: what goes, what stays, and that nothing of it comes back unsaid."""

import shutil
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pytest

from pwflow_core.config import RetentionConfig
from pwflow_core.errors import ChecksFailedError
from pwflow_core.pipeline.drift.evidence import follow_drift
from pwflow_core.pipeline.drift.health import derive_health
from pwflow_core.pipeline.looking.status import read_status
from pwflow_core.pipeline.publishing.publishing import publish_warehouse
from pwflow_core.pipeline.publishing.removing import remove_old_readings
from pwflow_core.pipeline.scoring.checks import check_scores
from pwflow_core.pipeline.scoring.contributions import explain_anomalies
from pwflow_core.pipeline.scoring.events import derive_events
from pwflow_core.plant import Plant
from tests.conftest import TRAINED, copy_folder, open_plant, plant_readings, put_file, query, read_all, score_all

FIRST, N_NIGHTS, KEPT = date(2024, 4, 1), 10, 7
BY_HOUR = (
    "SELECT machine_id, date_trunc('hour', ts) AS hour, count(temperature), avg(temperature), min(temperature), "
    "max(temperature) FROM core.readings WHERE ts >= '2024-04-01' GROUP BY ALL ORDER BY ALL"
)
FOLLOWED = (
    "mart.anomaly_events",
    "mart.cluster_health",
    "core.drift_states",
    "core.drift_references",
    "core.calibration",
    "mart.flow_versions",
)
OF_READINGS = (
    "mart.anomaly_scores",
    "mart.sensor_contributions",
    "core.component_log_density",
    "core.cluster_assignments",
)


def night_run(plant) -> None:
    read_all(plant)
    score_all(plant)
    explain_anomalies(plant)
    derive_events(plant)
    derive_health(plant)
    follow_drift(plant)


def rows_of(plant, tables) -> dict[str, list[tuple]]:
    return {table: query(plant, f"SELECT count(*), sum(hash(t)) FROM {table} AS t") for table in tables}


@pytest.fixture(scope="module")
def _aged_folder(_trained_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("aged") / "plant"
    shutil.copytree(_trained_folder, folder)
    plant = open_plant(folder, TRAINED)
    for place in range(N_NIGHTS):
        night = FIRST + timedelta(days=place)
        readings = plant_readings(90, seed=20 + place, start=f"{night} 06:00")
        if place == 1:
            readings.loc[readings.machine == "press-1", "pressure"] += 40  # an event, which stays
        put_file(folder / "data" / f"{night}.csv", readings)
    night_run(plant)
    with plant.warehouse.transaction() as connection:  # an open one would keep all since then
        connection.execute("UPDATE mart.drift_verdicts SET status = 'dismissed'")
    return folder


@pytest.fixture
def aged(_aged_folder, tmp_path) -> Plant:
    """A plant with ten nights behind those that it learned from, and the readings of seven days to be kept."""
    config = open_plant(copy_folder(_aged_folder, tmp_path / "aged"), TRAINED).config
    return Plant.open(config.model_copy(update={"retention": RetentionConfig(readings_days=KEPT)}))


def test_old_readings_go_with_all_that_is_made_from_them_and_what_they_came_to_stays(aged):
    before, hours = rows_of(aged, FOLLOWED), query(aged, BY_HOUR)
    [(n_before,)] = query(aged, "SELECT count(*) FROM core.readings")
    first_kept = FIRST + timedelta(days=N_NIGHTS - KEPT)
    events = query(aged, "SELECT DISTINCT machine_id, started_at::DATE FROM mart.anomaly_events")
    assert ("press-1", FIRST + timedelta(days=1)) in events

    removal = remove_old_readings(aged)
    expected = {
        (machine, FIRST + timedelta(days=place))
        for machine in ("press-1", "press-2")
        for place in range(N_NIGHTS - KEPT)
        if (machine, FIRST + timedelta(days=place)) not in events
    }
    removed = query(aged, "SELECT machine_id, night, n_readings FROM mart.removed_nights")
    assert {row[:2] for row in removed} == expected != set()
    assert sum(row[2] for row in removed) == removal.n_readings > 0
    assert query(aged, "SELECT count(*) FROM core.readings") == [(n_before - removal.n_readings,)]
    for table in OF_READINGS:
        assert query(aged, f"SELECT count(*) FROM {table} ANTI JOIN core.readings USING (reading_id)") == [(0,)], table
    assert query(aged, "SELECT min(ts)::DATE FROM core.readings")[0][0] == date(2024, 3, 1), "flows learned from it"

    gone = [(*row[:2], *map(pytest.approx, row[2:])) for row in hours if (row[0], row[1].date()) in expected]
    kept = "SELECT machine_id, hour, n_values, mean, low, high FROM mart.hourly_readings WHERE sensor = 'temperature'"
    assert query(aged, f"{kept} ORDER BY ALL") == gone
    assert query(aged, "SELECT sum(n_readings)::BIGINT FROM mart.hourly_scores") == [(removal.n_readings,)]

    assert all(result.passed for result in check_scores(aged) if result.is_blocking)
    assert f"{first_kept}" in f"{removal.before}"
    assert read_status(aged).n_removed == removal.n_readings
    published = publish_warehouse(aged).n_rows
    assert published["removed_nights"] == len(removed)
    assert published["readings"] == n_before - removal.n_readings
    derive_events(aged)
    assert derive_health(aged).n_nights == 0
    assert follow_drift(aged).n_nights == 0
    assert rows_of(aged, FOLLOWED) == before
    assert remove_old_readings(aged).n_readings == 0


def test_readings_that_went_do_not_come_back(aged):
    removal = remove_old_readings(aged)
    [(n_readings,)] = query(aged, "SELECT count(*) FROM core.readings")
    [(whole,)] = query(aged, "SELECT path FROM ingest.files WHERE removed_at IS NOT NULL LIMIT 1")
    again = aged.config.folder / "data" / Path(whole).name
    night = again.stem
    copied = put_file(again.with_name("again.csv"), plant_readings(90, seed=99, start=f"{night} 06:00"))
    put_file(again, copied.read_text().replace("20", "21", 1))
    changed = {name: sensor.model_copy(update={"high": 99.0}) for name, sensor in aged.config.sensors.items()}
    plant = Plant.open(aged.config.model_copy(update={"sensors": changed}))  # every file is read again
    night_run(plant)
    assert query(plant, "SELECT count(*) FROM core.readings") == [(n_readings,)]
    refused = query(
        plant, "SELECT DISTINCT reason FROM mart.rejected_readings WHERE file LIKE '%again.csv' AND sensor IS NULL"
    )
    assert refused == [("beyond_retention",)]
    assert all(result.passed for result in check_scores(plant) if result.is_blocking)
    assert remove_old_readings(plant).n_readings == 0
    assert read_status(plant).n_removed == removal.n_readings


def test_a_corrected_neighbour_does_not_bring_a_file_out_of_balance(aged):
    data = aged.config.folder / "data"
    neighbour = data / f"{FIRST + timedelta(days=N_NIGHTS - 1)}.csv"
    old = plant_readings(30, seed=70, start=f"{FIRST + timedelta(days=2)} 12:00")
    put_file(data / "overlapping.csv", pd.concat([old, pd.read_csv(neighbour)]))
    night_run(aged)
    assert query(aged, "SELECT count(*) > 0 FROM mart.rejected_readings WHERE reason = 'duplicate'") == [(True,)]
    assert remove_old_readings(aged).n_readings > 0
    assert query(
        aged,
        "SELECT count(*) FROM core.removed_rows JOIN ingest.files USING (file_id) WHERE path LIKE '%overlapping.csv'",
    ) == [(1,)]
    corrected = pd.read_csv(neighbour)
    corrected["temperature"] += 0.5
    put_file(neighbour, corrected)
    night_run(aged)
    [balance] = [result for result in check_scores(aged) if result.name == "rows_balance"]
    assert balance.passed, balance.sentence


def test_a_night_that_is_refused_removes_nothing(aged):
    with aged.warehouse.transaction() as connection:
        connection.execute(
            "DELETE FROM mart.anomaly_scores WHERE reading_id = (SELECT max(reading_id) FROM core.readings)"
        )
    tables = (*OF_READINGS, "core.readings", "mart.removed_nights", "core.plant_facts")
    before = rows_of(aged, tables)
    with pytest.raises(ChecksFailedError, match="do not balance"):
        remove_old_readings(aged)
    assert rows_of(aged, tables) == before


def test_what_another_run_removed_meanwhile_is_counted_once(aged, monkeypatch):
    """The other run removes between the look at what is old and the transaction that removes it."""
    other = Plant.open(aged.config)
    transaction = aged.warehouse.transaction

    def after_another_run():
        if not query(aged, "FROM mart.removed_nights"):
            assert remove_old_readings(other).n_readings > 0
            counted.append(rows_of(aged, ("core.night_counts",)))
        return transaction()

    counted: list[dict] = []
    monkeypatch.setattr(aged.warehouse, "transaction", after_another_run)
    assert remove_old_readings(aged).n_readings == 0
    assert counted == [rows_of(aged, ("core.night_counts",))]


def test_without_the_section_nothing_goes(trained_plant):
    before = rows_of(trained_plant, (*OF_READINGS, "core.readings"))
    assert remove_old_readings(trained_plant).n_readings == 0
    assert rows_of(trained_plant, (*OF_READINGS, "core.readings")) == before
