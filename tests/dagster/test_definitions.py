from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster_graphql.schema.run_config import default_values_yaml_from_type_snap

from pwflow_core.demo import demo_config
from pwflow_dagster.definitions import build

DECISIONS = (
    "answer_drift",
    "approve_regime",
    "dismiss",
    "acknowledge_case",
    "shelve_case",
    "mark_case",
    "undo_decision",
    "name_regime",
    "promote_flow",
    "roll_back_flow",
)
ASSETS = {
    "raw_readings",
    "readings",
    "cluster_model",
    "cluster_assignments",
    "cluster_flow",
    "component_log_density",
    "anomaly_scores",
    "sensor_contributions",
    "anomaly_events",
    "cluster_health",
    "cases",
    "published_warehouse",
    "plant_report",
    "notifications",
}


def test_loading_the_definitions_and_commands_imports_nothing_heavy(tmp_path):
    code = (
        "import sys, pwflow_dagster.definitions, pwflow_dagster.cli\n"
        "heavy = {'torch', 'sklearn', 'scipy', 'duckdb', 'pandas', 'click.shell_completion'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def definitions():
    return build(demo_config())


def test_every_asset_of_the_design_is_there_and_described(definitions):
    specs = {spec.key.path[-1]: spec for spec in definitions.resolve_all_asset_specs()}
    assert set(specs) == ASSETS
    for name, spec in specs.items():
        assert len(spec.description or "") > 60, name
        assert spec.owners, name
        assert spec.kinds, name
        assert spec.group_name, name
        assert spec.key.path[0] == "demo"


def test_every_asset_says_its_plant_and_its_code_and_those_that_must_arrive_say_when(definitions):
    specs = {spec.key.path[-1]: spec for spec in definitions.resolve_all_asset_specs()}
    for name, spec in specs.items():
        assert spec.tags["pwflow/plant"] == "demo", name
        [reference] = spec.metadata["dagster/code_references"].code_references
        assert f"def {name}(" in Path(reference.file_path).read_text(), name
    windows = {name: spec.freshness_policy.fail_window for name, spec in specs.items() if spec.freshness_policy}
    assert {name: window.to_timedelta() for name, window in windows.items()} == dict.fromkeys(
        ("raw_readings", "published_warehouse"), timedelta(hours=26)
    )


def test_jobs_and_schedule_can_be_resolved(definitions):
    names = {job.name for job in definitions.resolve_all_job_defs()}
    assert {"whole_path", "learn_regimes", "train_and_score", "nightly_scoring", "retrain_cluster"} <= names
    dg.Definitions.validate_loadable(definitions)


def test_two_plants_do_not_share_assets_or_partitions():
    one = demo_config()
    other = one.model_copy(update={"plant": one.plant.model_copy(update={"name": "other"})})
    keys = [{spec.key for spec in build(config).resolve_all_asset_specs()} for config in (one, other)]
    assert not keys[0] & keys[1]


def test_the_schedule_follows_the_configuration():
    config = demo_config()
    schedule = config.schedule.model_copy(update={"cron": "30 4 * * 1", "timezone": "Asia/Tokyo"})
    nightly = build(config.model_copy(update={"schedule": schedule})).resolve_schedule_def("nightly")
    assert nightly.cron_schedule == "30 4 * * 1"
    assert nightly.execution_timezone == "Asia/Tokyo"


def test_a_night_before_anything_was_learned_is_skipped_with_a_reason(tmp_path):
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        nightly = build(demo_config()).resolve_schedule_def("nightly")
        context = dg.build_schedule_context(instance=instance)
        outcome = nightly.evaluate_tick(context)
    assert not outcome.run_requests
    assert "No regimes have been learned yet" in (outcome.skip_message or "")


def test_the_launchpad_shows_every_field_of_a_decision_filled_in():
    """A person then types an id and a word at most, and never the name of a field."""
    definitions = build(demo_config())
    for name in DECISIONS:
        snap = definitions.resolve_job_def(name).get_job_snapshot()
        schema = snap.config_schema_snapshot
        shown = yaml.safe_load(
            default_values_yaml_from_type_snap(schema, schema.get_config_snap(snap.mode_def_snaps[0].root_config_key))
        )
        [(op, form)] = shown["ops"].items()
        fields = definitions.resolve_job_def(name).graph.node_named(op).definition.config_schema.config_type.fields
        assert set(form["config"]) == set(fields), name
