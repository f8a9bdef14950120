"""The plant as steps hold it."""

import torch

from pwflow_core.config import parse_config
from pwflow_core.plant import Plant


def test_threads_are_as_before_after_a_computation(tmp_path):
    values = {"source": {"path": "data/*", "timestamp": "ts"}, "compute": {"threads": 3}}
    plant, before = Plant.open(parse_config(values, name="small", folder=tmp_path)), torch.get_num_threads()
    with plant.threads():
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == before
