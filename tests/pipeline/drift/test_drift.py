"""Drift: evidence that can be replayed, and verdicts that fit what happened to the plant."""

import shutil
from datetime import date, datetime

import numpy as np
import pandas as pd
import pytest

from pwflow_core.pipeline.decisions.verdicts import Decider, dismiss_verdict, moved_since
from pwflow_core.pipeline.drift.evidence import follow_drift
from pwflow_core.pipeline.readings.deriving import derive_readings
from pwflow_core.pipeline.regimes.changing import update_weights
from pwflow_core.pipeline.source.ingest import ingest_files
from tests.conftest import learn_all, open_plant, put_file, query, read_all, reopen, score_all

MACHINES = ("M1", "M2", "M3")
LEARNED_DAYS = 20
START = pd.Timestamp("2024-03-01", tz="UTC")
CONFIG = {
    "source": {"path": "data/*", "timestamp": "ts", "machine": "machine", "timezone": "UTC"},
    "sensors": {
        "load": {"unit": "kW"},
        "temperature": {"unit": "°C", "low": -50.0, "high": 200.0},
        "pressure": {"unit": "bar", "low": 0.0, "high": 60.0},
    },
    "features": {"windows": []},
    "clustering": {"n_clusters": 2},
}
STATES = "SELECT cluster_key, night, n_readings, state FROM core.drift_states ORDER BY ALL"
HEALTH = "SELECT * FROM mart.cluster_health ORDER BY ALL"
VERDICTS = "SELECT verdict, answer, cluster_keys, machine_ids, sensors, status FROM mart.drift_verdicts ORDER BY night"


