"""Evaluation against known faults: what is found, how late, and what alarms for nothing."""

import json

import numpy as np
import pandas as pd
import pytest

from pwflow_core.errors import LabelsError
from pwflow_core.pipeline.evaluation.describing import describe_evaluation, tabulate_evaluation, to_json
from pwflow_core.pipeline.evaluation.evaluation import evaluate_plant
from pwflow_core.pipeline.evaluation.labels import labels_from_column, labels_from_file, labels_of_simulation
from pwflow_core.pipeline.scoring.events import derive_events
from pwflow_core.pipeline.source.ingest import ingest_files
from tests.conftest import MakePlant, frame, put_file, query, read_all, reopen

CALM = """
    UPDATE mart.anomaly_scores SET is_anomaly = false, anomaly_score = hash(reading_id) % 1000 / 1000.0
    WHERE status = 'scored'
"""
ALARM = (
    "UPDATE mart.anomaly_scores SET is_anomaly = true, anomaly_score = 5, status = 'scored' "
    "WHERE machine_id = '{0}' AND ts BETWEEN '{1}' AND '{2}'"
)


def arrange(plant, *statements: str) -> None:
    """Replace the alarms of a plant by known ones."""
    with plant.warehouse.transaction() as connection:
        for statement in (CALM, *statements):
            connection.execute(statement)
    derive_events(plant)


def labels(plant, text: str, timezone: str | None = None):
    return labels_from_file(plant, put_file(plant.config.folder / "labels.csv", text), timezone)


def by_kind(evaluation) -> dict:
    return {kind.kind: kind for kind in evaluation.kinds}


INTERVALS = """machine,start,end,kind
press-1,2024-03-01T10:00:00Z,2024-03-01T10:19:00Z,leak
press-1,2024-03-01T12:00:00Z,2024-03-01T12:09:00Z,leak
press-2,2024-03-01T10:00:00Z,2024-03-01T10:09:00Z,jam
press-2,2024-03-01T15:00:00Z,2024-03-01T15:09:00Z,jam
"""


@pytest.fixture
def arranged(trained_plant):
    arrange(
        trained_plant,
        ALARM.format("press-1", "2024-03-01 10:07", "2024-03-01 10:08"),  # in the leak, seven minutes late
        ALARM.format("press-1", "2024-03-01 10:30", "2024-03-01 10:31"),  # false
        ALARM.format("press-1", "2024-03-01 10:33", "2024-03-01 10:33"),  # the same false alarm
        ALARM.format("press-2", "2024-03-01 09:58", "2024-03-01 10:02"),  # begins before the jam and reaches into it
        "UPDATE mart.anomaly_scores SET status = 'stuck', is_anomaly = NULL, anomaly_score = NULL "
        "WHERE machine_id = 'press-2' AND ts BETWEEN '2024-03-01 15:02' AND '2024-03-01 15:05'",
    )
    return trained_plant


def test_faults_are_found_late_by_status_or_not_at_all(arranged):
    found = by_kind(evaluate_plant(arranged, labels(arranged, INTERVALS)))
    leak, jam, total = found["leak"], found["jam"], found["all"]
    assert (leak.n_faults, leak.n_found, leak.n_found_by_status, leak.delay_minutes) == (2, 1, 0, 7.0)
    assert (jam.n_faults, jam.n_found, jam.n_found_by_status, jam.delay_minutes) == (2, 1, 1, 0.0)
    assert (total.n_faults, total.n_found, total.recall, total.delay_minutes) == (4, 2, 0.5, 3.5)
    assert (leak.n_readings, jam.n_readings, total.n_readings) == (30, 20, 50)
    assert jam.n_unjudged >= 4


def test_alarms_outside_of_faults_are_counted_as_events(arranged):
    evaluation = evaluate_plant(arranged, labels(arranged, INTERVALS))
    assert evaluation.n_false_alarms == 1
    assert evaluation.n_days == pytest.approx(1500 / 1440)
    assert evaluation.false_alarms_per_day == pytest.approx(0.96)
    assert evaluation.n_readings == 3000
    assert not evaluation.is_unseen
    assert evaluation.n_true_alarms == 2
    assert evaluation.event_precision == pytest.approx(2 / 3)


def test_alarms_among_healthy_readings_are_told_as_a_share(arranged):
    evaluation = evaluate_plant(arranged, labels(arranged, INTERVALS))
    assert evaluation.n_healthy_alarms == 5, "three of the false alarm, two before the jam"
    [(n_scored,)] = query(arranged, "SELECT count(*) FROM mart.anomaly_scores WHERE status = 'scored'")
    assert n_scored - 50 <= evaluation.n_healthy < n_scored
    said = describe_evaluation(evaluation)
    assert "of all events 67% touch a fault" in said
    assert f"Of {evaluation.n_healthy:,} readings in no fault, 0.17% are anomalies" in said


