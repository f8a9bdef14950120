"""SIGKILL while a person puts another flow in use or goes back: pointer, record and slice are never at odds.

At every push it is the moments that matter, one by one: test_points.py.
"""

import os

import duckdb
import pytest

from pwflow_core.pipeline.flows.registry import rollback
from pwflow_core.pipeline.scoring.checks import check_scores
from tests.conftest import query
from tests.faults.conftest import NIGHT, add_night, leftovers
from tests.pipeline.flows.test_registry import in_force, train_another

pytestmark = pytest.mark.long

KILLS = int(os.environ.get("PWFLOW_TEST_KILLS", "10"))
"""Kills of each kind; more of them find rarer moments."""

SWITCHES = {
    "promotion": "from pwflow_core.pipeline.flows.registry import promote\n"
    "promote(plant, 'c0002', {version!r}, decided_by='Ada', reason='it is quieter')\n",
    "rollback": "from pwflow_core.pipeline.flows.registry import rollback\n"
    "rollback(plant, 'c0002', decided_by='Ada', reason='it was quieter')\n",
}
POINTERS = "SELECT cluster_key, flow_version FROM mart.flow_versions WHERE in_force ORDER BY cluster_key"
DECISIONS = "SELECT flow_version FROM mart.flow_decisions WHERE decided_by = 'Ada'"
SLICE = (
    "SELECT flow_version, count(*), md5(string_agg((reading_id, log_density, conformity)::VARCHAR, '|' ORDER BY "
    "reading_id)) FROM core.component_log_density WHERE cluster_key {} 'c0002' GROUP BY ALL ORDER BY ALL"
)
SCORES = "SELECT count(*), sum(hash(score)) FROM (SELECT * EXCLUDE (scored_at) FROM mart.anomaly_scores) AS score"


def state(plant) -> dict[str, list[tuple]]:
    """What the plant serves: pointers, slices, scores, and the scores that analysts see."""
    with duckdb.connect(str(plant.config.published_path), read_only=True) as connection:
        published = connection.execute(SCORES).fetchall()
    return {
        "pointers": query(plant, POINTERS),
        "slice": query(plant, SLICE.format("=")),
        "other slices": query(plant, SLICE.format("<>")),
        "scores": query(plant, SCORES),
        "published": published,
    }


@pytest.mark.parametrize("follows", ["", NIGHT], ids=["alone", "with the run behind it"])
@pytest.mark.parametrize("switch", SWITCHES)
def test_killed_during_a_switch_the_pointer_is_wholly_old_or_new_and_the_next_run_completes_it(
    trained_plant, stem, kill_often, switch, follows
):
    """One flow in use in every regime; a record if, and only if, the pointer moved; each slice of one flow.

    The next run ends with the scores of the flow in use, as if nobody had interfered; other regimes are not touched.
    """
    first = in_force(trained_plant)
    second = train_another(trained_plant)
    if switch == "promotion":
        rollback(trained_plant, "c0002", decided_by="test", reason="so that there is something to promote")
    add_night(trained_plant)
    assert stem.run(trained_plant, NIGHT).code == 0
    old, new = (first, second) if switch == "promotion" else (second, first)
    code = SWITCHES[switch].format(version=new)
    before = state(trained_plant)
    finished: dict[str, list[dict]] = {old: [before], new: []}

    def check(plant):
        left, now = state(plant), in_force(plant)
        assert now in (old, new)
        assert [key for key, _ in left["pointers"]] == [key for key, _ in before["pointers"]], "one in use for each"
        assert query(plant, DECISIONS) == [(new,)] * (now == new)
        assert [version for version, *_ in left["slice"]] in ([old], [now])
        assert left["other slices"] == before["other slices"]
        if len(finished[now]) > (2 if follows else 1):
            return
        ended = stem.run(plant, NIGHT)
        assert ended.code == 0, ended.output
        after = state(plant)
        finished[now].append(after)
        assert after == finished[now][0]
        assert [version for version, *_ in after["slice"]] == [now]
        assert after["scores"] == after["published"]
        assert all(left[what] in (before[what], after[what]) for what in after)
        assert all(result.passed for result in check_scores(plant) if result.is_blocking)
        assert leftovers(plant) == []

    moments = kill_often(trained_plant, code + follows, check, times=KILLS, seed=len(switch + follows))
    assert len(moments) == KILLS
    if follows:
        assert finished[new][0]["scores"] != before["scores"], "some kills fell behind the switch"
