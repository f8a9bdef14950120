"""Verdicts: each thing that can happen to a plant has its own name and a sentence."""

import dataclasses

import numpy as np
import pytest

from pwflow_core.modelling.drift import (
    UNIT_QUANTILES,
    Availability,
    ClusterEvidence,
    DriftReference,
    DriftState,
    MixEvidence,
    SensorLevels,
    advance,
    judge,
    log_threshold,
    measure_mix,
    measure_shift,
    mix_blocks,
)

from .drift_blocks import FIRST, MACHINES, SENSORS, UNIT, blocks_of, draw_blocks, fit_reference, followed, joined

NIGHT = FIRST + 29
CHANGED = FIRST + 18
THRESHOLD = log_threshold(1, 4)
DATE = str(np.datetime64(CHANGED, "D"))


def evidence_of(key, blocks, reference=None, segment="A"):
    """Follow a cluster over its nights, and measure its shift, as a pipeline does."""
    reference = reference or fit_reference()
    state = list(followed(reference, DriftState.start(reference), blocks))[-1]
    return ClusterEvidence(key, segment, state.combined, measure_shift(reference, blocks))


def cluster(key, seed, shift=None, segment="A", **options):
    """Return a cluster that was quiet for 18 nights, and shifted for the 12 since."""
    machines = options.get("machines", MACHINES)
    per_night = options.get("per_night", 6)
    reference = fit_reference(seed, machines=machines, per_night=per_night)
    quiet = draw_blocks(seed + 50, 18, machines=machines, per_night=per_night)
    after = draw_blocks(seed + 90, 12, first=CHANGED, shift=shift, **options)
    return evidence_of(key, joined(quiet, after), reference, segment)


def told(clusters, **options):
    return judge(NIGHT, clusters, threshold=THRESHOLD, sensors=SENSORS, **options)


def quiet(*keys):
    return [cluster(key, seed) for seed, key in enumerate(keys, 1)]


def levels(factor=1.0, offset=0.0, sensor=2, machines=MACHINES, from_night=CHANGED, moved=MACHINES):
    """Return where the values of three sensors lie; one of them is on another scale from a night on."""
    rng = np.random.default_rng(0)
    nights = np.arange(FIRST, NIGHT + 1)
    usual = np.quantile(rng.normal([20, 3, 12], [5, 1, 4], (5000, 3)), UNIT_QUANTILES, axis=0).T
    night, machine = np.repeat(nights, len(machines)), np.tile(machines, len(nights))
    recent = usual * (1 + 0.02 * rng.standard_normal((len(night), 3, len(UNIT_QUANTILES))))
    rows = (night >= from_night) & np.isin(machine, moved)
    recent[rows, sensor] = factor * recent[rows, sensor] + offset
    return SensorLevels(night, machine, recent, np.broadcast_to(usual, recent.shape).copy())


def mix(before, after, n_nights=30, seed=0):
    """Follow the mix of three clusters over nights whose shares vary, and change after 18 of them."""
    rng = np.random.default_rng(seed)

    def draw(shares, n):
        return (1000 * rng.dirichlet(60 * np.asarray(shares), n)).astype(np.int64)

    reference_counts = draw(before, 25)
    reference = DriftReference.fit(mix_blocks(np.arange(25), reference_counts), np.ones(3))
    counts = np.concatenate([draw(before, 18), draw(after, n_nights - 18)])
    nights = np.arange(FIRST, FIRST + n_nights)
    blocks = mix_blocks(nights, counts)
    state = list(followed(reference, DriftState.start(reference), blocks))[-1]
    shift = measure_mix(reference, reference_counts.sum(axis=0), nights, counts)
    return MixEvidence("A", ("c0001", "c0002", "c0003"), state.combined, shift)


def test_nothing_is_told_of_a_plant_in_which_nothing_moves():
    steady = mix([0.5, 0.3, 0.2], [0.5, 0.3, 0.2])
    assert told(quiet("c0001", "c0002", "c0003"), mixes=[steady], levels=levels()) == []


def test_one_regime_that_moves_on_all_machines_is_retrained_and_described():
    [verdict] = told([*quiet("c0001", "c0002"), cluster("c0004", 7, [0.8, 0, 0])])
    assert verdict.verdict == "regime_moved"
    assert verdict.cluster_keys == ("c0004",)
    assert verdict.machine_ids == MACHINES
    assert verdict.sensors == ("current",)
    assert abs(verdict.since - CHANGED) <= 1
    assert verdict.effect_size == pytest.approx(0.8, abs=0.15)
    assert verdict.summary.startswith("Regime c0004 moved: current reads 0.")
    assert " A (0." in verdict.summary
    assert "standard deviations) higher than it learned, on M1, M2 and M3, since 20" in verdict.summary


