"""Checks: each fails for the fault that it is there for, and for nothing that happens in honest operation."""

import dataclasses
import hashlib

import numpy as np
import pytest

from pwflow_core.errors import ChecksFailedError
from pwflow_core.modelling.calibration import distance_from_uniform
from pwflow_core.pipeline.flows.training import train_cluster_flows
from pwflow_core.pipeline.publishing.publishing import publish_warehouse
from pwflow_core.pipeline.readings.folds import CALIBRATION_FOLDS
from pwflow_core.pipeline.regimes.finding import fit_cluster_model
from pwflow_core.pipeline.scoring.check_list import CHECKS, SCHEMA_CHECK
from pwflow_core.pipeline.scoring.checks import CheckResult, check_scores, refuse_failed_checks
from pwflow_core.pipeline.scoring.densities import score_slices
from pwflow_core.pipeline.scoring.scores import derive_scores
from tests.conftest import plant_readings, put_file, query, read_all, reopen, score_all

BLOCKING = ("schema_is_unchanged", "rows_balance", "model_sets_agree", "p_values_are_uniform")

FAULTS = {
    "a score is lost": (
        "rows_balance",
        "DELETE FROM mart.anomaly_scores WHERE reading_id = (SELECT min(reading_id) FROM core.readings)",
    ),
    "a reading is lost with its score": (
        "rows_balance",
        "DELETE FROM mart.anomaly_scores WHERE reading_id = (SELECT min(reading_id) FROM core.readings);"
        "DELETE FROM core.readings WHERE reading_id = (SELECT min(reading_id) FROM core.readings)",
    ),
    "a raw row is lost": ("rows_balance", "DELETE FROM ingest.raw_readings WHERE row_number = 7"),
    "a refusal is forgotten": (
        "rows_balance",
        "INSERT INTO mart.rejected_readings BY NAME SELECT file_id, 1 AS row_number, 'duplicate' AS reason "
        "FROM ingest.files",
    ),
    "a reading is scored twice": (
        "rows_balance",
        "INSERT INTO mart.anomaly_scores SELECT * FROM mart.anomaly_scores LIMIT 1",
    ),
    "one is lost and another scored twice": (
        "rows_balance",
        "DELETE FROM mart.anomaly_scores WHERE reading_id = (SELECT min(reading_id) FROM core.readings);"
        "INSERT INTO mart.anomaly_scores SELECT * FROM mart.anomaly_scores LIMIT 1",
    ),
    "a score without a reading": (
        "rows_balance",
        "INSERT INTO mart.anomaly_scores SELECT * REPLACE (-1 AS reading_id) FROM mart.anomaly_scores LIMIT 1",
    ),
    "a column is dropped": ("schema_is_unchanged", "ALTER TABLE mart.anomaly_scores DROP COLUMN status"),
    "a column gets another type": ("schema_is_unchanged", "ALTER TABLE mart.clusters ALTER weight TYPE VARCHAR"),
    "a column is added": ("schema_is_unchanged", "ALTER TABLE mart.flow_versions ADD COLUMN note VARCHAR"),
    "a sensor gets another type": ("schema_is_unchanged", "ALTER TABLE core.readings ALTER pressure TYPE VARCHAR"),
    "a flow that nobody pinned": (
        "model_sets_agree",
        "UPDATE mart.anomaly_scores SET flow_version = 'other' "
        "WHERE reading_id = (SELECT max(reading_id) FROM mart.anomaly_scores WHERE status = 'scored')",
    ),
    "a model set that nobody pinned": (
        "model_sets_agree",
        "UPDATE mart.anomaly_scores SET model_set_id = 'other' WHERE ts < '2024-03-01 06:00'",
    ),
}


def results(plant) -> dict[str, bool]:
    return {result.name: result.passed for result in check_scores(plant)}


def published(plant) -> str:
    return hashlib.sha256(plant.config.published_path.read_bytes()).hexdigest()


def change(plant, statements: str) -> None:
    with plant.warehouse.transaction() as connection:
        connection.execute(statements)


def test_everything_passes_on_a_plant_that_is_in_order(trained_plant):
    found = check_scores(trained_plant)
    assert [result.name for result in found if result.is_blocking] == list(BLOCKING)
    assert all(result.passed for result in found if result.is_blocking), found
    balance = found[1].figures
    assert balance["ingested"] == 3000 == balance["scored"] + balance["unjudged"]


