"""Contenders in processes of their own, labels of a file, and what goes wrong."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pwflow_core.config import CostsConfig
from pwflow_core.errors import ConfigurationError, LabelsError
from pwflow_core.pipeline.evaluation.labels import labels_from_file
from pwflow_core.poc.contenders import Contender, build_contender
from pwflow_core.poc.costs import events_per_year
from pwflow_core.poc.proving import prove_plant
from pwflow_core.poc.readings import ensure_readings, read_facts, read_trial
from pwflow_core.poc.running import run_trial
from pwflow_core.poc.worker import Job, _alarm_scores
from tests.poc.conftest import CASES, make_case, measure_here


def test_flows_alarm_by_p_values_that_hold_in_each_regime_as_in_the_product(compare):
    plant, found = compare("three modes")
    model = build_contender(Contender("pwflow", 3), plant.config.flow, 0, 64).fit(found.trial.learn)
    scores = _alarm_scores(model, found.trial.calibration, found.trial.judged.X)
    regime, _, _ = model.mixture_.judge(found.trial.calibration)
    assert set(regime) == {0, 1, 2}
    for own in range(3):
        assert np.mean(scores["calibration"][regime == own] <= np.log(0.1)) == pytest.approx(0.1, abs=0.05)
    assert np.isfinite(scores["judged"]).all()
    assert (scores["judged"] <= 0).all()


def write_labels(path, *faults: tuple[str, str]):
    rows = [{"start": start, "end": end, "kind": "leak"} for start, end in faults]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_each_contender_runs_in_a_process_of_its_own_and_says_how_far_it_is(compare):
    plant, found = compare("three modes")
    flow, lines = plant.config.flow, []
    jobs = [Job(Contender("gaussian"), flow), Job(Contender("nonsense"), flow)]
    gaussian, broken = run_trial(found.trial, jobs, plant.config, lines.append)
    here = next(result for result in found.results if result.key == "gaussian")
    assert gaussian.log_density == pytest.approx(here.log_density)
    assert gaussian.figure("peak_memory_mb") >= gaussian.figure("memory_before_mb") > 50
    assert gaussian.detection.n_faults > 0
    assert "nonsense" in broken.error
    assert len(lines) == 3
    assert lines[0] == f"2 models on {len(found.trial.learn):,} readings, " + lines[0].split(", ")[1]


@pytest.mark.long(reason="15 CPU s: two processes more; one runs at each push")
def test_a_contender_without_a_density_is_judged_on_the_same_faults_as_one_with(compare):
    plant, found = compare("three modes")
    jobs = [Job(Contender(name), plant.config.flow) for name in ("gaussian", "isolation_forest")]
    gaussian, forest = run_trial(found.trial, jobs, plant.config)
    assert forest.held_out is None
    assert forest.detection.n_faults == gaussian.detection.n_faults > 0


@pytest.mark.long(reason="20 CPU s: four processes; one that ends by itself and one that fails run at each push")
def test_an_interrupt_ends_the_comparison_and_no_further_contender_is_started(compare):
    plant, found = compare("three modes")
    lines, n_fitted = [], 0

    def interrupt(line: str) -> None:
        lines.append(line)
        if line.startswith("1 of"):
            raise KeyboardInterrupt

    class Counted(Job):
        def to_json(self) -> str:
            nonlocal n_fitted
            n_fitted += 1
            return super().to_json()

    with pytest.raises(KeyboardInterrupt):
        run_trial(found.trial, [Counted(Contender("gaussian"), plant.config.flow)] * 12, plant.config, interrupt)
    assert len(lines) == 2
    assert n_fitted <= 6  # those under way, and what they are followed by before the interrupt arrives


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
    trial = read_trial(plant, facts, labels_from_file(plant, labels))
    assert trial.facts.fault_source == "labelled"
    assert trial.judged.kinds == ("leak",)
    assert (trial.judged.fault == 0).sum() == 21
    assert len(trial.judged.X) == 6000 - facts.n_complete


@pytest.mark.parametrize("training", [{}, {"until": "2024-03-04T00:00:00Z"}])
def test_events_of_a_year_are_counted_on_the_whole_record_whatever_part_of_it_is_judged(training, tmp_path):
    plant = make_case(tmp_path, CASES["one Gaussian"](), training=training)
    ensure_readings(plant)
    hours = [f"2024-03-0{day}T{hour:02d}:{{}}:00Z" for day in (1, 2, 3, 4) for hour in (0, 6, 12, 18)]
    outside = ("2025-03-04T10:00:00Z", "2025-03-04T10:20:00Z")
    labels = write_labels(tmp_path / "labels.csv", *((hour.format("00"), hour.format("40")) for hour in hours), outside)
    trial = read_trial(plant, read_facts(plant), labels_from_file(plant, labels))
    weeks = 6000 / (7 * 1440)
    assert trial.facts.faults_per_week == pytest.approx(16 / weeks)
    assert events_per_year(CostsConfig(), trial.facts) == pytest.approx(16 / weeks * 365.25 / 7)
    assert events_per_year(CostsConfig(events_per_year=3), trial.facts) == 3


def test_the_rate_of_faults_is_that_of_the_time_that_is_labelled(tmp_path):
    plant = make_case(tmp_path, CASES["one Gaussian"]())
    ensure_readings(plant)
    times = pd.date_range("2024-03-02", periods=2 * 1440, freq="60s")
    frame = pd.DataFrame({"time": times.strftime("%Y-%m-%dT%H:%M:%SZ"), "label": (times.hour % 12 == 3).astype(int)})
    frame.to_csv(tmp_path / "labels.csv", index=False)
    trial = read_trial(plant, read_facts(plant), labels_from_file(plant, tmp_path / "labels.csv"))
    assert trial.facts.faults_per_week == pytest.approx(4 / (2 / 7))


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


def test_a_budget_of_alarms_that_no_run_accepts_is_refused_before_anything_is_fitted(tmp_path):
    plant = make_case(tmp_path, CASES["one Gaussian"](), scoring={"alarms_per_week": 1e6})
    with pytest.raises(ConfigurationError, match="alarms_per_week"):
        prove_plant(plant, run=None)


@pytest.mark.parametrize("regimes", [[], [0], [1, 300]])
def test_a_number_of_regimes_that_cannot_be_is_refused(regimes, tmp_path):
    plant = make_case(tmp_path, CASES["200 rows"]())
    with pytest.raises(ConfigurationError, match="Expected numbers of regimes"):
        prove_plant(plant, regimes=regimes)


def test_regimes_that_would_have_too_few_readings_for_a_flow_are_left_out(tmp_path):
    plant = make_case(tmp_path, CASES["one Gaussian"](), flow={"min_rows": 2000})
    found = prove_plant(plant, regimes=[2, 4], rivals=["gaussian"], max_steps=20, run=measure_here)
    assert [result.key for result in found.results] == ["pwflow_1", "pwflow_2", "gaussian"]