def test_machines_that_the_plant_does_not_have_are_named(arranged):
    evaluation = evaluate_plant(arranged, labels(arranged, INTERVALS + INTERVALS.split("\n")[1].replace("1,", "9,", 1)))
    assert evaluation.unknown_machines == ["press-9"]
    assert describe_evaluation(evaluation).endswith("The labels name press-9, which the plant does not have.")
    times = pd.date_range("2024-03-01 10:00", periods=25, freq="60s", tz="UTC")
    rows = pd.DataFrame({"machine": "pump-1", "time": times, "label": 0})
    with pytest.raises(LabelsError, match="of the machines press-1, press-2, got pump-1: name the machines"):
        evaluate_plant(arranged, labels(arranged, rows.to_csv(index=False)))


def test_ranks_are_those_of_judged_readings(arranged):
    """AUROC is the share of pairs in the right order, ties counted half."""
    evaluation = by_kind(evaluate_plant(arranged, labels(arranged, INTERVALS)))
    scored = frame(arranged, "SELECT machine_id, ts, anomaly_score FROM mart.anomaly_scores WHERE status = 'scored'")
    faulty = (scored.machine_id == "press-1") & (
        scored.ts.between("2024-03-01 10:00", "2024-03-01 10:19")
        | scored.ts.between("2024-03-01 12:00", "2024-03-01 12:09")
    )
    jam = (scored.machine_id == "press-2") & (
        scored.ts.between("2024-03-01 10:00", "2024-03-01 10:09")
        | scored.ts.between("2024-03-01 15:00", "2024-03-01 15:09")
    )
    bad, good = scored.anomaly_score[faulty].to_numpy(), scored.anomaly_score[~faulty & ~jam].to_numpy()
    pairs = (bad[:, None] > good).mean() + (bad[:, None] == good).mean() / 2
    assert evaluation["leak"].auroc == pytest.approx(pairs)
    assert 0 < evaluation["leak"].average_precision < 1


@pytest.mark.parametrize("form", ["intervals", "points", "points without an offset", "parquet"])
def test_the_same_faults_come_out_of_every_form_of_labels(arranged, form):
    expected = labels(arranged, INTERVALS).faults
    intervals = pd.read_csv(arranged.config.folder / "labels.csv", parse_dates=["start", "end"])
    points = []
    for machine, own in intervals.groupby("machine"):
        times = pd.date_range("2024-03-01", periods=1440, freq="60s", tz="UTC")
        kind = np.full(len(times), "", dtype=object)
        for fault in own.itertuples():
            kind[(times >= fault.start) & (times <= fault.end)] = fault.kind
        points.append(
            pd.DataFrame({"machine": machine, "time": times, "label": (kind != "").astype(int), "kind": kind})
        )
    rows = pd.concat(points, ignore_index=True)
    if form == "intervals":
        content = intervals.rename(columns=str.upper)
    elif form == "points without an offset":
        content = rows.assign(time=rows.time.dt.tz_convert("Asia/Tokyo").dt.strftime("%Y-%m-%d %H:%M:%S"))
    else:
        content = rows
    path = arranged.config.folder / ("labels.parquet" if form == "parquet" else "labels.csv")
    put_file(path, content)
    zone = "Asia/Tokyo" if form == "points without an offset" else None
    assert labels_from_file(arranged, path, zone).faults == expected


def test_labels_per_reading_say_nothing_about_other_times(arranged):
    """What no label covers is neither faulty nor a false alarm."""
    times = pd.date_range("2024-03-01 10:00", periods=25, freq="60s", tz="UTC")
    rows = pd.DataFrame({"machine": "press-1", "time": times, "label": (np.arange(25) < 20).astype(int)})
    known = labels(arranged, rows.to_csv(index=False))
    evaluation = evaluate_plant(arranged, known)
    assert (evaluation.n_readings, evaluation.n_false_alarms) == (25, 0)
    assert evaluation.kinds[0].kind == "fault"


