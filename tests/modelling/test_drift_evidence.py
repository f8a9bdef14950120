"""Evidence of drift: valid for ever on normal nights of any reference, quick on shifts, a few numbers to keep."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import lfilter

from pwflow_core.modelling.drift import Blocks, DriftReference, DriftState, advance, block_readings, log_threshold

from .drift_blocks import FIRST, UNIT, blocks_of, draw_blocks, fit_reference, followed, joined

HALF = [0.5, 0.0, 0.0]


def last(reference, blocks):
    return list(followed(reference, DriftState.start(reference), blocks))[-1]


def same(one, other):
    return json.dumps(one.to_dict()) == json.dumps(other.to_dict())


def many_channels(seed, n_channels, n_nights, per_night, night_spread, memory=0.0, first=FIRST, heavy=False):
    """Draw blocks of independent channels, each with nights of its own: as many plants at once."""
    rng = np.random.default_rng(seed)
    shocks = rng.standard_normal((n_nights + 50, n_channels)) * np.sqrt(1 - memory**2)
    nights = night_spread * lfilter([1.0], [1.0, -memory], shocks, axis=0)[50:]
    shape = (n_nights * per_night, n_channels)
    rest = rng.standard_t(3, shape) if heavy else rng.standard_normal(shape)
    night = np.repeat(np.arange(first, first + n_nights), per_night)
    values = rest + np.repeat(nights, per_night, axis=0)
    zero = np.zeros(len(night))
    return Blocks(night, np.full(len(night), "M1"), np.full(len(night), 9), values, values[:, :1], zero)


@pytest.mark.parametrize(
    ("n_nights", "in_reference", "later", "night_spread", "memory", "heavy"),
    [
        pytest.param(25, 10, 10, 0.0, 0.0, False, id="no night is like another"),
        pytest.param(25, 2, 10, 0.3, 0.0, False, id="nights differ, and the reference has few blocks of each"),
        pytest.param(25, 10, 2, 0.3, 0.0, False, id="later nights are shorter than those of the reference"),
        pytest.param(12, 3, 10, 0.3, 0.0, False, id="twelve nights of reference"),
        pytest.param(6, 5, 5, 0.5, 0.0, False, id="six nights of reference"),
        pytest.param(25, 10, 10, 1.0, 0.0, False, id="nights matter more than blocks"),
        pytest.param(40, 1, 1, 0.0, 0.0, False, id="one block a night"),
        pytest.param(25, 10, 10, 0.3, 0.0, True, id="heavy tails"),
        pytest.param(25, 10, 10, 1.0, 0.5, False, id="nights resemble the night before"),
    ],
)
def test_evidence_of_normal_nights_stays_within_its_bound(n_nights, in_reference, later, night_spread, memory, heavy):
    """P(M reaches A within n nights) is at most n / A for every A; 1,500 channels that have seen 120 nights."""
    drawn = (night_spread, memory)
    n_channels, n_watched = 1500, 120
    blocks = many_channels(0, n_channels, n_nights, in_reference, *drawn, first=FIRST - 1000, heavy=heavy)
    reference = DriftReference.fit(blocks, [1.0])
    watched = many_channels(1, n_channels, n_watched, later, *drawn, heavy=heavy)
    highest = np.full(n_channels, -np.inf)
    for state in followed(reference, DriftState.start(reference), watched):
        highest = np.maximum(highest, state.log_evidence[:n_channels])
    for times in (10, 100):
        allowed = 1 / times
        margin = 4 * np.sqrt(allowed / n_channels) + 0.15 * allowed * (memory > 0)
        assert np.mean(highest >= np.log(times * n_watched)) <= allowed + margin


@pytest.mark.parametrize("seed", range(5))
def test_half_a_sigma_on_all_machines_is_found_within_two_weeks(seed):
    reference = fit_reference(seed)
    quiet = draw_blocks(seed + 100, 20)
    moved = draw_blocks(seed + 200, 14, first=FIRST + 20, shift=HALF)
    threshold = log_threshold(1, 8)
    before = last(reference, quiet)
    assert before.combined < threshold
    assert last(reference, joined(quiet, moved)).combined > threshold


def test_the_channel_that_moved_has_the_most_evidence():
    reference = fit_reference()
    state = last(reference, draw_blocks(1, 12, shift=[0.0, -0.8, 0.0]))
    assert reference.channels == ("log_density", "latent_1", "latent_2", "latent_3", "improbable")
    assert reference.channels[int(state.log_evidence.argmax())] == "latent_2"


def test_a_night_without_sense_is_no_evidence_for_ever():
    """One night in which everything is off by ten sigma: less than the threshold, and forgotten within a month."""
    reference = fit_reference()
    wild = draw_blocks(1, 1, shift=[10.0, 10.0, 10.0])
    after = draw_blocks(2, 30, first=FIRST + 1)
    assert last(reference, wild).combined < log_threshold(1, 1)
    assert last(reference, joined(wild, after)).combined < last(reference, after).combined + 1


def test_a_fault_of_one_block_is_worth_less_than_a_nat():
    reference = fit_reference()
    night = draw_blocks(3, 1)
    latents = night.means[:, 1:].copy()
    latents[0] += 1000.0
    faulty = blocks_of(night.night, night.machine, latents)
    assert last(reference, faulty).combined < last(reference, night).combined + 1


def test_replaying_the_nights_gives_the_same_state_to_the_last_bit():
    reference = fit_reference()
    blocks = draw_blocks(4, 15, shift=HALF)
    assert same(last(reference, blocks), last(reference, blocks))


def test_state_and_reference_survive_json():
    reference = fit_reference()
    blocks = draw_blocks(5, 12)
    restored = DriftReference.from_dict(json.loads(json.dumps(reference.to_dict())))
    assert json.dumps(restored.to_dict()) == json.dumps(reference.to_dict())
    state = DriftState.start(restored)
    for night in np.unique(blocks.night):
        state = advance(restored, state, blocks.take(blocks.night == night))
        state = DriftState.from_dict(json.loads(json.dumps(state.to_dict())))
    assert same(state, last(reference, blocks))


def test_the_state_does_not_grow_with_the_nights():
    reference = fit_reference()
    sizes = {
        sum(np.size(v) for v in s.to_dict().values())
        for s in followed(reference, DriftState.start(reference), draw_blocks(6, 40))
    }
    assert sizes == {4 + len(reference.channels) * 13 - 1}


def test_the_order_of_the_blocks_of_a_night_does_not_matter():
    reference = fit_reference()
    blocks = draw_blocks(7, 1)
    shuffled = blocks.take(np.random.default_rng(0).permutation(len(blocks)))
    one, other = last(reference, blocks), last(reference, shuffled)
    np.testing.assert_allclose(one.log_detectors, other.log_detectors, rtol=1e-9)


def test_a_night_without_blocks_changes_nothing():
    reference = fit_reference()
    state = last(reference, draw_blocks(8, 5))
    nothing = draw_blocks(8, 0)
    assert advance(reference, state, nothing) is state
    assert advance(reference, state, replace(nothing, means=np.empty((0, 1)), sensors=np.empty((0, 1)))) is state


def test_blocks_of_an_unknown_machine_change_nothing():
    reference = fit_reference()
    state = last(reference, draw_blocks(8, 5))
    assert advance(reference, state, draw_blocks(9, 1, first=FIRST + 5, machines=("M9",), shift=[5, 5, 5])) is state


@pytest.mark.parametrize("first", [FIRST, FIRST + 4])
def test_a_night_that_is_not_after_the_last_is_an_error(first):
    reference = fit_reference()
    state = last(reference, draw_blocks(8, 5))
    with pytest.raises(ValueError, match="replay the nights in their order"):
        advance(reference, state, draw_blocks(9, 1, first=first))


def test_two_nights_at_once_are_an_error():
    reference = fit_reference()
    with pytest.raises(ValueError, match="one night after"):
        advance(reference, DriftState.start(reference), draw_blocks(9, 2))


@pytest.mark.parametrize(
    ("n_nights", "per_night", "machines"), [(1, 3, ("M1",)), (1, 30, ("M1", "M2")), (2, 2, ("M1",)), (3, 1, ("M1",))]
)
def test_a_poor_reference_gives_finite_evidence_and_no_alarm(n_nights, per_night, machines):
    reference = fit_reference(1, n_nights, per_night=per_night, machines=machines)
    for state in followed(reference, DriftState.start(reference), draw_blocks(2, 60, machines=machines)):
        assert np.isfinite(state.log_evidence).all()
        assert state.combined < log_threshold(1, 1)


def test_no_machine_with_three_blocks_is_no_reference():
    with pytest.raises(ValueError, match="at least 3 blocks of one machine"):
        fit_reference(n_nights=1, per_night=1)


def test_constant_channels_never_become_evidence():
    night, machine = np.repeat(np.arange(30), 4), np.full(120, "M1")
    constant = blocks_of(night, machine, np.ones((120, 3)))
    reference = DriftReference.fit(constant, np.zeros(3))
    for state in followed(reference, DriftState.start(reference), draw_blocks(1, 20, machines=("M1",))):
        assert np.isfinite(state.combined)
        assert state.combined < 0


def test_forty_latents_cost_two_nights_more_than_three():
    """The evidence of one channel among 42 counts for a 42nd: log 42 against log 5, two nats."""
    rng = np.random.default_rng(0)

    def nights_to_find(n_latents):
        def draw(n_nights, first, size):
            night = np.repeat(np.arange(first, first + n_nights), 20)
            latents = 0.6 * np.random.default_rng(first).standard_normal((len(night), 40))[:, :n_latents]
            latents[:, 0] += size
            zero = np.zeros(len(night))
            means = np.column_stack([0.1 * rng.standard_normal(len(night)), latents])
            return Blocks(night, np.full(len(night), "M1"), np.full(len(night), 20), means, latents[:, :1], zero)

        reference = DriftReference.fit(draw(30, 0, 0.0), [1.0])
        states = followed(reference, DriftState.start(reference), draw(40, 1000, 0.5))
        return next(n for n, state in enumerate(states, 1) if state.combined > log_threshold(1, 8))

    assert nights_to_find(3) <= nights_to_find(40) <= nights_to_find(3) + 3


def test_the_threshold_is_the_log_of_the_nights_that_the_budget_allows():
    assert log_threshold(1, 8) == pytest.approx(np.log(5 * 365.25 * 8))
    assert log_threshold(10, 8) == pytest.approx(log_threshold(1, 8) - np.log(10))
    assert log_threshold(1, 16) > log_threshold(1, 8)


def test_blocks_are_as_long_as_the_memory_of_readings():
    rng = np.random.default_rng(0)
    breaks = np.arange(20_000) % 500 == 0
    for memory, low, high in ((0.0, 5, 5), (0.9, 14, 24), (0.97, 45, 90)):
        readings = lfilter([1.0], [1.0, -memory], rng.standard_normal((20_000, 4)), axis=0)
        assert low <= block_readings(readings, breaks) <= high


@pytest.mark.parametrize("values", [np.empty((0, 2)), np.ones((3, 1)), np.ones((500, 2))])
def test_readings_that_tell_nothing_of_their_memory_get_the_shortest_blocks(values):
    assert block_readings(values, np.zeros(len(values), dtype=bool)) == 5


def test_blocks_with_missing_numbers_are_refused():
    latents = np.zeros((3, 3))
    latents[1, 1] = np.nan
    with pytest.raises(ValueError, match="finite numbers as means"):
        blocks_of(np.arange(3), ["M1"] * 3, latents)
    with pytest.raises(ValueError, match="one machine per block, 3"):
        blocks_of(np.arange(3), ["M1"] * 2, np.zeros((3, 3)))


def test_raw_units_do_not_matter_to_the_reference():
    blocks = draw_blocks(0, 10)
    scaled = Blocks(
        blocks.night, blocks.machine, blocks.n_readings, blocks.means, 1e6 * blocks.sensors, blocks.improbable
    )
    one, other = DriftReference.fit(blocks, np.full(3, UNIT)), DriftReference.fit(scaled, np.full(3, 1e6 * UNIT))
    np.testing.assert_allclose(one.between, other.between, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(one.spread[5:] * 1e6, other.spread[5:], rtol=1e-9)
