"""Identity: a regime that is found again is the same regime; any other one is said to be split, merged or new."""

import shutil
from datetime import datetime
from itertools import permutations

import numpy as np
import pytest

from pwflow_core.errors import RegimeError, UnknownVerdictError
from pwflow_core.pipeline.decisions.kinds import find_kind
from pwflow_core.pipeline.flows.training import clusters_without_flow, train_cluster_flows
from pwflow_core.pipeline.regimes.assigning import assign_readings
from pwflow_core.pipeline.regimes.changing import Period, add_regime, approve_verdict, update_weights
from pwflow_core.pipeline.regimes.finding import fit_cluster_model, needs_cluster_model
from pwflow_core.pipeline.regimes.matching import count_shared, match_regimes, relate_regimes
from pwflow_core.pipeline.regimes.model import load_cluster_model
from tests.conftest import (
    TRAINED,
    copy_folder,
    frame,
    open_plant,
    plant_readings,
    put_file,
    query,
    read_all,
    reopen,
    score_all,
)

OTHERS = """
    SELECT cluster_key, reading_id, log_density, conformity, flow_version, scored_at FROM core.component_log_density
    WHERE cluster_key IN ('c0001', 'c0002', 'c0003', 'c0004') AND reading_id IN (SELECT unnest(?::BIGINT[]))
    ORDER BY cluster_key, reading_id
"""
VERSIONS = "SELECT cluster_key, flow_version FROM mart.flow_versions WHERE in_force ORDER BY cluster_key"
SEEN = datetime(2024, 4, 1)  # noqa: DTZ001 - UTC, as everywhere in the warehouse


def related(shared, before="abcdefgh", now=None):
    shared = np.asarray(shared)
    matches = match_regimes(shared)
    keys = [before[matches[k]] if k in matches else f"new{k}" for k in range(shared.shape[1])]
    rows = relate_regimes(shared, matches, before[: shared.shape[0]], keys)
    return {(row.cluster_key, row.former_key, row.relation) for row in rows}


