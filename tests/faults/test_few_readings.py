"""What is said of a reading does not depend on how many others came with it: a night alone, or a year at once."""

import numpy as np
import pytest

from pwflow_core.modelling import ClusterFlow, SensorAttributor
from tests.conftest import query


@pytest.fixture
def flows(trained_plant):
    versions = query(trained_plant, "SELECT flow_version FROM mart.flow_versions WHERE in_force ORDER BY cluster_key")
    return [ClusterFlow.from_bytes(trained_plant.models.get(version)) for (version,) in versions]


@pytest.mark.parametrize("at_once", [1, 2, 3, 7])
def test_a_few_readings_have_the_densities_and_explanations_of_many(flows, at_once):
    """To the last bit: a recomputation from raw files has to end with the same tables."""
    rng = np.random.default_rng(0)
    X = np.concatenate([flow.sample(70, 0) for flow in flows]) + 3 * rng.standard_normal((70 * len(flows), 2))
    parts = [X[start : start + at_once] for start in range(0, len(X), at_once)]
    for flow in flows:
        assert not flow.is_gaussian
        whole = flow.evaluate(X)
        for name in ("log_prob", "log_det", "conformity"):
            np.testing.assert_array_equal(
                np.concatenate([getattr(flow.evaluate(part), name) for part in parts]), getattr(whole, name)
            )
    attributor = SensorAttributor(np.full(len(flows), 1 / len(flows)), flows)
    whole = attributor.attribute(X)
    explained = [attributor.attribute(part) for part in parts]
    for name in ("share", "cluster", "expected", "low", "high"):
        np.testing.assert_array_equal(np.concatenate([getattr(one, name) for one in explained]), getattr(whole, name))
