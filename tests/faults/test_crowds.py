"""Several processes at once, one that holds the warehouse, and regimes found again while a run is under way."""

import os
import signal
import time

import pytest

from pwflow_core.errors import NotFittedError, WarehouseLockedError
from pwflow_core.pipeline.flows.training import clusters_without_flow, train_cluster_flows
from pwflow_core.pipeline.regimes.finding import fit_cluster_model
from pwflow_core.pipeline.scoring.checks import check_scores
from pwflow_core.pipeline.scoring.densities import score_slices
from pwflow_core.pipeline.scoring.scores import derive_scores
from tests.conftest import query, read_all, reopen, score_all, start_process
from tests.faults.conftest import NIGHT, UNTIL_PUBLISHED, add_night, leftovers, published

AT_ONCE = """
import sys, traceback
children = []
for number in range({n}):
    pid = os.fork()
    if pid == 0:
        try:
            {code}
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    children.append(pid)
assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * {n}
"""
"""Runs code in several processes that are forked at the same moment."""


def at_once(stem, plant, n: int, code: str) -> float:
    ended = stem.run(plant, AT_ONCE.format(n=n, code=code.strip().replace("\n", "\n            ")))
    assert ended.code == 0, ended.output
    return ended.seconds


def test_ten_that_write_at_once_lose_nothing(make_plant, stem):
    plant = make_plant(warehouse={"wait_seconds": 100.0})
    code = (
        "for i in range(5):\n"
        "    with plant.warehouse.transaction() as c: "
        "c.execute('INSERT INTO core.plant_facts VALUES (?, ?)', [str(number), str(i)])"
    )
    at_once(stem, plant, 10, code)
    assert query(plant, "SELECT count(*), count(DISTINCT (fact, value)) FROM core.plant_facts") == [(50, 50)]
    assert query(plant, "SELECT commit_number FROM core.warehouse_state") == [(50,)]
    assert query(plant, "SELECT count(*) FROM core.recoveries") == [(0,)]


def test_ten_that_ingest_and_read_at_once_take_each_row_once(trained_plant, stem):
    plant = reopen(trained_plant, warehouse={"wait_seconds": 100.0})
    add_night(plant)
    at_once(stem, plant, 10, "ingest_files(plant)\nderive_readings(plant)")
    assert query(plant, "SELECT count(*) FROM ingest.raw_readings") == [(3120,)]
    assert query(plant, "SELECT count(*), count(DISTINCT reading_id) FROM core.readings") == [(3120, 3120)]
    assert leftovers(plant) == []


@pytest.mark.parametrize(
    "night",
    [UNTIL_PUBLISHED, pytest.param(NIGHT, marks=pytest.mark.long(reason="10 CPU s: two reports more"))],
    ids=["until published", "with the report"],
)
def test_two_whole_nights_at_once_end_as_one(trained_plant, stem, night):
    plant = reopen(trained_plant, warehouse={"wait_seconds": 100.0})
    add_night(plant)
    at_once(stem, plant, 2, night)
    assert published(plant)[0][0] == 3120
    for table, key in (
        ("mart.anomaly_scores", "reading_id"),
        ("core.component_log_density", "(cluster_key, reading_id)"),
        ("core.cluster_assignments", "(cluster_key, reading_id)"),
        ("mart.sensor_contributions", "(reading_id, sensor)"),
        ("mart.anomaly_events", "event_id"),
    ):
        assert query(plant, f"SELECT count(*) - count(DISTINCT {key}) FROM {table}") == [(0,)], table
    assert all(result.passed for result in check_scores(plant) if result.is_blocking)


def test_a_holder_that_hangs_is_named_and_waited_for_no_longer_than_configured(make_plant):
    """It was stopped in the middle of a transaction; killed, it is in nobody's way."""
    plant = make_plant(warehouse={"wait_seconds": 1.0})
    with plant.warehouse.transaction():
        pass
    code = "with plant.warehouse.transaction() as c:\n    print('held', flush=True)\n    sys.stdin.readline()"
    holder = start_process(plant, code)
    assert holder.stdout.readline() == "held\n"
    os.kill(holder.pid, signal.SIGSTOP)
    started = time.monotonic()
    with pytest.raises(WarehouseLockedError, match=rf"process {holder.pid}\)"), plant.warehouse.transaction():
        pass
    assert time.monotonic() - started < 10
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait(timeout=20)
    with plant.warehouse.transaction() as connection:
        connection.execute("INSERT INTO core.plant_facts VALUES ('free', '')")


@pytest.mark.parametrize(
    "after", [pytest.param(1, marks=pytest.mark.long(reason="10 CPU s: a later moment is met at each push")), 3]
)
def test_regimes_found_anew_while_slices_are_scored_mix_no_models(trained_plant, after):
    """What was pinned is finished or left, and the next run has one model set."""
    add_night(trained_plant)
    read_all(trained_plant)
    score_all(trained_plant)
    with trained_plant.warehouse.transaction() as connection:
        connection.execute("UPDATE core.component_log_density SET flow_version = 'an earlier one'")
    run = score_slices(trained_plant)
    pinned = {key: summary.flow_version for key, summary in (next(run) for _ in range(after))}
    other = reopen(trained_plant, clustering={"n_clusters": 3, "random_state": 5})
    fit_cluster_model(other)
    pinned |= {key: summary.flow_version for key, summary in run}
    written = query(other, "SELECT DISTINCT cluster_key, flow_version FROM core.component_log_density")
    assert all(version in (pinned[key], "an earlier one") for key, version in written)
    assert query(other, "SELECT count(*) FROM core.progress WHERE step = 'score'") == [(0,)], "none counts as scored"
    with pytest.raises(NotFittedError, match="Nothing has been scored yet"):
        derive_scores(other)
    score_all_anew(other)
    assert query(other, "SELECT count(DISTINCT model_set_id), count(*) FROM mart.anomaly_scores") == [(1, 3120)]
    assert all(result.passed for result in check_scores(other) if result.name == "model_sets_agree")


def score_all_anew(plant) -> None:
    from pwflow_core.pipeline.regimes.assigning import assign_readings

    assign_readings(plant)
    train_cluster_flows(plant, clusters_without_flow(plant), reason="new", promoted_by="test")
    list(score_slices(plant))
    derive_scores(plant)
