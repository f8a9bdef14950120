from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from pwflow_core.reporting.event_facts import choose_events, read_events
from pwflow_core.reporting.expectations import Expectations
from pwflow_core.reporting.facts import read_facts
from pwflow_core.reporting.regimes import load_flows, load_regimes, study_regimes
from tests.conftest import query


@pytest.fixture
def facts(eventful_plant):
    return read_facts(eventful_plant, 60, datetime.now(UTC).replace(tzinfo=None))


def test_a_thinned_signal_keeps_the_extremes_of_every_stretch(eventful_plant, facts):
    model, _ = load_regimes(eventful_plant)
    events = read_events(eventful_plant, facts, model.columns)
    assert len(events) == len(choose_events(facts)) > 3
    margin = timedelta(minutes=40)
    with eventful_plant.warehouse.snapshot() as connection:
        for event in events.values():
            for sensor, trace in event.traces.items():
                extremes = connection.execute(
                    f"SELECT min({sensor}), max({sensor}) FROM core.readings "
                    "WHERE machine_id = ? AND ts BETWEEN ? AND ?",
                    [event.machine_id, event.started_at - margin, event.ended_at + margin],
                ).fetchone()
                assert (np.nanmin(trace.values), np.nanmax(trace.values)) == extremes
                assert len(trace.times) <= 3 * 240


def test_shares_of_blame_add_up_and_come_in_order(eventful_plant, facts):
    for event in read_events(eventful_plant, facts, ()).values():
        shares = [part.share for part in event.blame]
        assert sum(shares) == pytest.approx(1)
        assert shares == sorted(shares, reverse=True)
        assert len(event.readings.X) == 0


def test_ordinary_readings_mostly_lie_in_the_expected_band(eventful_plant, facts):
    model, _ = load_regimes(eventful_plant)
    flows, problems = load_flows(eventful_plant, facts)
    assert problems == {}
    expectations = Expectations(model, flows, [sensor.name for sensor in facts.sensors])
    inside = []
    for event in read_events(eventful_plant, facts, model.columns).values():
        for place, band in enumerate(expectations.bands(event.readings).values()):
            observed = event.readings.X[:, place]
            inside.append((band.low <= observed) & (observed <= band.high))
    assert 0.75 < np.concatenate(inside).mean() < 0.97  # nine in ten by design; the events are among them


def test_samples_of_a_regime_are_its_own_readings_and_the_same_every_time(eventful_plant, facts):
    model, _ = load_regimes(eventful_plant)
    flows, _ = load_flows(eventful_plant, facts)
    keys = list(model.keys)
    first, second = (study_regimes(eventful_plant, facts, model, flows, keys) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.held_out, b.held_out)
        np.testing.assert_array_equal(a.sampled, b.sampled)
        held = query(
            eventful_plant,
            "SELECT count(*) FROM core.readings JOIN mart.anomaly_scores USING (reading_id) "
            "WHERE cluster_key = ? AND fold IN (3, 5, 8) AND status = 'scored'",
            a.key,
        )
        assert len(a.held_out) == min(held[0][0], 1500)
        assert a.held_out_latents.shape == a.held_out.shape
        assert abs(np.median(a.held_out_latents)) < 0.3
