"""SIGKILL at random moments: what was there before serves, and the next run completes what was begun.

At every push it is the moments that matter, one by one: test_points.py.
"""

import os

import pytest

from pwflow_core.pipeline.drift.evidence import follow_drift
from pwflow_core.pipeline.drift.health import derive_health
from pwflow_core.pipeline.flows.retention import collect_model_files
from pwflow_core.pipeline.flows.training import train_cluster_flows
from pwflow_core.pipeline.publishing.publishing import publish_warehouse
from pwflow_core.pipeline.readings.deriving import derive_readings
from pwflow_core.pipeline.regimes.assigning import assign_readings
from pwflow_core.pipeline.regimes.finding import fit_cluster_model
from pwflow_core.pipeline.scoring.densities import score_slices
from pwflow_core.pipeline.source.ingest import ingest_files
from pwflow_core.reporting import build_report, report_path
from tests.conftest import query, read_all, score_all
from tests.faults.conftest import (
    UNTIL_PUBLISHED,
    add_night,
    changed,
    copy_plant,
    leftovers,
    open_copy,
    published,
    whole_models,
)
from tests.faults.test_soak import content

KILLS = int(os.environ.get("PWFLOW_TEST_KILLS", "10"))
"""Kills of each kind; more of them find rarer moments."""

SLICES = (
    "SELECT cluster_key, count(*), md5(string_agg((reading_id, log_density, conformity, flow_version)::VARCHAR, '|' "
    "ORDER BY reading_id)) FROM core.component_log_density GROUP BY cluster_key ORDER BY cluster_key"
)
REGISTRY = "SELECT cluster_key, flow_version FROM mart.flow_versions WHERE in_force ORDER BY cluster_key"
REGIMES = (
    "SELECT cluster_key, segment, weight, status, clusters.cluster_model_id FROM mart.clusters, core.cluster_models "
    "WHERE in_force ORDER BY cluster_key"
)
NIGHT_VALUES = "SELECT ts, machine_id, temperature, pressure FROM core.readings WHERE ts >= '2024-04-01' ORDER BY ALL"
EVIDENCE = (
    "SELECT (SELECT count(*) FROM core.drift_references), (SELECT sum(hash(s)) FROM core.drift_states AS s), "
    "(SELECT sum(hash(h)) FROM mart.cluster_health AS h)"
)
DIES_IN_REPLACE_FILE = """
import shutil
import pwflow_core.{writer} as writer
replace_file = writer.replace_file
def replace_and_die(*arguments):
    {moment} = lambda *a, **k: os.kill(os.getpid(), 9)
    replace_file(*arguments)
writer.replace_file = replace_and_die
"""
TRAIN = "train_cluster_flows(plant, ['c0001', 'c0002'], reason='drift', promoted_by='night', challenge=False)"


@pytest.mark.long
def test_killed_at_50_moments_while_slices_are_written_each_is_wholly_old_or_wholly_new(trained_plant, kill_often):
    """Then the next run completes all of them, and leaves no working file."""
    add_night(trained_plant)
    read_all(trained_plant)
    assign_readings(trained_plant)
    with trained_plant.warehouse.transaction() as connection:
        connection.execute("UPDATE core.component_log_density SET flow_version = 'an earlier one'")
    old = {key: state for key, *state in query(trained_plant, SLICES)}
    finished: list[dict] = []

    def check(plant):
        left = {key: state for key, *state in query(plant, SLICES)}
        list(score_slices(plant))
        after = {key: state for key, *state in query(plant, SLICES)}
        finished.append(after)
        assert after == finished[0]
        assert left.keys() == old.keys()
        assert all(state in (old[key], after[key]) for key, state in left.items())
        assert leftovers(plant) == []
        seen.append(sum(state == after[key] for key, state in left.items()))

    seen: list[int] = []
    moments = kill_often(trained_plant, "list(score_slices(plant))", check, times=50)
    assert len(moments) == 50
    assert len(set(seen)) > 2, "the kills fell before, between and after the slices"