def test_labels_in_a_column_of_the_source(make_plant: MakePlant):
    times = pd.date_range("2024-03-01", periods=200, freq="60s", tz="UTC").astype(str)
    rows = pd.DataFrame({"ts": times, "machine": "m", "temperature": 1.0, "pressure": np.arange(200), "bad": 0})
    rows.loc[50:59, "bad"] = 1
    rows.loc[100:104, "bad"] = 1
    plant = make_plant(
        {"token=1/a.csv": rows, "b.parquet": rows.assign(machine="n", bad=0)}, source={"path": "data/**/*.*"}
    )
    read_all(plant)
    known = labels_from_column(plant, "bad")
    assert [(fault.machine_id, str(fault.started_at), str(fault.ended_at)) for fault in known.faults] == [
        ("m", "2024-03-01T00:50:00.000000", "2024-03-01T00:59:00.000000"),
        ("m", "2024-03-01T01:40:00.000000", "2024-03-01T01:44:00.000000"),
    ]
    assert list(known.known.machine_id) == ["m", "n"]
    with pytest.raises(LabelsError, match="Expected a column 'good' of 0 and 1"):
        labels_from_column(plant, "good")
    with pytest.raises(LabelsError, match="Expected labels of 0 or 1"):
        labels_from_column(plant, "pressure")


def test_the_time_that_models_learned_from_is_left_out_unless_asked_for(arranged):
    plant = reopen(arranged, training={"until": "2024-03-01T12:00:00Z"})
    known = labels(plant, INTERVALS)
    unseen, everything = evaluate_plant(plant, known), evaluate_plant(plant, known, with_training=True)
    assert unseen.is_unseen
    assert not everything.is_unseen
    assert by_kind(unseen)["all"].n_faults == 2
    assert unseen.n_readings < everything.n_readings == 3000
    assert unseen.n_false_alarms == 0


def test_tables_and_json_hold_every_kind(arranged):
    evaluation = evaluate_plant(arranged, labels(arranged, INTERVALS))
    assert list(tabulate_evaluation(evaluation)["fault"]) == ["jam", "leak", "all"]
    document = json.loads(to_json(evaluation))
    assert [kind["kind"] for kind in document["kinds"]] == ["jam", "leak", "all"]
    assert document["n_false_alarms"] == 1
    assert document["kinds"][2]["recall"] == 0.5


MISTAKES = {
    "wrong columns": ("a,b\n1,2\n", "has no column 'machine'"),
    "no label": ("machine,time\npress-1,2024-03-01T10:00:00Z\n", "rename them"),
    "other machines": (INTERVALS.replace("press", "pump"), "got pump-1, pump-2: name the machines as the source does"),
    "other times": (INTERVALS.replace("2024", "1999"), "none of the 4 faults holds a reading"),
    "labels of 2": ("machine,time,label\npress-1,2024-03-01T10:00:00Z,2\n", "Expected labels of 0 or 1"),
    "unreadable times": (INTERVALS.replace("2024-03-01T15:00:00Z", "noon:00Z"), "without a readable time"),
    "no file": (None, "there is no file at .*: name a file with the columns"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_wrong_labels_are_refused_with_a_sentence(arranged, mistake):
    text, message = MISTAKES[mistake]
    with pytest.raises(LabelsError, match=message):
        evaluate_plant(
            arranged,
            labels_from_file(arranged, arranged.config.folder / "nowhere.csv")
            if text is None
            else labels(arranged, text),
        )


def test_times_without_a_zone_are_refused_until_somebody_names_it(make_plant: MakePlant):
    plant = make_plant(source={"timezone": None})
    path = put_file(plant.config.folder / "labels.csv", "machine,start,end\nm,2024-03-01 10:00,2024-03-01 11:00\n")
    with pytest.raises(LabelsError, match="add --timezone"):
        labels_from_file(plant, path)
    with pytest.raises(LabelsError, match="Expected a time zone"):
        labels_from_file(plant, path, "Berlin")
    [fault] = labels_from_file(plant, path, "Europe/Berlin").faults
    assert str(fault.started_at) == "2024-03-01T09:00:00.000000"


def test_only_the_simulated_plant_knows_its_own_faults(arranged):
    with pytest.raises(LabelsError, match="name a file"):
        labels_of_simulation(arranged)


@pytest.mark.parametrize("text", ["", "machine,start,end\n", "machine,time,label\n"])
def test_a_file_without_labels_is_refused_as_empty(trained_plant, text):
    with pytest.raises(LabelsError, match=r"Expected labels in .*labels.csv, got no rows: give one row per fault"):
        labels(trained_plant, text)


def test_a_column_that_the_source_has_not_is_refused_with_those_that_it_has(make_plant):
    plant = make_plant({"day.csv": "ts,machine,temperature,pressure\n2024-03-01T00:00:00Z,a,1,2\n"})
    ingest_files(plant)
    with pytest.raises(LabelsError, match=r"Expected a column 'nosuch' of 0 and 1 in .*day.csv, got 'ts', 'machine'"):
        labels_from_column(plant, "nosuch")