def test_only_the_check_of_the_columns_keeps_others_from_being_run(trained_plant):
    """It is known by its name, wherever it stands among those that are asked for."""
    for fault in ("a score is lost", "a flow that nobody pinned"):
        change(trained_plant, FAULTS[fault][1])
    others = [check for check in CHECKS if check is not SCHEMA_CHECK]
    assert len(others) == len(CHECKS) - 1
    with (
        trained_plant.warehouse.snapshot() as connection,
        pytest.raises(ChecksFailedError, match=r"do not balance.*not in its model set"),
    ):
        refuse_failed_checks(trained_plant, connection, others)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_its_check_and_nothing_is_published(trained_plant, fault):
    name, statements = FAULTS[fault]
    before = published(trained_plant)
    change(trained_plant, statements)
    assert [result.name for result in check_scores(trained_plant) if result.is_blocking and not result.passed] == [name]
    with pytest.raises(ChecksFailedError, match="what was published before stays in use"):
        publish_warehouse(trained_plant)
    assert published(trained_plant) == before


def test_slices_of_a_flow_that_was_not_calibrated_fail_the_uniformity(trained_plant):
    """The p-values of a regime come from a calibration that does not belong to its log-densities."""
    change(
        trained_plant,
        "UPDATE core.component_log_density SET conformity = conformity - 3 WHERE cluster_key = 'c0001';"
        "DELETE FROM core.progress WHERE step = 'scores'",
    )
    derive_scores(trained_plant)
    [failed] = [result for result in check_scores(trained_plant) if not result.passed and result.is_blocking]
    assert failed.name == "p_values_are_uniform"
    assert "c0001" in failed.sentence
    assert not any(key in failed.sentence for key in ("c0002", "c0003", "c0004"))


def test_a_calibration_that_does_not_hold_for_other_readings_fails_the_uniformity(trained_plant):
    """Both folds calibrate, and together their own p-values are uniform; those of one by the other are not."""
    change(
        trained_plant,
        "UPDATE core.plant_facts SET value = '300' WHERE fact = 'block_seconds';"  # enough of them to tell
        "UPDATE core.component_log_density SET conformity = conformity - 9 WHERE cluster_key = 'c0001' AND reading_id "
        f"IN (SELECT reading_id FROM core.readings WHERE fold = {CALIBRATION_FOLDS[0]});"
        "DELETE FROM core.progress WHERE step = 'scores';"
        "DELETE FROM core.calibration; DELETE FROM core.calibration_steps",
    )
    derive_scores(trained_plant)
    own = query(
        trained_plant,
        "SELECT p_value FROM mart.anomaly_scores JOIN core.readings USING (reading_id) WHERE cluster_key = 'c0001' "
        f"AND status = 'scored' AND fold IN {CALIBRATION_FOLDS}",
    )
    assert distance_from_uniform(np.ravel(own)) < 0.25
    [failed] = [result for result in check_scores(trained_plant) if not result.passed and result.is_blocking]
    assert failed.name == "p_values_are_uniform"
    assert "c0001" in failed.sentence
    assert failed.figures["distance in c0001"] > 0.5


def test_uniform_p_values_that_move_in_blocks_do_not_fail(trained_plant):
    """Readings of a block that are all alike are one reading: p-values drawn per block stay within tolerance.

    Conformity is drawn per block, and calibrated as it is: each p-value is the rank of its block.
    """
    for seed in (0.1, 0.2, 0.3, 0.4, 0.5):
        change(
            trained_plant,
            f"SELECT setseed({seed});"
            "CREATE OR REPLACE TEMP TABLE blocks AS SELECT machine_id, floor(epoch(ts) / 1920) AS block, random() AS p "
            "FROM (SELECT DISTINCT machine_id, time_bucket(INTERVAL 32 MINUTE, ts) AS ts FROM mart.anomaly_scores);"
            "UPDATE core.component_log_density SET conformity = ln(blocks.p) FROM blocks JOIN core.readings AS reading "
            "ON blocks.machine_id = reading.machine_id AND blocks.block = floor(epoch(ts) / 1920) "
            "WHERE reading.reading_id = core.component_log_density.reading_id;"
            "DELETE FROM core.progress WHERE step = 'scores'; DELETE FROM core.calibration;"
            "DELETE FROM core.calibration_steps; DELETE FROM core.level_steps; DELETE FROM core.merged_steps",
        )
        derive_scores(trained_plant)
        assert results(trained_plant)["p_values_are_uniform"]