def test_two_regimes_that_move_are_two_findings():
    found = told([*quiet("c0001", "c0002"), cluster("c0005", 7, [0.8, 0, 0]), cluster("c0004", 8, [0, 0.8, 0])])
    assert [(v.cluster_keys, v.verdict) for v in found] == [(("c0004",), "regime_moved"), (("c0005",), "regime_moved")]


def test_a_shift_that_is_certain_but_tiny_is_no_finding():
    tiny = cluster("c0001", 3, [0.18, 0, 0], per_night=60)
    assert tiny.log_evidence > THRESHOLD
    assert told([tiny, *quiet("c0002")]) == []
    assert told([tiny, *quiet("c0002")], min_effect=0.05)[0].verdict == "regime_moved"


def test_a_shift_without_enough_evidence_is_no_finding():
    moved = cluster("c0001", 3, [0.8, 0, 0])
    assert told([dataclasses.replace(moved, log_evidence=THRESHOLD - 0.1)]) == []


def test_a_cluster_that_cannot_be_judged_is_no_finding():
    assert told([ClusterEvidence("c0001", "A", 100.0, None)]) == []


def test_one_machine_of_three_that_moves_is_a_matter_for_a_person():
    [verdict] = told([*quiet("c0001", "c0002"), cluster("c0004", 7, [1.6, 0, 0], moved=("M2",))])
    assert verdict.verdict == "machine_moved"
    assert verdict.machine_ids == ("M2",)
    assert verdict.sensors[0] == "current"
    assert verdict.summary.endswith("; M1 and M3 hold still.")


def test_where_all_machines_move_and_one_moves_further_the_others_are_not_said_to_hold_still():
    reference, quiet_nights = fit_reference(7), draw_blocks(57, 18)
    far = draw_blocks(97, 12, first=CHANGED, shift=[2.6, 0, 0], machines=("M2",))
    near = draw_blocks(98, 12, first=CHANGED, shift=[0.8, 0, 0], machines=("M1", "M3"))
    found = told([*quiet("c0001", "c0002"), evidence_of("c0004", joined(quiet_nights, far, near), reference)])
    assert [v.verdict for v in found] == ["regime_moved", "machine_moved"]
    assert found[1].summary.endswith("; M1 and M3 did not move that far.")


def test_a_machine_that_moves_in_two_regimes_is_one_finding():
    one, other = (cluster(f"c000{n}", n, [1.6, 0, 0], moved=("M2",)) for n in (5, 6))
    found = told([*quiet("c0001", "c0002", "c0003"), one, other])
    assert [(v.verdict, v.cluster_keys) for v in found] == [("machine_moved", ("c0005", "c0006"))]


def test_with_a_single_machine_one_sensor_against_all_others_is_a_matter_for_a_person():
    [one] = told([cluster("c0001", 3, [1.0, 0, 0], machines=("M1",), moved=("M1",))])
    [several] = told([cluster("c0001", 3, [1.0, 0.8, 0], machines=("M1",), moved=("M1",))])
    assert one.verdict == "machine_moved"
    assert one.summary.endswith("while all other sensors hold still.")
    assert several.verdict == "regime_moved"


def test_a_slow_drift_of_one_sensor_of_one_machine_is_never_retrained():
    reference = fit_reference(5)
    blocks = draw_blocks(55, 18)
    state = list(followed(reference, DriftState.start(reference), blocks))[-1]
    kinds = []
    for day in range(7):
        night = draw_blocks(60 + day, 1, first=CHANGED + day, shift=[2.0 * (day + 1) / 7, 0, 0], moved=("M3",))
        state, blocks = advance(reference, state, night), joined(blocks, night)
        evidence = ClusterEvidence("c0004", "A", state.combined, measure_shift(reference, blocks))
        found = judge(CHANGED + day, [*quiet("c0001", "c0002"), evidence], threshold=THRESHOLD, sensors=SENSORS)
        kinds += [verdict.verdict for verdict in found]
    assert kinds
    assert "regime_moved" not in kinds


@pytest.mark.parametrize("n_clusters", [2, 4])
def test_the_same_sensor_in_every_regime_is_suspected_and_nothing_is_retrained(n_clusters):
    [verdict] = told([cluster(f"c{n:04d}", n, [0, 0, 0.9]) for n in range(n_clusters)])
    assert (verdict.verdict, verdict.sensors) == ("sensor_suspected", ("pressure",))
    assert len(verdict.cluster_keys) == n_clusters
    assert "pressure reads 0.4" in verdict.summary
    assert "bar" in verdict.summary


def test_the_common_sensor_is_seen_before_most_regimes_have_evidence_of_their_own():
    late = [dataclasses.replace(cluster(f"c{n:04d}", n, [0, 0, 0.9]), log_evidence=1.0) for n in range(3)]
    [verdict] = told([*late, cluster("c0009", 9, [0, 0, 0.9])])
    assert verdict.verdict == "sensor_suspected"