CASES = {
    "nothing moved": ([[100, 0], [0, 50]], {("a", "a", "kept"), ("b", "b", "kept")}),
    "in another order": ([[0, 100], [50, 0]], {("a", "a", "kept"), ("b", "b", "kept")}),
    "a few readings moved": ([[96, 4], [3, 97]], {("a", "a", "kept"), ("b", "b", "kept")}),
    "many readings moved": ([[80, 20], [10, 90]], {("a", "a", "changed"), ("b", "b", "changed")}),
    "one in two": ([[60, 40, 0], [0, 0, 50]], {("a", "a", "split"), ("new1", "a", "split"), ("b", "b", "kept")}),
    "two in one": (
        [[60, 0], [40, 0], [0, 50]],
        {("a", "a", "merged"), ("a", "b", "merged"), ("b", None, "retired"), ("c", "c", "kept")},
    ),
    "one is gone and one is new": ([[0, 5], [50, 0]], {("b", "b", "kept"), ("a", "a", "kept")}),
    "one appears": ([[50, 0]], {("a", "a", "kept"), ("new1", None, "new")}),
    "a stranger of which a corner was known": (
        [[50, 0], [0, 0]],
        {("a", "a", "kept"), ("new1", None, "new"), ("b", None, "retired")},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_became_of_each_regime_is_named(case):
    shared, expected = CASES[case]
    assert related(shared) == expected


def kept_overlap(shared):
    """Return readings in both over readings in either, where that is more than a third; 0 elsewhere."""
    overlap = shared / (shared.sum(axis=1, keepdims=True) + shared.sum(axis=0, keepdims=True) - shared)
    return np.where(overlap > 1 / 3, overlap, 0.0)


def test_the_assignment_is_one_to_one_and_optimal():
    """Greedily the second new regime would take what the first needs more."""
    shared = np.array([[50, 45], [0, 40]])
    assert match_regimes(shared) == {0: 0, 1: 1}
    rng = np.random.default_rng(0)
    for _ in range(200):
        before, now = rng.integers(0, 5, 300), rng.integers(0, 4, 300)
        now = np.where(rng.random(300) < 0.7, before % 4, now)
        shared = count_shared(before, now, 5, 4)
        matches = match_regimes(shared)
        assert len(set(matches.values())) == len(matches)
        kept = kept_overlap(shared)
        best = max(kept[list(rows), range(4)].sum() for rows in permutations(range(5), 4))
        assert kept[list(matches.values()), list(matches)].sum() == pytest.approx(best)


def test_an_overlap_of_a_third_or_less_is_no_identity():
    assert match_regimes(np.array([[50, 50], [0, 0]])) in ({0: 0}, {1: 0})
    assert match_regimes(np.array([[1, 1, 1]])) == {}
    assert match_regimes(np.array([[34, 33, 33]])) == {0: 0}


def test_a_regime_that_hardly_changed_keeps_its_flow_and_its_slice(trained_plant):
    """Found again with another seed and a few more readings: nothing is to be trained, nothing scored again."""
    versions = query(trained_plant, VERSIONS)
    before = frame(trained_plant, "SELECT * FROM core.component_log_density")
    plant = reopen(trained_plant, clustering={"random_state": 5})
    summary = fit_cluster_model(plant, made_by="Ada", reason="look again")
    assert {relation.relation for relation in summary.lineage} == {"kept"}
    assert clusters_without_flow(plant) == []
    score_all(plant)
    assert query(plant, VERSIONS) == versions
    after = frame(plant, "SELECT * FROM core.component_log_density")
    both = before.merge(after, on=["cluster_key", "reading_id"], suffixes=("", "_after"))
    assert len(both) > 0.95 * len(before)
    assert (both.scored_at == both.scored_at_after).all()
    assert (both.log_density == both.log_density_after).all()
    made = query(plant, "SELECT made_by, reason FROM core.cluster_models WHERE in_force")
    assert made == [("Ada", "look again")]


def test_more_regimes_keep_the_keys_of_those_that_go_on_and_only_changed_and_new_ones_train(trained_plant):
    old = dict(query(trained_plant, VERSIONS))
    plant = reopen(trained_plant, clustering={"n_clusters": 3})
    summary = fit_cluster_model(plant)
    lineage = frame(plant, "SELECT * FROM mart.cluster_lineage WHERE cluster_model_id = ?", summary.cluster_model_id)
    in_force = {key for keys in summary.clusters.values() for key in keys}
    assert set(lineage.cluster_key[lineage.relation != "retired"]) == in_force
    assert len(in_force & set(old)) >= 2
    kept = set(lineage.cluster_key[lineage.relation == "kept"])
    to_train = clusters_without_flow(plant)
    assert set(to_train) == in_force - kept
    assign_readings(plant)
    train_cluster_flows(plant, to_train, reason="other regimes", promoted_by="test")
    assert clusters_without_flow(plant) == [], "also not where the new flow is no better"
    new = dict(query(plant, VERSIONS))
    assert {key for key in kept if new[key] == old[key]} == kept
    assert all(new[key] != old.get(key) for key in to_train)
    assert lineage.overlap[lineage.former_key.notna()].between(0, 1).all()


def test_fewer_regimes_are_recorded_as_a_merger_and_the_others_as_retired(trained_plant):
    plant = reopen(trained_plant, clustering={"n_clusters": 1})
    summary = fit_cluster_model(plant)
    assert len(summary.retired) == 2
    relations = query(
        plant,
        "SELECT relation, count(*) FROM mart.cluster_lineage WHERE cluster_model_id = ? GROUP BY 1 ORDER BY 1",
        summary.cluster_model_id,
    )
    assert relations == [("merged", 4), ("retired", 2)]
    statuses = dict(query(plant, "SELECT cluster_key, status FROM mart.clusters"))
    assert sorted(key for key, status in statuses.items() if status == "retired") == summary.retired
    in_force = {key for (key,) in query(plant, "SELECT cluster_key FROM mart.flow_versions WHERE in_force")}
    assert not in_force & set(summary.retired), "a retired regime scores nothing: its flow may be collected one day"


def test_the_first_regimes_are_new_and_fitting_again_records_nothing(trained_plant):
    first = query(trained_plant, "SELECT cluster_key, relation FROM mart.cluster_lineage ORDER BY 1")
    assert first == [(f"c000{k}", "new") for k in (1, 2, 3, 4)]
    fit_cluster_model(trained_plant)
    assert query(trained_plant, "SELECT cluster_key, relation FROM mart.cluster_lineage ORDER BY 1") == first


def arrive_with_a_new_regime(plant, n_new=400):
    """Machine press-2 runs hot in recipe A for a while; everything else is as ever."""
    night = plant_readings(1500, seed=7, start="2024-04-01")
    mine = night.index[(night.machine == "press-2") & (night.recipe == "A")][:n_new]
    rng = np.random.default_rng(1)
    night.loc[mine, "temperature"] = rng.normal(60, 1, len(mine))
    night.loc[mine, "pressure"] = rng.normal(12, 0.5, len(mine))
    put_file(plant.config.folder / "data" / "night.parquet", night)
    read_all(plant)
    score_all(plant)


@pytest.fixture(scope="module")
def _hot_folder(_trained_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hot") / "plant"
    shutil.copytree(_trained_folder, folder)
    arrive_with_a_new_regime(open_plant(folder, TRAINED))
    return folder


@pytest.fixture
def hot_plant(_hot_folder, tmp_path):
    """A copy of a trained plant in which a new regime has arrived."""
    return open_plant(copy_folder(_hot_folder, tmp_path / "hot"), TRAINED)


def periods(machine="press-2"):
    return [Period(machine, SEEN, datetime(2024, 4, 3))]  # noqa: DTZ001


def test_an_approved_regime_gets_a_key_a_flow_and_a_slice_and_the_others_stay_byte_equal(hot_plant):
    alarming = (
        "SELECT avg(is_anomaly::INT) FROM mart.anomaly_scores JOIN core.readings USING (reading_id) "
        "WHERE temperature BETWEEN 55 AND 65 AND status = 'scored'"
    )
    [(before,)] = query(hot_plant, alarming)
    assert before > 0.99
    ids = [row[0] for row in query(hot_plant, "SELECT reading_id FROM core.readings")]
    slices, versions = query(hot_plant, OTHERS, ids), dict(query(hot_plant, VERSIONS))
    _, old = load_cluster_model(hot_plant)
    key = add_regime(hot_plant, "A", periods(), approved_by="Ada", reason="the new tool")
    assert key == "c0005"
    assert not needs_cluster_model(hot_plant), "no later run takes the regimes for outdated"
    assert clusters_without_flow(hot_plant) == [key]
    summaries = assign_readings(hot_plant)
    assert summaries[key].n_new > 300
    assert sum(summary.n_new for other, summary in summaries.items() if other != key) == 0
    train_cluster_flows(hot_plant, [key], reason="approved", promoted_by="Ada")
    score_all(hot_plant)
    assert query(hot_plant, OTHERS, ids) == slices
    assert {k: v for k, v in query(hot_plant, VERSIONS) if k != key} == versions
    _, new = load_cluster_model(hot_plant)
    for known in old.keys:
        (was, i), (now, j) = old.locate(known), new.locate(known)
        assert was.seeds.means[i].tobytes() == now.seeds.means[j].tobytes()
        assert was.seeds.covariances[i].tobytes() == now.seeds.covariances[j].tobytes()
    weights = frame(hot_plant, "SELECT segment, sum(weight) AS total FROM mart.clusters GROUP BY segment")
    assert weights.total.to_numpy() == pytest.approx(1.0)
    [(after,)] = query(hot_plant, alarming)
    assert after < 0.05
    assert query(hot_plant, "SELECT DISTINCT status FROM mart.anomaly_scores WHERE status = 'thin'") == []
    assert query(hot_plant, "SELECT relation FROM mart.cluster_lineage WHERE cluster_key = 'c0005'") == [("new",)]


def test_responsibilities_make_room_for_an_added_regime_as_if_all_had_been_assigned_anew(hot_plant):
    key = add_regime(hot_plant, "A", periods(), approved_by="Ada", reason="x")
    assign_readings(hot_plant, [key])
    totals = query(
        hot_plant,
        "SELECT min(total), max(total) FROM (SELECT sum(responsibility) AS total FROM core.cluster_assignments "
        "GROUP BY reading_id)",
    )
    assert totals[0] == pytest.approx((1.0, 1.0), abs=1e-6)
    by_part = frame(hot_plant, "SELECT * FROM core.cluster_assignments")
    with hot_plant.warehouse.transaction() as connection:
        connection.execute("DELETE FROM core.progress WHERE step = 'assign'")
    assign_readings(hot_plant)
    at_once = frame(hot_plant, "SELECT * FROM core.cluster_assignments")
    both = by_part.merge(at_once, on=["cluster_key", "reading_id"], how="outer", suffixes=("", "_anew")).fillna(0.0)
    np.testing.assert_allclose(both.responsibility, both.responsibility_anew, atol=1e-6)


def test_too_few_readings_are_no_regime_and_nothing_is_written(trained_plant):
    arrive_with_a_new_regime(trained_plant, n_new=100)
    before = (
        query(trained_plant, "FROM core.cluster_models ORDER BY ALL"),
        query(trained_plant, "FROM mart.clusters ORDER BY ALL"),
    )
    for segment, times in (("A", periods()), ("B", periods("press-1")), ("A", []), ("no such", periods())):
        with pytest.raises(
            RegimeError, match=r"Expected at least 250 complete readings .* got at most \d+ in a segment"
        ):
            add_regime(trained_plant, segment, times, approved_by="Ada", reason="x")
    after = (
        query(trained_plant, "FROM core.cluster_models ORDER BY ALL"),
        query(trained_plant, "FROM mart.clusters ORDER BY ALL"),
    )
    assert after == before


def insert_verdict(plant, verdict_id="v1", verdict="new_regime", status="open"):
    with plant.warehouse.transaction() as connection:
        connection.execute(
            "INSERT INTO mart.drift_verdicts BY NAME SELECT $id AS verdict_id, DATE '2024-04-02' AS night, "
            "$verdict AS verdict, ['c0001', 'c0002'] AS cluster_keys, ['press-2'] AS machine_ids, "
            "DATE '2024-04-01' AS since, 'press-2 runs hot' AS summary, $answer AS answer, $status AS status",
            {"id": verdict_id, "verdict": verdict, "answer": find_kind(verdict).answer, "status": status},
        )


def test_approving_a_verdict_adds_its_regime_and_marks_it_done_once(hot_plant):
    insert_verdict(hot_plant)
    assert approve_verdict(hot_plant, "v1", approved_by="Ada") == ["c0005"]
    assert query(hot_plant, "SELECT status, decided_by FROM mart.drift_verdicts") == [("done", "Ada")]
    assert query(hot_plant, "SELECT segment, found_from FROM mart.clusters WHERE cluster_key = 'c0005'") == [
        ("A", SEEN)
    ]
    assert query(hot_plant, "SELECT reason FROM core.cluster_models WHERE in_force") == [("press-2 runs hot",)]
    with pytest.raises(RegimeError, match="is done already"):
        approve_verdict(hot_plant, "v1", approved_by="Ada")


def test_what_cannot_be_approved_is_said(trained_plant):
    insert_verdict(trained_plant, "v1")
    insert_verdict(trained_plant, "v2", verdict="outage")
    with pytest.raises(UnknownVerdictError, match=r"mart.drift_verdicts \(v1\), got 'v9'"):
        approve_verdict(trained_plant, "v9", approved_by="Ada")
    with pytest.raises(UnknownVerdictError, match="got 'v2' of kind outage"):
        approve_verdict(trained_plant, "v2", approved_by="Ada")
    with pytest.raises(RegimeError, match="Expected at least 250 complete readings"):
        approve_verdict(trained_plant, "v1", approved_by="Ada")
    assert query(trained_plant, "SELECT DISTINCT status FROM mart.drift_verdicts") == [("open",)]


def test_other_weights_train_nothing_score_nothing_and_change_the_mixture(trained_plant):
    slices = query(trained_plant, "FROM core.component_log_density ORDER BY ALL")
    versions = query(trained_plant, "FROM mart.flow_versions ORDER BY ALL")
    assignments = query(trained_plant, "FROM core.cluster_assignments ORDER BY ALL")
    scores = frame(trained_plant, "SELECT * FROM mart.anomaly_scores ORDER BY reading_id")
    insert_verdict(trained_plant, "v1", verdict="mix_moved")
    update_weights(
        trained_plant, "A", {"c0001": 1.0, "c0002": 3.0}, decided_by="night", reason="the mix moved", verdict_id="v1"
    )
    score_all(trained_plant)
    assert query(trained_plant, "FROM core.component_log_density ORDER BY ALL") == slices
    assert query(trained_plant, "FROM mart.flow_versions ORDER BY ALL") == versions
    assert query(trained_plant, "FROM core.cluster_assignments ORDER BY ALL") == assignments
    assert dict(query(trained_plant, "SELECT cluster_key, weight FROM mart.clusters WHERE segment = 'A'")) == {
        "c0001": 0.25,
        "c0002": 0.75,
    }
    after = frame(trained_plant, "SELECT * FROM mart.anomaly_scores ORDER BY reading_id")
    moved = (after.log_density != scores.log_density) & after.log_density.notna()
    assert moved[after.segment == "A"].sum() > 1000
    assert not moved[after.segment == "B"].any()
    assert query(trained_plant, "SELECT status, decided_by FROM mart.drift_verdicts") == [("done", "night")]
    assert clusters_without_flow(trained_plant) == []


@pytest.mark.parametrize("weights", [{"c0001": 1.0}, {"c0001": 0.5, "c0003": 0.5}, {"c0001": 0.0, "c0002": 1.0}, {}])
def test_weights_of_other_regimes_or_none_are_refused(trained_plant, weights):
    with pytest.raises(RegimeError, match="Expected"):
        update_weights(trained_plant, "A", weights, decided_by="night", reason="x")


def test_two_changes_at_once_do_not_overwrite_each_other(trained_plant, monkeypatch):
    from pwflow_core.pipeline.regimes import finding

    choose = finding.regimes_to_assign

    def choose_behind_another_change(*arguments):
        update_weights(trained_plant, "A", {"c0001": 1.0, "c0002": 3.0}, decided_by="night", reason="x")
        return choose(*arguments)

    monkeypatch.setattr(finding, "regimes_to_assign", choose_behind_another_change)
    plant = reopen(trained_plant, clustering={"n_clusters": 3})
    with pytest.raises(RegimeError, match="changed by another run"):
        fit_cluster_model(plant)
    weights = dict(query(trained_plant, "SELECT cluster_key, weight FROM mart.clusters WHERE segment = 'A'"))
    assert weights == {"c0001": 0.25, "c0002": 0.75}