def test_p_values_that_do_not_come_from_the_scores_fail_the_uniformity(trained_plant):
    """However uniform they are."""
    change(trained_plant, "UPDATE mart.anomaly_scores SET p_value = random() WHERE cluster_key = 'c0001'")
    [failed] = [result for result in check_scores(trained_plant) if not result.passed and result.is_blocking]
    assert failed.name == "p_values_are_uniform"
    assert "c0001" in failed.sentence


def test_p_values_within_a_loose_regime_are_judged_without_its_level(trained_plant):
    """Those that are published are smaller there, as they should be."""
    change(
        trained_plant,
        "UPDATE core.component_log_density SET log_density = log_density - 5 WHERE cluster_key = 'c0001';"
        "DELETE FROM core.progress WHERE step = 'scores'; DELETE FROM core.calibration;"
        "DELETE FROM core.calibration_steps; DELETE FROM core.level_steps; DELETE FROM core.merged_steps",
    )
    derive_scores(trained_plant)
    [published] = query(trained_plant, "SELECT median(p_value) FROM mart.anomaly_scores WHERE cluster_key = 'c0001'")
    assert published[0] < 0.5
    assert results(trained_plant)["p_values_are_uniform"]


def test_a_retrained_regime_passes_and_its_forgotten_slice_does_not(trained_plant):
    """Scores of two model sets stand side by side, as long as no reading has a candidate that they disagree on."""
    older = query(trained_plant, "SELECT reading_id FROM core.cluster_assignments WHERE cluster_key = 'c0002'")
    changed = reopen(trained_plant, flow={"random_state": 1})
    train_cluster_flows(changed, ["c0002"], reason="drift", promoted_by="test", challenge=False)
    score_all(changed)
    assert query(changed, "SELECT count(DISTINCT model_set_id) FROM mart.anomaly_scores") == [(2,)]
    assert results(changed)["model_sets_agree"]
    first = query(changed, "SELECT model_set_id FROM core.model_sets ORDER BY pinned_at LIMIT 1")[0][0]
    forgotten = older[0][0]
    change(
        changed,
        f"UPDATE mart.anomaly_scores SET model_set_id = '{first}', scored_at = '2020-01-01', status = 'missing' "
        f"WHERE reading_id = {forgotten}",
    )
    [failed] = [result for result in check_scores(changed) if not result.passed and result.is_blocking]
    assert failed.name == "model_sets_agree"
    assert failed.sentence.startswith("1 readings were scored before a flow of one of its regimes was replaced")


@pytest.mark.parametrize("state", ["new readings wait", "new regimes wait", "a file is replaced", "a file waits"])
def test_what_waits_for_the_next_step_is_not_lost(trained_plant, state):
    if state == "new readings wait":
        put_file(trained_plant.config.folder / "data" / "night.csv", plant_readings(30, seed=7, start="2024-04-01"))
        read_all(trained_plant)
    elif state == "new regimes wait":
        changed = reopen(trained_plant, clustering={"random_state": 3, "n_clusters": 1})
        fit_cluster_model(changed)
    else:
        from pwflow_core.pipeline.source.ingest import ingest_files

        path = trained_plant.config.folder / "data" / "night.csv"
        if state == "a file is replaced":
            put_file(path, plant_readings(30, seed=7, start="2024-04-01"))
            read_all(trained_plant)
            score_all(trained_plant)
        put_file(path, plant_readings(40, seed=8, start="2024-04-01"))
        summary = ingest_files(trained_plant)
        assert (summary.n_new, summary.n_changed) == ((0, 1) if state == "a file is replaced" else (1, 0))
    assert all(results(trained_plant)[name] for name in BLOCKING), check_scores(trained_plant)
    publish_warehouse(trained_plant)


