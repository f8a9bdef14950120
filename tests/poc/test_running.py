"""Contenders in processes of their own, labels of a file, and what goes wrong."""

from __future__ import annotations

import pandas as pd
import pytest

from pwflow_core.errors import ConfigurationError, LabelsError
from pwflow_core.poc.contenders import Contender
from pwflow_core.poc.proving import prove_plant
from pwflow_core.poc.readings import ensure_readings, read_facts, read_trial
from pwflow_core.poc.running import run_trial
from pwflow_core.poc.worker import Job
from tests.poc.conftest import CASES, make_case, measure_here


def write_labels(path, *faults: tuple[str, str]):
    rows = [{"start": start, "end": end, "kind": "leak"} for start, end in faults]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_each_contender_runs_in_a_process_of_its_own_and_says_how_far_it_is(compare):
    plant, found = compare("three modes")
    flow, lines = plant.config.flow, []
    jobs = [
        Job(Contender("gaussian"), flow),
        Job(Contender("isolation_forest"), flow),
        Job(Contender("nonsense"), flow),
    ]
    gaussian, forest, broken = run_trial(found.trial, jobs, plant.config, lines.append)
    here = next(result for result in found.results if result.key == "gaussian")
    assert gaussian.log_density == pytest.approx(here.log_density)
    assert gaussian.figure("peak_memory_mb") >= gaussian.figure("memory_before_mb") > 50
    assert forest.held_out is None
    assert forest.detection.n_faults == gaussian.detection.n_faults > 0
    assert "nonsense" in broken.error
    assert len(lines) == 4
    assert lines[0] == f"3 models on {len(found.trial.learn):,} readings, " + lines[0].split(", ")[1]


def test_a_job_says_the_same_after_a_journey_as_text():
    from tests.conftest import config_of

    job = Job(Contender("pwflow", 4), config_of(flow={"hidden": 48}).flow, 3, 100)
    assert Job.from_json(job.to_json()) == job


def test_labels_of_the_time_after_training_are_what_is_judged(tmp_path):
    plant = make_case(tmp_path, CASES["one Gaussian"](), training={"until": "2024-03-04T00:00:00Z"})
    ensure_readings(plant)
    facts = read_facts(plant)
    assert facts.n_complete == 3 * 1440
    labels = write_labels(
        tmp_path / "labels.csv",
        ("2024-03-02T10:00:00Z", "2024-03-02T10:20:00Z"),  # in the training window: not judged
        ("2024-03-04T10:00:00Z", "2024-03-04T10:20:00Z"),
    )
    from pwflow_core.pipeline.labels import labels_from_file

    trial = read_trial(plant, facts, labels_from_file(plant, labels))
    assert trial.facts.fault_source == "labelled"
    assert trial.judged.kinds == ("leak",)
    assert (trial.judged.fault == 0).sum() == 21
    assert len(trial.judged.X) == 6000 - facts.n_complete


def test_a_large_plant_is_sampled(tmp_path):
    plant = make_case(tmp_path, CASES["one Gaussian"]())
    ensure_readings(plant)
    trial = read_trial(plant, read_facts(plant), None, rows=500)
    assert len(trial.learn) == 500


def test_labels_that_belong_to_no_reading_are_refused(tmp_path):
    plant = make_case(tmp_path, CASES["one Gaussian"]())
    labels = write_labels(tmp_path / "labels.csv", ("2023-01-01T00:00:00Z", "2023-01-01T01:00:00Z"))
    with pytest.raises(LabelsError, match="none of the 1 faults holds"):
        prove_plant(plant, labels_file=labels, run=measure_here)


@pytest.mark.parametrize("regimes", [[], [0], [1, 300]])
def test_a_number_of_regimes_that_cannot_be_is_refused(regimes, tmp_path):
    plant = make_case(tmp_path, CASES["200 rows"]())
    with pytest.raises(ConfigurationError, match="Expected numbers of regimes"):
        prove_plant(plant, regimes=regimes)


def test_regimes_that_would_have_too_few_readings_for_a_flow_are_left_out(tmp_path):
    plant = make_case(tmp_path, CASES["one Gaussian"](), flow={"min_rows": 2000})
    found = prove_plant(plant, regimes=[2, 4], rivals=["gaussian"], max_steps=20, run=measure_here)
    assert [result.key for result in found.results] == ["pwflow_1", "pwflow_2", "gaussian"]
