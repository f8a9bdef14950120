"""Calibration: p-values that keep their promise on normal readings, however few, alike or dirty those before were."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from pwflow_core.modelling import Calibration, calibrate

SURPRISES = {
    "exponential": stats.expon(),
    "eight Gaussian sensors": stats.gamma(4),
    "thirty Gaussian sensors": stats.gamma(15),
    "one Gaussian sensor": stats.gamma(0.5),
    "heavier than exponential": stats.genpareto(0.15),
    "two kinds of reading": stats.lognorm(0.5),
}
DEGENERATE = {
    "one row": [1.0],
    "five rows": [1.0, 2.0, 3.0, 4.0, 5.0],
    "all equal": [2.5] * 300,
    "two values": [0.0, 1.0] * 100,
    "duplicates": np.repeat(np.linspace(0, 1, 40), 9),
    "one far outlier": [0.0, 0.1, 0.2, 0.3, -1e6],
    "huge values": [1e12, 2e12, 3e12, 4e12] * 30,
}


def draw(name: str, n_rows: int, seed: int = 0) -> np.ndarray:
    """Return log-densities of normal readings."""
    return -SURPRISES[name].rvs(n_rows, random_state=np.random.default_rng(seed))


def stretches(n_blocks: int, length: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return log-densities that differ more between stretches of time than within them, and the stretches."""
    rng = np.random.default_rng(seed)
    common = np.repeat(rng.normal(size=n_blocks), length)
    return common + 0.3 * rng.normal(size=n_blocks * length), np.repeat(np.arange(n_blocks), length)


@pytest.mark.parametrize("name", SURPRISES)
def test_p_values_of_fresh_normal_readings_are_uniform(name):
    """Also the chance of a p of 0.001, which a thousand readings have hardly seen, on average over calibrations."""
    shares = []
    for seed in range(30):
        made = calibrate(draw(name, 5000, seed))
        shares.append([SURPRISES[name].cdf(-made.limit(alpha)) for alpha in (0.1, 0.01, 0.001)])
    tenth, hundredth, thousandth = 1 - np.mean(shares, axis=0)
    assert tenth == pytest.approx(0.1, rel=0.05)
    assert hundredth == pytest.approx(0.01, rel=0.15)
    assert 0.4e-3 < thousandth < 1.4e-3


@pytest.mark.parametrize("n_rows", [5, 20, 100, 1000])
def test_a_new_normal_reading_has_a_p_of_at_most_alpha_no_more_often_than_alpha(n_rows):
    """The promise of the body, and that of the tail where it is exponential, on average over calibrations."""
    alphas = (0.5, 0.1, 0.02)
    made = [calibrate(draw("exponential", n_rows, seed)) for seed in range(200)]
    share = np.exp([[calibration.limit(alpha) for alpha in alphas] for calibration in made]).mean(axis=0)
    assert (share <= 1.25 * np.array(alphas)).all()


@pytest.mark.parametrize("name", [*SURPRISES, *DEGENERATE])
def test_p_falls_with_the_log_density_and_is_never_zero(name):
    rows = draw(name, 700) if name in SURPRISES else np.asarray(DEGENERATE[name])
    made = calibrate(rows)
    spread = 1 + np.ptp(rows)
    at = np.sort(np.concatenate([rows, np.linspace(rows.min() - 50 * spread, rows.max() + spread, 5000), [-1e300]]))
    p = made.p_values(at)
    assert np.isfinite(p).all()
    assert (np.diff(p) >= 0).all()
    assert (p > 0).all()
    assert p.max() <= 1
    assert p[0] < p[-1]
    assert made.p_values(rows.max())[()] == pytest.approx(1)


@pytest.mark.parametrize("name", [*SURPRISES, *DEGENERATE])
def test_body_and_tail_meet_at_the_threshold(name):
    made = calibrate(draw(name, 700) if name in SURPRISES else DEGENERATE[name])
    at = made.threshold
    below = made.p_values([np.nextafter(at, -np.inf)])[0]
    assert below == pytest.approx(made.p_values([at])[0], rel=1e-9 + abs(np.spacing(at)) / made.scale)


def test_with_independent_readings_the_body_is_the_split_conformal_p_value():
    rows, fresh = draw("eight Gaussian sensors", 800), draw("eight Gaussian sensors", 5000, seed=1)
    made = calibrate(rows)
    conformal = (1 + np.searchsorted(np.sort(rows), fresh, side="right")) / (1 + len(rows))
    body = fresh >= made.threshold
    assert 0.8 < body.mean() < 0.95
    np.testing.assert_allclose(made.p_values(fresh)[body], conformal[body], rtol=1e-12)


def test_steps_that_were_thinned_out_never_make_a_p_smaller():
    rows = draw("exponential", 60_000)
    made = calibrate(rows)
    assert len(made.log_density) <= 1000
    fresh = draw("exponential", 5000, seed=1)
    body = fresh >= made.threshold
    conformal = ((1 + np.searchsorted(np.sort(rows), fresh, side="right")) / (1 + len(rows)))[body]
    p = made.p_values(fresh)[body]
    assert (p >= conformal * (1 - 1e-12)).all()
    assert (p <= conformal + 0.002).all()


def test_a_p_of_one_in_a_million_can_be_reached_with_a_thousand_readings():
    made = calibrate(draw("eight Gaussian sensors", 1000))
    assert -60 < made.limit(1e-6) < made.limit(1e-3) < made.threshold
    assert made.p_values([made.limit(1e-6) - 1e-9])[0] <= 1e-6