def days(first, n, seed=0, busy_share=0.5):
    """Readings of some days, every ten minutes: two regimes, idle and busy, in stretches of three hours."""
    rng = np.random.default_rng([seed, first])
    times = START + pd.Timedelta(days=first) + pd.timedelta_range(0, periods=144 * n, freq="10min")
    parts = []
    for machine in MACHINES:
        busy = np.repeat(rng.random(8 * n) < busy_share, 18)
        noise = rng.normal(size=(144 * n, 3))
        for row in range(1, len(noise)):  # readings remember the one before
            noise[row] = 0.7 * noise[row - 1] + np.sqrt(1 - 0.49) * noise[row]
        load = np.where(busy, 30.0, 5.0) + noise[:, 0]
        parts.append(
            pd.DataFrame(
                {
                    "ts": times.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "machine": machine,
                    "load": load,
                    "temperature": 20 + load + 0.5 * noise[:, 0] + noise[:, 1],
                    "pressure": np.where(busy, 12.0, 8.0) + 0.4 * noise[:, 2],
                    "busy": busy,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def learned_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drift")
    put_file(folder / "data" / "learned.parquet", days(0, LEARNED_DAYS).drop(columns="busy"))
    plant = open_plant(folder, CONFIG)
    read_all(plant)
    learn_all(plant)
    follow_drift(plant)
    shutil.rmtree(folder / "data")
    return folder


@pytest.fixture
def plant(learned_folder, tmp_path):
    shutil.copytree(learned_folder, tmp_path, dirs_exist_ok=True)
    return open_plant(tmp_path, CONFIG)


def arrive(plant, readings, name):
    put_file(plant.config.folder / "data" / f"{name}.parquet", readings.drop(columns="busy"))
    read_all(plant)
    score_all(plant)


def correct(plant, readings, name):
    """Write a file that was read before once more; return how many readings changed."""
    put_file(plant.config.folder / "data" / f"{name}.parquet", readings.drop(columns="busy"))
    assert ingest_files(plant).n_changed == 1
    n_changed = derive_readings(plant).n_changed
    score_all(plant)
    return n_changed


def busy_key(plant):
    [(key,)] = query(
        plant, "SELECT cluster_key FROM mart.anomaly_scores JOIN core.readings USING (reading_id) WHERE load > 20 "
        "AND cluster_key IS NOT NULL GROUP BY ALL ORDER BY count(*) DESC LIMIT 1"
    )  # fmt: skip
    return key


def forget(plant):
    with plant.warehouse.transaction() as connection:
        for table in ("core.drift_blocks", "core.drift_references", "core.drift_states"):
            connection.execute(f"DELETE FROM {table}")


def test_ordinary_nights_have_evidence_and_no_verdict(plant):
    arrive(plant, days(LEARNED_DAYS, 20), "later")
    summary = follow_drift(plant)
    assert summary.n_nights == 2 * 20
    assert summary.verdicts == []
    assert set(summary.evidence) == {"c0001", "c0002"}
    assert max(summary.evidence.values()) < summary.threshold
    rows = query(
        plant, "SELECT count(*), max(evidence), min(threshold) FROM mart.cluster_health WHERE channel = 'drift'"
    )
    assert rows[0][0] == 40
    assert rows[0][1] < rows[0][2]


def test_a_second_look_changes_nothing(plant):
    arrive(plant, days(LEARNED_DAYS, 6), "later")
    follow_drift(plant)
    before = query(plant, STATES), query(plant, HEALTH)
    assert follow_drift(plant).n_nights == 0
    assert (query(plant, STATES), query(plant, HEALTH)) == before


def test_nights_one_by_one_come_to_what_they_come_to_at_once(plant):
    whole = days(LEARNED_DAYS, 3)
    day = pd.to_datetime(whole.ts).dt.date
    for number, night in enumerate(sorted(day.unique())):
        arrive(plant, whole[day == night], f"night-{number}")
        follow_drift(plant)
    one_by_one = query(plant, STATES)
    forget(plant)
    follow_drift(plant)
    assert query(plant, STATES) == one_by_one
    assert len(one_by_one) == 2 * 3


def test_nights_without_a_change_are_not_looked_at_unless_what_was_followed_does_not_add_up(plant):
    whole = days(LEARNED_DAYS, 6)
    last = whole.ts >= "2024-03-26"
    arrive(plant, whole[~last], "later")
    follow_drift(plant)

    def change(statement):
        with plant.warehouse.transaction() as connection:
            connection.execute(f"{statement} WHERE night = '2024-03-22'")

    change("UPDATE core.drift_states SET fingerprint = 0")
    arrive(plant, whole[last], "last")
    assert follow_drift(plant).n_nights == 2, "the night that came"
    followed = query(plant, STATES)
    change("DELETE FROM core.drift_states")
    assert follow_drift(plant).n_nights == 2 * 5, "the night that is missing, and those after it"
    assert query(plant, STATES) == followed
    forget(plant)
    follow_drift(plant)
    assert query(plant, STATES) == followed


def test_late_readings_and_a_clock_that_jumps_back_change_their_own_night_and_those_after_it(plant):
    whole = days(LEARNED_DAYS, 6)
    late = (whole.machine == "M2") & whole.ts.between("2024-03-23T06", "2024-03-23T18")
    arrive(plant, whole[~late], "later")
    follow_drift(plant)
    before = dict(((key, night), state) for key, night, _, state in query(plant, STATES))
    arrive(plant, whole[late], "late")
    assert follow_drift(plant).n_nights == 2 * 4  # the third night and the three after it
    after = dict(((key, night), state) for key, night, _, state in query(plant, STATES))
    assert {night for (_, night), state in after.items() if state != before[_, night]} == {
        date(2024, 3, day) for day in (23, 24, 25, 26)
    }
    forget(plant)
    follow_drift(plant)
    assert dict(((key, night), state) for key, night, _, state in query(plant, STATES)) == after


@pytest.mark.parametrize("counts", [(2,), pytest.param((2, 4), marks=pytest.mark.long(reason="4 CPU s: one more"))])
def test_evidence_follows_a_correction_of_an_even_number_of_readings(plant, counts):
    later = days(LEARNED_DAYS, 3)
    arrive(plant, later, "later")
    follow_drift(plant)
    second = later.index[(later.machine == "M2") & later.busy & later.ts.str.startswith("2024-03-22")]
    for n_corrected in counts:
        later.loc[second[:n_corrected], "pressure"] += 0.5
        assert correct(plant, later, "later") == n_corrected
        assert follow_drift(plant).n_nights == 2, "the night of the correction and the one after it"
    corrected = query(plant, STATES)
    forget(plant)
    follow_drift(plant)
    assert query(plant, STATES) == corrected


def test_evidence_from_before_fingerprints_saw_every_change_is_drawn_again_and_only_what_was_wrong_changes(plant):
    arrive(plant, days(LEARNED_DAYS, 3), "later")
    follow_drift(plant)
    references = "SELECT * FROM core.drift_references ORDER BY cluster_key"
    right, compared = query(plant, STATES), query(plant, references)
    with plant.warehouse.transaction() as connection:
        connection.execute("UPDATE core.warehouse_state SET schema_version = 5")
        connection.execute(
            "UPDATE core.drift_states SET state = other.state FROM (SELECT * FROM core.drift_states) AS other "
            "WHERE other.cluster_key = drift_states.cluster_key AND other.night = drift_states.night + 1"
        )
    assert query(plant, STATES) != right
    plant = open_plant(plant.config.folder, CONFIG)
    score_all(plant)
    assert follow_drift(plant).n_nights == 2 * 3
    assert query(plant, STATES) == right
    assert query(plant, references) == compared


def test_readings_from_the_future_are_no_evidence(plant):
    arrive(plant, days(LEARNED_DAYS, 3), "later")
    arrive(plant, days(LEARNED_DAYS + 4000 * 2, 1), "future")
    follow_drift(plant)
    [(last,)] = query(plant, "SELECT max(night) FROM core.drift_states")
    assert last == date(2024, 3, 23)


def test_a_regime_that_moved_on_all_machines_is_to_be_learned_again_and_only_it(plant):
    later = days(LEARNED_DAYS, 12)
    later.loc[later.busy, "pressure"] += 0.8
    arrive(plant, later, "later")
    key = busy_key(plant)
    [finding] = follow_drift(plant).verdicts
    assert (finding.verdict, finding.answer, finding.cluster_keys) == ("regime_moved", "retrain", (key,))
    assert finding.machine_ids == MACHINES
    assert finding.sensors[0] == "pressure"
    assert "pressure reads" in finding.summary
    assert "bar" in finding.summary
    assert 1.2 < finding.effect_size < 2.8
    assert date(2024, 3, 19) <= finding.since <= date(2024, 3, 24)


def test_machines_that_moved_while_another_held_still_are_a_question_and_nothing_is_learned_from_them(plant):
    later = days(LEARNED_DAYS, 12)
    later.loc[later.machine != "M3", "pressure"] += 1.0
    arrive(plant, later, "later")
    findings = follow_drift(plant).verdicts
    assert findings
    assert {finding.answer for finding in findings} == {"ask"}
    assert all(set(finding.machine_ids) == {"M1", "M2"} for finding in findings)
    assert all("pressure" in finding.summary for finding in findings)


def test_a_change_of_unit_is_named_although_its_values_are_refused(plant):
    later = days(LEARNED_DAYS, 5)
    later["pressure"] *= 100  # bar to kPa, far above the physical limit
    arrive(plant, later, "later")
    findings = [finding for finding in follow_drift(plant).verdicts if finding.verdict == "sensor_suspected"]
    [(refused,)] = query(plant, "SELECT count(*) FROM mart.rejected_readings WHERE reason = 'above_limit'")
    assert refused == len(later)
    [finding] = findings
    assert finding.sensors == ("pressure",)
    assert finding.machine_ids == MACHINES
    assert "scale × 100 suspected (bar to kPa)" in finding.summary
    assert finding.answer == "ask"


def test_a_silent_machine_is_an_outage_until_its_readings_come_again(plant):
    later = days(LEARNED_DAYS, 8)
    day = pd.to_datetime(later.ts).dt.day
    silent = (later.machine == "M3") & day.between(23, 25)
    early = day <= 25
    arrive(plant, later[early & ~silent], "early")
    [finding] = follow_drift(plant).verdicts
    assert (finding.verdict, finding.answer, finding.machine_ids) == ("outage", "none", ("M3",))
    assert finding.since == date(2024, 3, 23)
    assert query(plant, "SELECT status FROM mart.drift_verdicts") == [("open",)]
    arrive(plant, later[~early], "late")
    assert follow_drift(plant).verdicts == []
    assert query(plant, "SELECT status FROM mart.drift_verdicts") == [("done",)]


def test_a_record_that_ends_in_mid_day_is_no_outage_until_it_goes_on_without_the_machine(plant):
    later = days(LEARNED_DAYS, 5)
    cut = later.ts < "2024-03-24T06"
    without = ~((later.machine == "M3") & (later.ts >= "2024-03-24T06") & (later.ts < "2024-03-25"))
    arrive(plant, later[cut], "early")
    assert follow_drift(plant).verdicts == []
    arrive(plant, later[~cut & without], "late")
    [finding] = follow_drift(plant).verdicts
    assert (finding.verdict, finding.machine_ids, finding.since) == ("outage", ("M3",), date(2024, 3, 24))
    assert query(plant, "SELECT status, ended FROM mart.drift_verdicts") == [("done", date(2024, 3, 25))]


@pytest.mark.parametrize(
    "at_once", [True, pytest.param(False, marks=pytest.mark.long(reason="6 CPU s: nights one by one stay above"))]
)
def test_a_verdict_is_closed_when_what_it_tells_of_is_gone_in_any_split_of_nights(plant, at_once):
    later = days(LEARNED_DAYS, 20)
    day = pd.to_datetime(later.ts).dt.day_of_year - 81
    later.loc[later.busy & (later.machine != "M3") & (day < 9), "pressure"] += 1.0
    for first, last in [(0, 20)] if at_once else [(0, 7), (7, 11), (11, 14), (14, 20)]:
        arrive(plant, later[(day >= first) & (day < last)], f"from-{first}")
        follow_drift(plant)
    [(kind, status, night, ended)] = query(plant, "SELECT verdict, status, night, ended FROM mart.drift_verdicts")
    assert (kind, status) == ("machine_moved", "done")
    assert (night < date(2024, 3, 30), ended) == (True, date(2024, 3, 31))


def test_a_change_of_mix_is_answered_by_weights_and_not_by_training(plant):
    arrive(plant, days(LEARNED_DAYS, 20, busy_share=0.95), "later")
    findings = follow_drift(plant).verdicts
    assert [(finding.verdict, finding.answer) for finding in findings] == [("mix_moved", "update_weights")]
    assert query(
        plant, "SELECT count(*) > 0 FROM mart.cluster_health WHERE channel = 'mix of all' AND evidence > threshold"
    )


def test_what_goes_on_is_found_once_and_what_a_person_dismissed_is_not_found_again(plant):
    later = days(LEARNED_DAYS, 20)
    later.loc[later.busy, "pressure"] += 0.8
    day = pd.to_datetime(later.ts).dt.day
    arrive(plant, later[(day >= 20) & (day <= 31)], "early")
    [finding] = follow_drift(plant).verdicts
    dismiss_verdict(plant, finding.verdict_id, by=Decider("a person"))
    arrive(plant, later[day <= 9], "late")
    assert follow_drift(plant).verdicts == []
    assert query(plant, "SELECT status, decided_by FROM mart.drift_verdicts") == [("dismissed", "a person")]


def test_judging_goes_on_after_regimes_were_found_anew_and_all_of_them_stayed(plant):
    [(model_id,)] = query(plant, "SELECT cluster_model_id FROM core.cluster_models WHERE in_force")
    keys = [key for (key,) in query(plant, "SELECT cluster_key FROM mart.clusters ORDER BY cluster_key")]
    update_weights(plant, "all", dict.fromkeys(keys, 1.0), decided_by="a person", reason="they are alike")
    assert query(plant, "SELECT count(*) FROM mart.flow_versions WHERE cluster_model_id <> ?", model_id) == [(0,)]
    assert query(plant, "SELECT cluster_model_id FROM core.cluster_models WHERE in_force") != [(model_id,)]
    later = days(LEARNED_DAYS, 20)
    later.loc[later.busy, "pressure"] += 0.8
    arrive(plant, later, "later")
    assert [finding.verdict for finding in follow_drift(plant).verdicts] == ["regime_moved"]
    assert query(plant, "SELECT count(DISTINCT night) FROM core.judged_nights") == [(20,)]


def test_a_verdict_about_a_regime_that_was_retired_is_closed(plant):
    with plant.warehouse.transaction() as connection:
        connection.execute(
            "INSERT INTO mart.drift_verdicts BY NAME SELECT 'v1' AS verdict_id, DATE '2024-03-20' AS night, "
            "'new_regime' AS verdict, ['c0099'] AS cluster_keys, 'ask' AS answer, 'open' AS status"
        )
    arrive(plant, days(LEARNED_DAYS, 2), "later")
    follow_drift(plant)
    assert query(plant, "SELECT status, decided_by FROM mart.drift_verdicts WHERE verdict_id = 'v1'") == [
        ("done", "drift")
    ]
    assert query(plant, "SELECT from_status, to_status, reason FROM mart.verdict_changes WHERE verdict_id = 'v1'") == [
        ("open", "done", "the regimes were found again")
    ]


@pytest.mark.parametrize(("timezone", "begins"), [("Asia/Tokyo", "2024-03-25 15:00"), ("UTC", "2024-03-26 00:00")])
def test_a_regime_moved_since_the_beginning_of_a_night_of_the_plant(plant, timezone, begins):
    plant = reopen(plant, schedule={"timezone": timezone})
    with plant.warehouse.transaction() as connection:
        connection.execute(
            "INSERT INTO mart.drift_verdicts BY NAME SELECT 'v1' AS verdict_id, ['c0001'] AS cluster_keys, "
            "DATE '2024-03-26' AS since, 'retrain' AS answer, 'open' AS status"
        )
    assert moved_since(plant, ["c0001", "c0002"]) == {"c0001": datetime.fromisoformat(begins)}
