import numpy as np
import pytest

from pwflow_core.errors import ModelFileError
from pwflow_core.modelling import ClusterFlow, ClusterSeeds, PiecewiseFlow, PiecewiseFlowDetector


@pytest.fixture(scope="module")
def bananas():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3000, 2))
    x[:, 1] += x[:, 0] ** 2
    x[::2] += 8
    return x


@pytest.fixture(scope="module")
def model(bananas):
    return PiecewiseFlow(2, random_state=0).fit(bananas)


def test_flows_beat_the_gaussians_they_start_from(model, bananas):
    gaussian = np.logaddexp.reduce(model.seeds_.log_joint(bananas), axis=1)
    assert model.score(bananas) > gaussian.mean() + 0.1


def test_density_integrates_to_one(model):
    edge = np.linspace(-8, 40, 800)
    grid = np.stack(np.meshgrid(edge, edge), axis=-1).reshape(-1, 2)
    assert np.exp(model.score_samples(grid)).sum() * (edge[1] - edge[0]) ** 2 == pytest.approx(1, abs=2e-3)


def test_save_then_load_scores_bit_equal(model, bananas, tmp_path):
    model.save(tmp_path / "model.safetensors")
    again = PiecewiseFlow.load(tmp_path / "model.safetensors")
    assert np.array_equal(model.score_samples(bananas), again.score_samples(bananas))


def test_same_seed_gives_the_same_bytes(model, bananas):
    again = PiecewiseFlow(2, random_state=0).fit(bananas)
    assert [f.to_bytes() for f in model.flows_] == [f.to_bytes() for f in again.flows_]


def test_a_flipped_byte_is_noticed(model):
    for thing, kind in ((model.flows_[0], ClusterFlow), (model.seeds_, ClusterSeeds)):
        data = bytearray(thing.to_bytes())
        assert kind.from_bytes(bytes(data)).to_bytes() == bytes(data)
        data[-5] ^= 1
        with pytest.raises(ModelFileError, match="damaged"):
            kind.from_bytes(bytes(data))
        with pytest.raises(ModelFileError):
            kind.from_bytes(bytes(data[:100]))


def test_far_outliers_score_finite(model):
    far = np.array([[1e30, 0.0], [0.0, -1e300], [1e-30, 1e6]])
    assert np.isfinite(model.score_samples(far)).all()


def test_detector_blames_the_sensor_that_is_wrong(bananas):
    detector = PiecewiseFlowDetector(PiecewiseFlow(2), random_state=0).fit(bananas)
    assert np.mean(detector.predict(bananas) == -1) == pytest.approx(0.01, abs=0.015)
    wrong = np.array([[0.0, 9.0]])
    assert detector.predict(wrong)[0] == -1
    assert detector.contributions(wrong).argmax() == 1