@pytest.mark.parametrize(
    ("factor", "offset", "words"),
    [
        (100.0, 0.0, "scale × 100 suspected (bar to kPa)"),
        (0.01, 0.0, "scale ÷ 100 suspected"),
        (14.503774, 0.0, "scale × 14.5038 suspected (bar to psi)"),
        (6.894757, 0.0, "scale × 6.89476 suspected (psi to kPa)"),
        (1.8, 32.0, "°C to °F suspected"),
        (1.0, 273.15, "°C to K suspected"),
    ],
)
def test_a_change_of_unit_is_named_and_nothing_else_is_told(factor, offset, words):
    clusters = [cluster("c0004", 7, [0.8, 0, 0]), *quiet("c0001", "c0002")]
    [verdict] = told(clusters, levels=levels(factor, offset), mixes=[mix([0.5, 0.3, 0.2], [0.2, 0.3, 0.5])])
    assert (verdict.verdict, verdict.sensors) == ("sensor_suspected", ("pressure",))
    assert verdict.machine_ids == MACHINES
    assert verdict.since == CHANGED
    assert words in verdict.summary


def test_a_change_of_unit_of_one_machine_names_the_machine():
    [verdict] = told(quiet("c0001"), levels=levels(100.0, moved=("M2",)))
    assert verdict.machine_ids == ("M2",)


def test_levels_of_nights_to_come_and_levels_without_values_say_nothing():
    future = levels(100.0, from_night=NIGHT)
    assert judge(NIGHT - 1, quiet("c0001"), threshold=THRESHOLD, sensors=SENSORS, levels=future) == []
    empty = levels()
    empty.recent[:] = np.nan
    assert told(quiet("c0001"), levels=empty) == []


@pytest.mark.parametrize("factor", [0.7, 1.3, 1.5, 2.0, 7.9])
def test_a_factor_that_converts_no_units_is_no_change_of_unit(factor):
    assert told(quiet("c0001"), levels=levels(factor)) == []


def new_regime(seed, share, where=MACHINES, offset=(6.0, -5.0, 4.0)):
    """Return blocks of ordinary readings, some of which are of another kind since a night."""
    ordinary = draw_blocks(seed, 30)
    fresh = (ordinary.night >= CHANGED) & np.isin(ordinary.machine, where)
    fresh &= np.random.default_rng(seed).random(len(ordinary)) < share
    latents = ordinary.means[:, 1:] + fresh[:, None] * np.asarray(offset)
    return blocks_of(ordinary.night, ordinary.machine, latents, improbable=fresh)


@pytest.mark.parametrize("share", [0.2, 0.35, 0.5])
def test_readings_improbable_in_their_own_regime_are_proposed_as_a_new_one(share):
    [verdict] = told([evidence_of("c0001", new_regime(1, share)), *quiet("c0002", "c0003")])
    assert (verdict.verdict, verdict.cluster_keys) == ("new_regime", ("c0001",))
    assert verdict.effect_size == pytest.approx(share, abs=0.1)
    assert verdict.sensors == ("current", "vibration", "pressure")
    assert "a new regime, or a fault" in verdict.summary


def test_readings_improbable_because_of_one_sensor_suspect_the_sensor():
    [verdict] = told([evidence_of("c0001", new_regime(2, 0.2, offset=(0.0, 9.0, 0.0))), *quiet("c0002", "c0003")])
    assert (verdict.verdict, verdict.sensors) == ("sensor_suspected", ("vibration",))


def test_a_regime_that_moved_so_far_that_all_of_it_is_improbable_is_no_new_one():
    blocks = draw_blocks(3, 30)
    since = blocks.night >= CHANGED
    far = blocks_of(
        blocks.night, blocks.machine, blocks.means[:, 1:] + 4.0 * since[:, None] * [1, 0.8, 0], improbable=since
    )
    [verdict] = told([evidence_of("c0001", far), *quiet("c0002", "c0003")])
    assert verdict.verdict == "regime_moved"


def test_another_mix_updates_weights_and_trains_nothing():
    [verdict] = told(quiet("c0001", "c0002", "c0003"), mixes=[mix([0.5, 0.3, 0.2], [0.2, 0.3, 0.5])])
    assert verdict.verdict == "mix_moved"
    assert verdict.cluster_keys == ("c0001", "c0002", "c0003")
    assert abs(verdict.since - CHANGED) <= 2
    assert verdict.effect_size == pytest.approx(0.3, abs=0.06)
    assert "regime c0003 has " in verdict.summary
    assert "% of the readings instead of " in verdict.summary
    assert "no regime moved" in verdict.summary


