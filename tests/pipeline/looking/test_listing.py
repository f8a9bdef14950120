"""Lists: a machine or a regime is found by what it is called, whatever the views for analysts are like."""

import pytest

from pwflow_core.errors import UnknownClusterError, UnknownMachineError
from pwflow_core.pipeline.decisions.verdicts import Decider
from pwflow_core.pipeline.looking.listing import list_events
from pwflow_core.pipeline.regimes.naming import name_regime
from tests.conftest import plant_readings, put_file, read_all


def test_machines_and_regimes_are_known_by_the_tables_that_hold_them(trained_plant):
    name_regime(trained_plant, "c0002", "Roughing, B", by=Decider("Ada"))
    readings = plant_readings(30, seed=7, start="2024-04-01").replace({"machine": {"press-1": "press-9"}})
    put_file(trained_plant.config.folder / "data" / "night.csv", readings)
    read_all(trained_plant)
    assert list_events(trained_plant, machine="press-9").n_events == 0, "it was read, and not scored yet"
    with trained_plant.warehouse.transaction() as connection:
        connection.execute("DROP VIEW mart.regimes; DROP VIEW mart.latest_day; DROP VIEW mart.machines")
    assert list_events(trained_plant, machine="press-1", regime="roughing, b") == list_events(
        trained_plant, machine="press-1", regime="c0002"
    )
    with pytest.raises(UnknownMachineError, match=r"press-1, press-2, press-9"):
        list_events(trained_plant, machine="press-3")
    for unknown in ("c9999", ""):
        with pytest.raises(UnknownClusterError, match="c0001, c0002"):
            list_events(trained_plant, regime=unknown)
