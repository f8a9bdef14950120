"""Plans: they grow as the plant does, and name the wall that is next."""

import pytest

from pwflow_core.planning import PlantSize, plan_plant

pytestmark = pytest.mark.quick


def test_a_plan_counts_the_readings_and_keeps_what_retention_keeps():
    plan = plan_plant(PlantSize(machines=100, hz=1, days=365))
    assert plan.readings_a_day == 8_640_000
    assert plan.readings_kept == 365 * 8_640_000
    kept = plan_plant(PlantSize(machines=100, hz=1, days=365, keep_days=90))
    assert kept.readings_kept == 90 * 8_640_000
    assert kept.warehouse_bytes == pytest.approx(plan.warehouse_bytes * 90 / 365)
    assert plan.cpu_seconds - kept.cpu_seconds == pytest.approx(plan.cpu_seconds_kept - kept.cpu_seconds_kept)
    assert plan_plant(PlantSize(machines=100, hz=1, days=30, keep_days=90)).readings_kept == 30 * 8_640_000


def test_more_of_anything_never_costs_less():
    small = plan_plant(PlantSize(machines=3, hz=1 / 60, days=60))
    assert small.walls == ()
    for larger in (
        PlantSize(machines=6, hz=1 / 60, days=60),
        PlantSize(machines=3, hz=1, days=60),
        PlantSize(machines=3, hz=1 / 60, days=600),
        PlantSize(machines=3, hz=1 / 60, days=60, sensors=32),
    ):
        plan = plan_plant(larger)
        assert plan.cpu_seconds > small.cpu_seconds
        assert plan.memory_bytes > small.memory_bytes
        assert plan.warehouse_bytes > small.warehouse_bytes
        assert plan.published_bytes > small.published_bytes


def test_a_night_that_does_not_fit_and_a_copy_that_is_too_large_are_named_with_a_way_out():
    nights, copies = plan_plant(PlantSize(machines=1000, hz=1, days=365)).walls
    assert "CPU hours" in nights
    assert "[retention] readings_days" in nights
    assert "XFS" in copies
    [only] = plan_plant(PlantSize(machines=1_000_000, hz=1, days=1, keep_days=1, sensors=1)).walls[:1]
    assert "[retention]" not in only, "fewer days are of no help where what comes is too much"


@pytest.mark.parametrize("change", [{"machines": 0}, {"hz": -1.0}, {"days": 0}, {"sensors": 0}, {"keep_days": 0}])
def test_a_size_that_cannot_be_is_refused(change):
    with pytest.raises(ValueError, match=f"Expected {next(iter(change))} above zero"):
        PlantSize(**{"machines": 1, "hz": 1.0, "days": 1} | change)