def test_refused_rows_and_lines_balance(trained_plant):
    rows = plant_readings(30, seed=7, start="2024-04-01").astype(object)
    rows.loc[3, "ts"] = "yesterday"
    rows.loc[4, "temperature"] = "Bad"
    rows.loc[5, "temperature"] = np.inf
    text = rows.to_csv(index=False) + rows.iloc[:2].to_csv(index=False, header=False) + "1,2,3\n"
    put_file(trained_plant.config.folder / "data" / "night.csv", text)
    read_all(trained_plant)
    score_all(trained_plant)
    [balance] = [result for result in check_scores(trained_plant) if result.name == "rows_balance"]
    assert balance.passed, balance
    assert balance.figures["rejected"] >= 3
    change(trained_plant, "DELETE FROM mart.rejected_readings WHERE reason = 'duplicate'")
    assert not results(trained_plant)["rows_balance"]


def test_a_night_of_alarms_warns_and_is_published(trained_plant):
    """A real fault must not keep its own alarms from coming out."""
    put_file(
        trained_plant.config.folder / "data" / "night.csv",
        plant_readings(60, seed=7, start="2024-04-01").assign(pressure=40.0),
    )
    read_all(trained_plant)
    score_all(trained_plant)
    [warning] = [result for result in check_scores(trained_plant) if not result.passed]
    assert (warning.name, warning.is_blocking) == ("alarms_within_budget", False)
    assert "2024-04-01" in warning.sentence
    before = published(trained_plant)
    publish_warehouse(trained_plant)
    assert published(trained_plant) != before


def test_a_regime_that_hardly_alarms_warns_and_one_that_does_so_by_chance_does_not(trained_plant):
    change(trained_plant, "UPDATE mart.anomaly_scores SET is_anomaly = false WHERE status = 'scored'")
    assert results(trained_plant)["alarms_not_too_few"], "so few readings may have no alarm"
    change(trained_plant, "UPDATE core.model_sets SET alpha = 0.5")
    [silent] = [result for result in check_scores(trained_plant) if result.name == "alarms_not_too_few"]
    assert not silent.passed
    assert not silent.is_blocking
    assert silent.sentence.startswith("Fewer alarms than normal readings alone should give: c0001 (0 of ")
    change(
        trained_plant,
        "UPDATE mart.anomaly_scores SET is_anomaly = hash(reading_id) % 2 = 0 WHERE status = 'scored'",
    )
    assert results(trained_plant)["alarms_not_too_few"]


def test_a_night_with_fewer_decimals_warns_of_the_sensor_and_machine_and_a_fine_one_or_a_machine_at_rest_does_not(
    trained_plant,
):
    def finding(start: str, change) -> CheckResult:
        night = plant_readings(400, seed=4, start=start)
        change(night)
        put_file(trained_plant.config.folder / "data" / f"{start}.parquet", night)
        read_all(trained_plant)
        score_all(trained_plant)
        [found] = [check for check in check_scores(trained_plant) if check.name == "sensors_as_fine_as_learned"]
        return found

    def round_one(night):
        own = night.machine == "press-2"
        night.loc[own, "pressure"] = night.loc[own, "pressure"].round(1)

    def stand_still(night):
        night.loc[night.machine == "press-2", "pressure"] = 3.0

    assert finding("2024-04-01", lambda night: None).passed
    assert finding("2024-04-02", stand_still).passed
    coarse = finding("2024-04-03", round_one)
    assert not coarse.passed
    assert not coarse.is_blocking
    assert "pressure of press-2 (steps of 0.1 bar, learned from finer readings)" in coarse.sentence
    assert coarse.figures == {"sensors that came coarser": 1}


def test_results_are_values(trained_plant):
    for result in check_scores(trained_plant):
        assert dataclasses.asdict(result)["sentence"].endswith(".")
        assert all(isinstance(value, int | float | str) for value in result.figures.values())


def test_checks_leave_the_warehouse_as_it_is(trained_plant):
    before = hashlib.sha256(trained_plant.warehouse.path.read_bytes()).hexdigest()
    check_scores(trained_plant)
    assert hashlib.sha256(trained_plant.warehouse.path.read_bytes()).hexdigest() == before


def test_a_slice_of_another_version_is_never_mixed_in(trained_plant):
    """A flow put in use without scoring its slice changes nothing: the pins are those of the slices."""
    changed = reopen(trained_plant, flow={"random_state": 1})
    train_cluster_flows(changed, ["c0001"], reason="drift", promoted_by="test", challenge=False)
    derive_scores(changed)
    assert all(results(changed)[name] for name in BLOCKING)
    list(score_slices(changed))
    derive_scores(changed)
    assert all(results(changed)[name] for name in BLOCKING)