def test_few_readings_promise_less_than_many():
    few, many = (calibrate(draw("exponential", n)) for n in (30, 30_000))
    assert few.shape > many.shape
    assert few.limit(1e-6) < many.limit(1e-6)


@pytest.mark.parametrize("alpha", [0.5, 0.1, 0.03, 0.01, 1e-3, 1e-6, 1e-12])
def test_the_limit_of_alpha_is_where_p_reaches_it(alpha):
    made = calibrate(draw("eight Gaussian sensors", 2000))
    limit = made.limit(alpha)
    assert made.p_values([limit - 1e-9])[0] <= alpha
    assert made.p_values([limit + 1e-9])[0] >= alpha * (1 - 1e-6)


def test_alike_neighbours_count_as_the_few_independent_readings_that_they_are():
    rows, blocks = stretches(60, 50)
    made = calibrate(rows, blocks=blocks)
    assert made.n_rows == 3000
    assert 30 < made.n_effective < 120
    shuffled = calibrate(rows, blocks=np.random.default_rng(0).permutation(blocks))
    assert shuffled.n_effective > 1500
    assert made.limit(1e-4) < shuffled.limit(1e-4)


def test_a_single_stretch_of_time_is_worth_one_reading():
    assert calibrate(draw("exponential", 500), blocks=np.zeros(500)).n_effective == 1


@pytest.mark.parametrize("with_blocks", [True, False])
def test_gross_outliers_among_two_in_a_hundred_readings_do_not_hide_a_fault(with_blocks):
    """A fault that happens to lie in the held-out readings: its stretch is set aside as a whole."""
    rows, blocks = draw("eight Gaussian sensors", 4000), np.repeat(np.arange(100), 40)
    clean = calibrate(rows)
    dirty = rows.copy()
    at = slice(400, 480) if with_blocks else np.random.default_rng(0).permutation(4000)[:80]
    dirty[at] -= 60
    made = calibrate(dirty, blocks=blocks if with_blocks else None)
    assert made.n_set_aside == 80
    assert made.p_values([-60.0])[0] < 1e-6
    assert made.limit(1e-3) == pytest.approx(clean.limit(1e-3), rel=0.15)


def test_what_is_rare_but_recurs_is_a_habit_and_stays():
    rows, blocks = draw("eight Gaussian sensors", 4000), np.repeat(np.arange(100), 40)
    rows[::400] -= 60  # one reading in each tenth stretch
    made = calibrate(rows, blocks=blocks)
    assert made.n_set_aside == 0
    assert 5e-4 < made.p_values([-60.0])[0] < 10 / 4000


@pytest.mark.parametrize("name", SURPRISES)
def test_clean_readings_are_hardly_ever_set_aside(name):
    made = [calibrate(draw(name, 2000, seed), blocks=np.arange(2000) // 20) for seed in range(40)]
    assert sum(m.n_set_aside for m in made) <= 0.001 * 40 * 2000


def test_a_wide_noisy_regime_and_a_tight_one_give_the_same_scores():
    """One log-density is off by 15 nats and three times as spread; scores of normal readings agree at every level."""
    tight, wide = stats.gamma(1), stats.gamma(12, scale=3, loc=15)
    scores = []
    for surprise in (tight, wide):
        rng = np.random.default_rng(3)
        made = calibrate(-surprise.rvs(20_000, random_state=rng))
        scores.append(-np.log10(made.p_values(-surprise.rvs(200_000, random_state=rng))))
    assert stats.ks_2samp(*scores).statistic < 0.015
    for level in (0.5, 0.9, 0.99, 0.999):
        first, second = (np.quantile(s, level) for s in scores)
        assert first == pytest.approx(second, abs=0.12)


def test_weights_are_repeated_rows():
    rows = draw("exponential", 400)
    weight = np.random.default_rng(1).integers(0, 4, 400)
    weighted, repeated = calibrate(rows, weight=weight), calibrate(np.repeat(rows, weight))
    for field in dataclasses.fields(Calibration):
        np.testing.assert_array_equal(getattr(weighted, field.name), getattr(repeated, field.name))


def test_the_order_of_the_rows_does_not_matter():
    rows, blocks = stretches(40, 30)
    order = np.random.default_rng(0).permutation(len(rows))
    made, shuffled = calibrate(rows, blocks=blocks), calibrate(rows[order], blocks=blocks[order])
    np.testing.assert_allclose(made.p_values(rows - 2), shuffled.p_values(rows - 2), rtol=1e-6)


@pytest.mark.parametrize("rows", [[], [np.nan], [1.0, -np.inf]])
def test_nothing_to_calibrate_on_is_an_error(rows):
    with pytest.raises(ValueError, match="finite log-densities of at least one"):
        calibrate(rows)


def test_rare_readings_that_come_together_are_told_from_those_that_do_by_chance():
    rng = np.random.default_rng(0)
    blocks = np.repeat(np.arange(1000), 20)
    alone = calibrate(rng.standard_normal(20_000), blocks=blocks)
    twins = calibrate(np.repeat(rng.standard_normal(10_000), 2), blocks=blocks)  # a group for each two rare readings
    bursts = calibrate(np.sort(rng.standard_normal(20_000)), blocks=blocks)  # ten blocks hold all that is rare
    assert alone.tail_dependence < 0.05
    assert 0.35 < twins.tail_dependence <= 0.5
    assert bursts.tail_dependence < 0.1
    assert calibrate(rng.standard_normal(100)).tail_dependence == 0.5  # too few to tell