def test_a_small_change_of_mix_is_no_finding():
    small = mix([0.5, 0.3, 0.2], [0.44, 0.3, 0.26], n_nights=200)
    assert small.log_evidence > THRESHOLD
    assert told(quiet("c0001"), mixes=[small]) == []


def test_the_mix_of_a_segment_whose_regime_moved_is_not_judged():
    changed = mix([0.5, 0.3, 0.2], [0.2, 0.3, 0.5])
    moved = cluster("c0001", 7, [0.8, 0, 0])
    assert [v.verdict for v in told([moved, *quiet("c0002")], mixes=[changed])] == ["regime_moved"]
    elsewhere = dataclasses.replace(moved, segment="B")
    assert {v.verdict for v in told([elsewhere, *quiet("c0002")], mixes=[changed])} == {"regime_moved", "mix_moved"}


def availability(n_judged, n_readings=None):
    """Return the last three nights of M1, which is well, and of M2."""
    nights = np.repeat([NIGHT - 2, NIGHT - 1, NIGHT], 2)
    judged = np.array([[1400, value] for value in n_judged]).ravel()
    came = judged if n_readings is None else np.array([[1440, value] for value in n_readings]).ravel()
    return Availability(nights, np.tile(["M1", "M2"], 3), came, judged, np.full(6, 1400))


def test_a_machine_that_sends_nothing_is_an_outage_since_the_first_night_without():
    [verdict] = told(quiet("c0001"), availability=availability([1400, 0, 0]))
    assert (verdict.verdict, verdict.machine_ids) == ("outage", ("M2",))
    assert verdict.since == NIGHT - 1
    assert verdict.effect_size == 1.0
    assert verdict.summary == (
        f"M2 sent no readings of the usual 1,400 or more a day, since {np.datetime64(NIGHT - 1, 'D')}."
    )


def test_readings_that_cannot_be_judged_are_an_outage_too():
    [verdict] = told(quiet("c0001"), availability=availability([1400, 1400, 100], [1440, 1440, 1440]))
    assert verdict.since == NIGHT
    assert "sent 1,440 readings, of which 100 could be judged" in verdict.summary


def test_an_outage_that_is_over_is_not_told_again():
    assert told(quiet("c0001"), availability=availability([1400, 0, 1400])) == []


def test_nights_without_readings_that_are_usual_are_no_outage():
    given = availability([1400, 0, 0])
    assert told(quiet("c0001"), availability=dataclasses.replace(given, usual=np.zeros(6, dtype=int))) == []


def test_the_order_of_clusters_mixes_and_rows_does_not_matter():
    clusters = [*quiet("c0001", "c0002"), cluster("c0005", 7, [0.8, 0, 0]), cluster("c0004", 8, [0, 0.8, 0])]
    mixes = [dataclasses.replace(mix([0.5, 0.3, 0.2], [0.2, 0.3, 0.5]), segment=name) for name in ("B", "C")]
    came = availability([1400, 1400, 100])
    backwards = Availability(*(getattr(came, field.name)[::-1] for field in dataclasses.fields(came)))
    one = told(clusters, mixes=mixes, availability=came)
    assert one == told(clusters[::-1], mixes=mixes[::-1], availability=backwards)
    unit = levels(100.0)
    reversed_unit = SensorLevels(*(getattr(unit, field.name)[::-1] for field in dataclasses.fields(unit)))
    assert told(clusters, levels=unit) == told(clusters, levels=reversed_unit)


def test_effects_are_in_standard_deviations_of_a_reading_and_in_raw_units():
    shift = cluster("c0001", 11, [1.0, -0.5, 0]).shift
    np.testing.assert_allclose(shift.sensors.size, [1.0, -0.5, 0.0], atol=0.15)
    np.testing.assert_allclose(shift.raw, shift.sensors.size * UNIT)
    np.testing.assert_allclose(shift.latents.size, shift.sensors.size, atol=1e-9)
    assert (shift.sensors.error > 0).all()
    assert shift.machines == MACHINES
    assert shift.machine_sensors.size.shape == (3, 3)


def test_the_errors_of_effects_cover_what_they_are_errors_of():
    """Of effects that are zero, all but few lie within two standard errors, although `since` was chosen by them."""
    reference = fit_reference(4, n_nights=40)
    ratios = []
    for seed in range(60):
        shift = measure_shift(reference, draw_blocks(500 + seed, 20))
        ratios += (np.abs(shift.latest.size) / shift.latest.error).tolist()
    assert np.mean(np.array(ratios) < 2) > 0.9
    assert np.mean(np.array(ratios) < 3) > 0.98


def test_too_few_blocks_have_no_shift():
    reference = fit_reference()
    assert measure_shift(reference, draw_blocks(1, 0)) is None
    assert measure_shift(reference, draw_blocks(1, 5, machines=("M9",))) is None
