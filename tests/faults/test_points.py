"""SIGKILL at each point that matters of every step: what was there serves, and run again it ends as if undisturbed.

The points are those of `points.py`. At night every one is hit, and the step run again to its end. At every push it is
the first one before each kind of thing that a function has done to the disk, each in the run that follows the last
kill, and the last one of the step: between "after" one thing and "before" the next nothing becomes part of the plant.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pwflow_core.plant import Plant
from tests.conftest import TRAINED, merge, open_plant, plant_readings, put_file, query
from tests.faults.conftest import UNTIL_PUBLISHED, leftovers, open_copy, tables, whole_models

CONFIG = merge(TRAINED, {"features": {"windows": []}, "flow": {"max_steps": 32}, "source": {"segments": []}})
FIRST_NIGHT = f"""
ingest_files(plant)
derive_readings(plant)
fit_cluster_model(plant)
assign_readings(plant)
train_cluster_flows(plant, reason='first', promoted_by='test')
{UNTIL_PUBLISHED}
"""
STEPS = {
    "read": "ingest_files(plant)\nderive_readings(plant)",
    "find regimes": "fit_cluster_model(plant)",
    "train": """
from pwflow_core.pipeline.flows.training import clusters_without_flow
assign_readings(plant)
if keys := clusters_without_flow(plant):
    train_cluster_flows(plant, keys, reason='found again', promoted_by='test')
""",
    "switch": """
from pwflow_core.pipeline.flows.registry import list_versions, rollback
[_, first] = list_versions(plant, 'c0003')
if not first.in_force:
    rollback(plant, 'c0003', first.flow_version, decided_by='Ada', reason='it was quieter')
""",
    "score": "list(score_slices(plant))\nderive_scores(plant)",
    "explain": "explain_anomalies(plant)\nderive_events(plant)\nderive_health(plant)",
    "follow drift": "follow_drift(plant)",
    "publish": "publish_warehouse(plant)\ncollect_model_files(plant)",
}
"""What a night does that comes with another number of regimes, step by step."""

BEFORE = {
    "switch": """
flow = plant.config.flow.model_copy(update={'random_state': 1})
other = type(plant).open(plant.config.model_copy(update={'flow': flow}))
train_cluster_flows(other, ['c0003'], reason='another seed', promoted_by='test', challenge=False)
"""
}
"""What is run before a step, so that there is something to do for it."""

ARMED = """
import json
from tests.faults.points import arm
come_by = arm({kill_at})
{code}
print()
print(json.dumps(come_by))
"""
WRITES_SOMETHING = "\nwith plant.warehouse.transaction():\n    pass"
"""Whoever writes next removes what a killed process left in the folder, also where nothing was left to be done."""

WORKING = ("core.progress", "core.plant_facts", "core.warehouse_state")
"""Tables that say how far the steps have come; all others are as before a step or as after it, regime by regime."""


@dataclass(frozen=True)
class Stage:
    """A plant before one step of a night: where the step comes by, and what the plant holds before and after it."""

    folder: Path
    code: str
    points: Sequence[str]
    before: dict
    after: dict

    def put_back(self) -> Plant:
        """Put the plant back to where the step begins, under the same path: files are known by theirs."""
        home = self.folder.with_name("plant")
        shutil.rmtree(home)
        shutil.copytree(self.folder, home)
        return open_copy(home)

    def decisive(self) -> Iterator[int]:
        """Number the first point before each thing, and the last one of all; of the ledger, in one step for all."""
        seen: set[str] = set()
        for number, name in enumerate(self.points, 1):
            kind = "a ledger write" if "a ledger write" in name else name  # whoever has committed
            is_first = kind not in seen and name.startswith("before")
            if number == len(self.points) or (is_first and (self.folder.name == "read" or "ledger" not in kind)):
                yield number
            seen.add(kind)


@pytest.fixture(scope="module")
def stages(stem, tmp_path_factory) -> dict[str, Stage]:
    home = tmp_path_factory.mktemp("points") / "plant"
    put_file(home / "data" / "first.csv", plant_readings(500))
    ended = stem.run(open_plant(home, CONFIG), FIRST_NIGHT)
    assert ended.code == 0, ended.output
    put_file(home / "data" / "night.csv", plant_readings(60, seed=7, start="2024-04-01"))
    plant = open_plant(home, merge(CONFIG, {"clustering": {"n_clusters": 3}}))
    made = {}
    for step, code in STEPS.items():
        if step in BEFORE:
            ended = stem.run(plant, BEFORE[step])
            assert ended.code == 0, ended.output
        folder, before = home.with_name(step), tables(plant)
        shutil.copytree(home, folder)
        ended = stem.run(plant, ARMED.format(kill_at=None, code=code))
        assert ended.code == 0, ended.output
        made[step] = Stage(folder, code, json.loads(ended.output.splitlines()[-1]), before, tables(plant))
    return made


def die(plant: Plant, stage: Stage, stem, kill_at: int | str) -> bool:
    """Kill the step at one of its points and look at what is left; return whether it came by the point."""
    ended = stem.run(plant, ARMED.format(kill_at=repr(kill_at), code=stage.code))
    assert ended.was_killed or ended.code == 0, f"{kill_at}: {ended.output}"
    left = tables(plant)
    for part in left.keys() | stage.before.keys():
        if part[1] not in WORKING:
            assert left.get(part) in (stage.before.get(part), stage.after.get(part)), f"killed at {kill_at}: {part}"
    assert whole_models(plant), kill_at
    return ended.was_killed


def run_again(plant: Plant, stage: Stage, stem, name: str) -> None:
    """Run the step to its end, and compare."""
    ended = stem.run(plant, stage.code + WRITES_SOMETHING)
    assert ended.code == 0, f"{name}: {ended.output}"
    assert tables(plant) == stage.after, f"killed {name}, then run again"
    assert leftovers(plant) == [], name
    assert query(plant, "SELECT what FROM core.recoveries") == [], f"{name}: a kill loses no commit"


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_one_point_that_matters_after_the_other_a_step_ends_as_if_undisturbed(stages, stem, step):
    stage = stages[step]
    assert stage.before != stage.after, "the step has something to do"
    *numbers, last = stage.decisive()
    assert numbers, "before something, and behind everything"
    plant = stage.put_back()
    for number in numbers:
        if not die(plant, stage, stem, stage.points[number - 1]):  # what earlier runs did is not done again
            run_again(plant, stage, stem, f"before {stage.points[number - 1]}")
            plant = stage.put_back()
            assert die(plant, stage, stem, number)
    run_again(plant, stage, stem, f"at {len(numbers)} points")
    plant = stage.put_back()
    assert die(plant, stage, stem, last)
    run_again(plant, stage, stem, stage.points[last - 1])


@pytest.mark.long
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_point_a_step_run_again_ends_as_if_undisturbed(stages, stem, step):
    stage = stages[step]
    assert stage.points, "the step passes points at which it can be killed"
    for number, name in enumerate(stage.points, 1):
        plant = stage.put_back()
        assert die(plant, stage, stem, number), name
        run_again(plant, stage, stem, name)
