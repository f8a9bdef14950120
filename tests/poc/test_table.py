"""What came of a comparison in SQL, on the terminal and as JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pwflow_core.poc.table import describe_comparison, to_json, write_comparison
from tests.conftest import query


def test_the_table_holds_the_last_comparison_with_one_recommended_model(compare):
    plant, found = compare("three modes")
    write_comparison(plant, found)
    write_comparison(plant, found)  # in place of the one before
    rows = query(plant, "SELECT model, is_recommended, n_regimes FROM mart.model_comparison ORDER BY model")
    assert [row[0] for row in rows] == sorted(result.key for result in found.results)
    assert [row[0] for row in rows if row[1]] == ["pwflow_3"]
    [(nats, cost, currency, n)] = query(
        plant,
        "SELECT held_out_log_density, yearly_cost, currency, n_learned FROM mart.model_comparison "
        "WHERE model = 'pwflow_3'",
    )
    chosen = next(result for result in found.results if result.key == "pwflow_3")
    assert nats == pytest.approx(chosen.held_out[0])
    assert (cost, currency, n) == (found.yearly["pwflow_3"].total, "EUR", len(found.trial.learn))


def test_what_is_not_known_is_null(compare):
    plant, found = compare("200 rows")
    write_comparison(plant, found)
    rows = query(
        plant,
        "SELECT DISTINCT is_recommended, recommendation, held_out_log_density, n_found, fault_source, error "
        "FROM mart.model_comparison",
    )
    assert rows == [(False, "too_little_data", None, None, None, "not run: too few readings")]


def test_the_json_is_the_whole_of_it(compare):
    _, found = compare("three modes")
    document = json.loads(to_json(found))
    assert (document["recommendation"], document["model"], document["n_regimes"]) == ("use_pwflow", "pwflow_3", 3)
    models = {row["model"]: row for row in document["models"]}
    assert models["knn"]["held_out_log_density"] is None
    n_faults = sum(total for total, _ in models["knn"]["by_kind"].values())
    assert n_faults == models["knn"]["n_faults"] == len(found.trial.judged.kinds)
    assert np.isfinite(models["pwflow_3"]["false_alarms_per_week"])


def test_the_terminal_gets_a_table_a_recommendation_and_reasons(compare):
    shown = describe_comparison(compare("three modes")[1])
    assert "pwflow with 3 regimes *" in shown
    assert "Use pwflow with 3 regimes." in shown
    assert "nats per reading" in shown
    assert describe_comparison(compare("200 rows")[1], "ja").startswith("データが不足しています")