def test_killed_while_a_correction_is_taken_a_night_is_wholly_old_or_wholly_new(trained_plant, kill_often):
    add_night(trained_plant)
    read_all(trained_plant)
    score_all(trained_plant)
    old = query(trained_plant, NIGHT_VALUES)
    add_night(trained_plant, seed=8)
    code = "assert ingest_files(plant).n_changed == 1\nassert derive_readings(plant).n_changed == 120"
    new: list[list[tuple]] = []

    def check(plant):
        left = query(plant, NIGHT_VALUES)
        assert ingest_files(plant).n_new == 0
        derive_readings(plant)
        new.append(query(plant, NIGHT_VALUES))
        assert new[-1] == new[0] != old
        assert left in (old, new[0])
        assert query(plant, "SELECT count(*) FROM mart.anomaly_scores WHERE ts >= '2024-04-01'") == [(0,)]
        assert leftovers(plant) == []

    assert len(kill_often(trained_plant, code, check, times=4, seed=5)) == 4


@pytest.mark.long
def test_killed_while_flows_train_the_old_ones_serve_and_the_same_seed_gives_the_same_files(trained_plant, kill_often):
    plant = changed(trained_plant, flow={"random_state": 1, "max_steps": 300})
    before = query(plant, REGISTRY)
    found = []

    def check(plant):
        assert whole_models(plant)
        left = query(plant, REGISTRY)
        if len(found) < 5:
            train_cluster_flows(plant, ["c0001", "c0002"], reason="drift", promoted_by="night", challenge=False)
            found.append(query(plant, REGISTRY))
            assert found[-1] == found[0]
            assert leftovers(plant) == []
            assert not {version for _, version in found[0][:2]} & {version for _, version in before}
        assert left in (before, found[0]), "both flows come into use together"

    assert len(kill_often(plant, TRAIN, check, times=15, seed=1)) == 15


@pytest.mark.long
def test_killed_while_regimes_are_found_anew_the_set_in_force_serves(trained_plant, kill_often):
    plant = changed(trained_plant, clustering={"n_clusters": 3})
    before = query(plant, REGIMES)
    after: list[list[tuple]] = []

    def check(plant):
        left = query(plant, REGIMES)
        assert whole_models(plant)
        if left == before:
            list(score_slices(plant))
        if len(after) < 4:
            fit_cluster_model(plant)
            after.append(query(plant, REGIMES))
            assert leftovers(plant) == []
        assert left in (before, after[0])

    assert len(kill_often(plant, "fit_cluster_model(plant)", check, times=10, seed=2)) == 10


AT_NIGHT = pytest.mark.long(
    reason="3 CPU s each: every writer, moment and next step is met at each push, not each three"
)


@pytest.mark.parametrize(
    ("writer", "moment", "next_step"),
    [
        ("model_store", "os.fsync", fit_cluster_model),
        ("warehouse.ledger", "shutil.rmtree", collect_model_files),
        pytest.param("model_store", "os.fsync", collect_model_files, marks=AT_NIGHT),
        pytest.param("model_store", "shutil.rmtree", fit_cluster_model, marks=AT_NIGHT),
        pytest.param("model_store", "shutil.rmtree", collect_model_files, marks=AT_NIGHT),
        pytest.param("warehouse.ledger", "os.fsync", fit_cluster_model, marks=AT_NIGHT),
        pytest.param("warehouse.ledger", "os.fsync", collect_model_files, marks=AT_NIGHT),
        pytest.param("warehouse.ledger", "shutil.rmtree", fit_cluster_model, marks=AT_NIGHT),
    ],
)
def test_killed_while_a_file_is_put_in_its_place_the_next_step_removes_the_folder(
    trained_plant, stem, writer, moment, next_step
):
    plant = changed(trained_plant, clustering={"n_clusters": 3})
    ended = stem.run(plant, DIES_IN_REPLACE_FILE.format(writer=writer, moment=moment) + "fit_cluster_model(plant)")
    assert ended.was_killed, ended.output
    [left] = leftovers(plant)
    assert ".pwflow-incoming-" in left
    next_step(plant)
    assert leftovers(plant) == []


@pytest.mark.long
def test_killed_while_it_publishes_analysts_find_the_old_copy_or_the_new(trained_plant, kill_often):
    before = published(trained_plant)
    add_night(trained_plant)
    read_all(trained_plant)
    score_all(trained_plant)

    def check(plant):
        left = published(plant)
        publish_warehouse(plant)
        assert published(plant) != before
        assert left in (before, published(plant))
        assert leftovers(plant) == []

    assert len(kill_often(trained_plant, "publish_warehouse(plant)", check, times=10, seed=3)) == 10


