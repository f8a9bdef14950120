"""Laws of the alarm score: calibrated, monotone, independent of the batch, exact in blame; odd plants too."""

import numpy as np
import pytest
from scipy.stats import norm

from pwflow_core import PiecewiseFlow, PiecewiseFlowDetector
from pwflow_core.errors import ModelFileError
from pwflow_core.modelling.alarms import VIEWS, AlarmRule, AlarmScore, Resolution, probe_detectability
from pwflow_core.modelling.alarms.faults import KINDS, inject_faults
from pwflow_core.modelling.alarms.resolution import step_of
from pwflow_core.modelling.alarms.scale import SurpriseScale
from tests.modelling.conftest import BRIEF


def draw_plant(n_rows, seed=0):
    """Return readings of two regimes with four related sensors."""
    rng = np.random.default_rng(seed)
    load = np.repeat(rng.integers(0, 2, n_rows // 20 + 1), 20)[:n_rows]
    first = 10 + 8 * load + rng.standard_normal(n_rows)
    second = 3 * first + 0.3 * rng.standard_normal(n_rows)
    third = np.exp(0.5 * rng.standard_normal(n_rows)) + load
    return np.stack([first, second, third, rng.standard_normal(n_rows)], axis=1)


def odd_plant(name, n_rows=600, seed=0):
    """Return readings whose first sensor is an ordinary one, but for plants of one sensor."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_rows, 3))
    x[:, 1] += x[:, 0]
    if name == "binary":
        x[:, 2] = rng.random(n_rows) < 0.5
    elif name == "quantised":
        x = np.round(x, 1)
    elif name == "coarse":
        x = np.round(x)
    elif name == "offset":
        x += 1e6
    elif name == "tiny":
        x *= 1e-12
    elif name == "huge":
        x *= 1e12
    elif name == "collinear":
        x[:, 2] = x[:, 0] - x[:, 1]
    elif name == "twins":
        x[:, 2] = x[:, 1]
    elif name == "one sensor":
        x = x[:, :1]
    elif name == "zero-inflated":
        x[:, 2] = np.where(rng.random(n_rows) < 0.9, 0.0, np.abs(x[:, 2]))
    elif name == "constant":
        x[:, 2] = 5.0
    elif name == "duplicates":
        x = np.repeat(x[: n_rows // 4], 4, axis=0)
    elif name == "few":
        x = x[:60]
    return x


ODD = [
    "ordinary",
    "binary",
    "quantised",
    "coarse",
    "offset",
    "tiny",
    "huge",
    "collinear",
    "twins",
    "one sensor",
    "zero-inflated",
    "constant",
    "duplicates",
    "few",
]


def fit(x, **options):
    return PiecewiseFlowDetector(PiecewiseFlow(flow=BRIEF, shared_flow=False), random_state=0).fit(x, **options)


@pytest.fixture(scope="module")
def plant():
    return fit(draw_plant(3000))


@pytest.fixture(scope="module", params=ODD)
def odd(request):
    return request.param, fit(odd_plant(request.param)), odd_plant(request.param, seed=1)


def test_p_values_of_fresh_readings_keep_their_promise(plant):
    """On average over calibrations on 450 readings each, as far as so few of them can tell."""
    models = [plant, *(fit(draw_plant(3000, seed=seed)) for seed in (13, 14))]
    p = np.stack([model.p_values(draw_plant(20_000, seed=1)) for model in models])
    for alpha in (0.2, 0.05, 0.01):
        assert np.mean(p <= alpha) == pytest.approx(alpha, rel=0.6)
    assert np.mean(p <= 1e-3) < 5e-3


@pytest.mark.parametrize(
    "n_rows", [60, pytest.param(100, marks=pytest.mark.long(reason="5 CPU s: fewer and more of them stay")), 144]
)
def test_few_readings_do_not_promise_more_than_they_can_keep(n_rows):
    shares = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((n_rows + 4000, 3)) @ np.array([[1, 2, 0], [0, 1, 1], [0, 0, 0.2]])
        p = fit(x[:n_rows]).p_values(x[n_rows:])
        shares.append([(p <= 0.1).mean(), (p <= 0.01).mean(), (p <= 1e-3).mean()])
    tenth, hundredth, thousandth = np.mean(shares, axis=0)
    assert tenth < 0.15
    assert hundredth < 0.03
    assert thousandth < 0.008


def test_a_reading_scores_the_same_in_any_batch(plant):
    x = np.concatenate([draw_plant(1500, seed=2), draw_plant(500, seed=3) * 1.3])
    whole = plant.score_samples(x)
    for size in (1, 7, 640):
        some = np.concatenate(
            [plant.score_samples(x[i : i + size]) for i in range(0, 200 if size == 1 else 2000, size)]
        )
        np.testing.assert_allclose(some, whole[: len(some)], rtol=1e-6, atol=1e-6)


def test_a_score_that_was_written_and_read_scores_bit_equal(plant):
    data = plant.alarm_score_.to_bytes()
    assert data == plant.alarm_score_.to_bytes()
    again = AlarmScore.from_bytes(data, plant.density_.mixture_)
    x = draw_plant(500, seed=4) * 1.5
    np.testing.assert_array_equal(again.surprises(x), plant.alarm_score_.surprises(x))
    with pytest.raises(ModelFileError):
        AlarmScore.from_bytes(data[:-100], plant.density_.mixture_)


def test_the_same_seed_gives_the_same_score():
    x, fresh = draw_plant(400), draw_plant(100, seed=1)
    np.testing.assert_array_equal(fit(x).score_samples(fresh), fit(x).score_samples(fresh))


def test_contributions_add_up_to_the_anomaly_score_and_name_the_sensor(plant):
    x = draw_plant(300, seed=5)
    x[:100, 3] += 8.0
    blame = plant.contributions(x)
    assert (blame >= 0).all()
    np.testing.assert_allclose(blame.sum(axis=1), -np.log10(plant.p_values(x)), rtol=1e-9, atol=1e-12)
    assert np.mean(blame[:100].argmax(axis=1) == 3) > 0.9


def test_what_recurs_in_no_regime_and_between_them_is_flagged(plant):
    between = draw_plant(200, seed=6).mean(axis=0)
    lost = draw_plant(400, seed=7)
    lost[:, 1] = lost[::-1, 1]
    far_apart = np.abs(lost[:, 1] - 3 * lost[:, 0]) > 3
    assert plant.p_values(between[None])[0] < 0.01
    assert np.mean(plant.p_values(lost[far_apart]) < 1e-3) > 0.95


def test_a_sensor_that_moves_further_out_never_gets_a_lower_score_and_is_flagged_from_ten_sigma_on(odd):
    """From the reading on: the surprise may not drop, but for rounding, and a lone reading at ten sigma is flagged."""
    name, model, fresh = odd
    start = fresh[model.p_values(fresh) > 0.2][:8]
    spread = fresh[:, 0].std()
    sizes = np.concatenate([np.linspace(4, 10, 25), np.geomspace(10, 1000, 40)])
    for sign in (-1, 1):
        for row in start:
            ramp = np.repeat(row[None], len(sizes), axis=0)
            ramp[:, 0] += sign * sizes * spread
            surprise = -model.score_samples(ramp)
            assert (np.diff(surprise) >= -1e-3 * surprise[1:]).all(), name
            assert (surprise[sizes >= 10] > np.log(100)).all(), name
            assert (surprise[sizes >= 20] > np.log(1000)).all(), name


def test_odd_plants_are_calibrated_too(odd):
    name, model, fresh = odd
    p = model.p_values(fresh)
    assert np.isfinite(p).all()
    assert ((p > 0) & (p <= 1)).all()
    assert np.mean(p <= 0.05) < (0.15 if name in ("few", "duplicates", "coarse") else 0.1)
    assert np.mean(p <= 1e-3) < (0.05 if name == "duplicates" else 0.02)  # 30 different readings calibrate


@pytest.mark.parametrize("by", [0.5, -5.0, 100.0])
def test_a_constant_that_moves_alarms(by):
    model = fit(odd_plant("constant"))
    fresh = odd_plant("constant", seed=1)[:50]
    moved = fresh.copy()
    moved[:, 2] += by
    assert (model.p_values(moved) < 1e-4).all()


def test_a_state_in_the_wrong_company_is_odder_than_any_normal_reading():
    rng = np.random.default_rng(0)
    state = (rng.random(1500) < 0.5).astype(float)
    x = np.stack([state, 5 * state + rng.standard_normal(1500) * 0.3, rng.standard_normal(1500)], axis=1)
    model = fit(x[:1000])
    wrong = x[1000:].copy()
    wrong[:, 0] = 1 - wrong[:, 0]
    assert np.median(model.score_samples(wrong)) < model.score_samples(x[1000:]).min()


def test_rows_of_weight_zero_teach_nothing():
    x = draw_plant(900)
    dirty = np.concatenate([x, x[:100] + 50.0])
    weight = np.r_[np.ones(900), np.zeros(100)]
    fresh = draw_plant(100, seed=1)
    np.testing.assert_array_equal(fit(x).score_samples(fresh), fit(dirty, sample_weight=weight).score_samples(fresh))


def test_blocks_of_alike_readings_promise_less():
    x, blocks = np.repeat(draw_plant(60), 20, axis=0), np.repeat(np.arange(60), 20)
    x = x + 0.01 * np.random.default_rng(0).standard_normal(x.shape)
    with_blocks, without = fit(x, blocks=blocks), fit(x)
    assert with_blocks.alarm_score_.calibration.n_effective < 40
    assert without.alarm_score_.calibration.n_effective > 100


@pytest.mark.parametrize("blocks", [np.zeros(3), np.zeros((600, 2))])
def test_blocks_of_the_wrong_shape_are_refused(blocks):
    with pytest.raises(ValueError, match="one label or segment per row"):
        fit(odd_plant("ordinary"), blocks=blocks)


def test_views_are_trusted_by_what_they_see(plant):
    weights = plant.alarm_score_.weights
    assert weights.shape == (len(VIEWS),)
    assert weights.sum() == pytest.approx(1)
    assert weights[VIEWS.index("margins")] < weights.max()  # lost relations are most of what is injected


def test_surprises_rise_with_the_statistic_without_a_ceiling():
    rng = np.random.default_rng(0)
    values = rng.exponential(size=500)
    scale = SurpriseScale.fit(values, np.ones(500), 0.01)
    at = np.concatenate([np.linspace(-1, 12, 2000), [1e3, 1e6]])
    surprise = scale(at)
    assert (np.diff(surprise) >= 0).all()
    assert surprise[-1] > 1e5
    assert scale(np.array([np.log(100.0)]))[0] == pytest.approx(np.log(100), rel=0.25)


@pytest.mark.parametrize("kind", KINDS)
def test_injected_faults_differ_from_what_they_were_made_of(kind):
    x = draw_plant(500)
    faulty = inject_faults(x, x, x.std(axis=0), kind, 200, np.random.default_rng(0))
    assert faulty.shape == (200, 4)
    known = {tuple(row) for row in x}
    assert np.mean([tuple(row) not in known for row in faulty]) > 0.8
    with pytest.raises(ValueError, match="kind of fault"):
        inject_faults(x, x, x.std(axis=0), "gremlin", 1, np.random.default_rng(0))


@pytest.mark.parametrize(("decimals", "offset"), [(0, 0.0), (2, 0.0), (2, 1000.0), (4, -3.0)])
def test_the_step_of_a_sensor_is_found(decimals, offset):
    x = np.round(np.random.default_rng(0).standard_normal(3000), decimals) + offset
    assert step_of(x) == pytest.approx(10.0**-decimals, rel=1e-3)


def test_a_step_is_not_invented_and_coarser_data_are_noticed():
    x = np.random.default_rng(0).standard_normal((2000, 2))
    assert step_of(x[:, 0]) == 0.0
    assert step_of(np.full(50, 3.0)) == 0.0
    fine = np.round(x, 4)
    learned = Resolution.fit(fine)
    assert (learned.floor > 0).all()
    assert not learned.coarser(fine[:500]).any()
    coarse = np.stack([np.round(x[:, 0], 2), fine[:, 1]], axis=1)
    assert learned.coarser(coarse).tolist() == [True, False]


def test_detectability_is_in_raw_units_and_names_the_blind():
    x = draw_plant(400)
    runs = x.reshape(100, 4, 4)
    tight = np.array([1.0, 3.0, 1.0, 1.0])
    originals = {4: x, 1: runs[:, -1]}

    def p_values(rows):  # sees every sensor but the last, in these units; of shifts whole runs are asked about
        before = originals[4 if len(rows) == 2 * len(x) else 1]
        return np.exp(-np.abs((rows - np.concatenate([before, before])) / tight)[:, :3].max(axis=1) * 2)

    found = probe_detectability(p_values, runs, x.std(axis=0), AlarmRule(np.exp(-4.0), np.exp(-8.0)))
    assert found.spike[:3] == pytest.approx([4.0, 12.0, 4.0], rel=0.35)
    assert found.shift[:3] == pytest.approx([2.0, 6.0, 2.0], rel=0.35)
    assert found.is_blind.tolist() == [False, False, False, True]
    assert np.isinf(found.spike[3])
    assert (found.missed[:3] < found.shift[:3]).all()
    assert found.missed[3] == pytest.approx(1000 * found.unit[3])


def test_a_shift_that_looks_normal_elsewhere_is_missed_however_well_smaller_ones_are_seen():
    x = np.random.default_rng(0).standard_normal((200, 1))

    def p_values(rows):  # a second way of running, 20 sigma away
        return 2 * norm.sf(np.minimum(np.abs(rows), np.abs(np.abs(rows) - 20))[:, 0])

    found = probe_detectability(p_values, x.reshape(50, 4, 1), np.ones(1), AlarmRule(1e-3, 1e-5))
    assert 20 < found.shift_sigma[0] < 26
    assert found.is_blind.all()


def test_readings_that_are_not_judged_raise_no_alarm():
    rule = AlarmRule(0.01, 1e-4)
    p = np.array([[0.01, 0.005], [0.01, 0.02], [np.nan, 1e-5], [np.nan, 0.001]])
    assert rule.alarms(p).tolist() == [True, False, True, False]


@pytest.mark.parametrize("wrong", [{"power": 0.0}, {"rare": 2.0}, {"n_runs": 0}])
def test_a_probe_with_wrong_settings_is_refused(wrong):
    given = {"power": 0.9, "rare": 0.001, "n_runs": 5} | wrong
    runs = np.zeros((given["n_runs"], 4, 2))
    with pytest.raises(ValueError, match="Expected"):
        probe_detectability(np.ones, runs, np.ones(2), AlarmRule(0.01, given["rare"]), power=given["power"])