@pytest.mark.long
def test_killed_while_drift_is_followed_or_the_report_is_made_the_next_run_completes_both(trained_plant, kill_often):
    add_night(trained_plant)
    read_all(trained_plant)
    score_all(trained_plant)
    derive_health(trained_plant)
    before = query(trained_plant, EVIDENCE)
    report = report_path(trained_plant.config, "en").name
    code = "follow_drift(plant)\nbuild_report(plant, report_path(plant.config, 'en'))"
    after: list[list[tuple]] = []

    def check(plant):
        left = query(plant, EVIDENCE)
        follow_drift(plant)
        after.append(query(plant, EVIDENCE))
        assert after[-1] == after[0] != before
        assert left in (before, after[0])
        found = plant.config.folder / report
        assert not found.exists() or found.read_text().rstrip().endswith("</html>")
        build_report(plant, found)
        assert leftovers(plant) == []

    assert len(kill_often(trained_plant, code, check, times=8, seed=4)) == 8


@pytest.mark.long
@pytest.mark.parametrize(
    "changes",
    [
        {"scoring": {"alpha": 0.05}},
        {"sensors": {"temperature": {"unit": "°C", "high": 30.0}, "pressure": {"unit": "bar"}}},
    ],
    ids=["another alpha", "another limit"],
)
def test_killed_in_a_night_and_run_again_under_another_configuration_it_ends_as_if_that_had_been_so_all_night(
    trained_plant, stem, kill_often, tmp_path_factory, changes
):
    add_night(trained_plant)
    undisturbed = copy_plant(trained_plant, tmp_path_factory.mktemp("undisturbed") / "plant")
    ended = stem.run(changed(undisturbed, **changes), UNTIL_PUBLISHED)
    assert ended.code == 0, ended.output
    expected = content(undisturbed)

    def check(plant):
        ended = stem.run(changed(plant, **changes), UNTIL_PUBLISHED)
        assert ended.code == 0, ended.output
        assert content(plant) == expected
        assert leftovers(plant) == []

    assert len(kill_often(trained_plant, UNTIL_PUBLISHED, check, times=KILLS, seed=5)) == KILLS


BY_A_PERSON = {
    "confirm": (
        "from pwflow_core.pipeline.decisions.confirmations import confirm_event\n"
        "with plant.warehouse.snapshot() as connection:\n"
        "    [event] = connection.execute('SELECT min(event_id) FROM mart.anomaly_events').fetchone()\n"
        "confirm_event(plant, event, confirmed_by='Ada')",
        "SELECT event_id, confirmed_by FROM core.confirmations",
        1,
    ),
    "poc": (
        "from pwflow_core.poc import poc_path, prove_plant, write_comparison, write_page\n"
        "found = prove_plant(plant, regimes=[1], rivals=['gaussian'], rows=1000, max_steps=20)\n"
        "write_comparison(plant, found)\n"
        "write_page(found, poc_path(plant.config, 'en'), 'en')",
        "SELECT model, held_out_log_density FROM mart.model_comparison ORDER BY model",
        2,
    ),
}
"""What a person does, what it writes, and how many rows that is."""


@pytest.mark.long
@pytest.mark.parametrize("deed", BY_A_PERSON)
def test_killed_while_a_person_has_something_done_it_is_wholly_there_or_not_and_can_be_done_again(
    trained_plant, stem, kill_often, deed
):
    code, written, n_rows = BY_A_PERSON[deed]
    trained_plant = changed(trained_plant, events={"min_readings": 1})
    add_night(trained_plant)
    ended = stem.run(trained_plant, UNTIL_PUBLISHED)
    assert ended.code == 0, ended.output
    finished = []

    def check(plant):
        left = query(plant, written)
        assert len(left) in (0, n_rows)
        ended = stem.run(plant, code)
        assert ended.code == 0, ended.output
        finished.append(query(open_copy(plant.config.folder), written))
        assert finished[-1] == finished[0]
        assert left in ([], finished[0])
        assert len(finished[0]) == n_rows
        assert all(page.read_text().rstrip().endswith("</html>") for page in plant.config.folder.glob("*.html"))
        assert leftovers(plant) == []

    assert len(kill_often(trained_plant, code, check, times=KILLS, seed=6)) == KILLS
