"""Names of regimes: kept with who gave them, taken back, refused where they mislead, and put into sentences."""

from __future__ import annotations

import pytest

from pwflow_core.errors import RegimeError, UnknownClusterError
from pwflow_core.pipeline.decisions.verdicts import Decider
from pwflow_core.pipeline.regimes.naming import RegimeNames, name_regime, read_names
from tests.conftest import query

BY = Decider("Ada")


def names_of(plant) -> dict[str, str]:
    with plant.warehouse.snapshot() as connection:
        return dict(read_names(connection).of)


def test_a_name_is_kept_with_who_gave_it_and_an_empty_one_takes_it_back(trained_plant):
    assert name_regime(trained_plant, "c0001", " roughing,\n B ", by=BY, reason="as we say").name == "roughing, B"
    assert name_regime(trained_plant, "c0001", "roughing, B", by=BY).previous == "roughing, B"
    assert names_of(trained_plant) == {"c0001": "roughing, B"}
    assert name_regime(trained_plant, "c0001", "", by=BY).previous == "roughing, B"
    assert names_of(trained_plant) == {}
    assert query(
        trained_plant, "SELECT change_number, cluster_key, name, named_by, reason FROM mart.regime_names ORDER BY ALL"
    ) == [(1, "c0001", "roughing, B", "Ada", "as we say"), (2, "c0001", None, "Ada", None)]


def test_names_that_mislead_are_refused_and_nothing_is_recorded(trained_plant):
    name_regime(trained_plant, "c0001", "Roughing", by=BY)
    for wrong in ("x" * 61, "a\x00b", "a ‮ b", "`rm`", "c0002"):
        with pytest.raises(RegimeError, match="Expected a name of at most 60 characters"):
            name_regime(trained_plant, "c0002", wrong, by=BY)
    with pytest.raises(RegimeError, match="c0001 is called 'Roughing' already"):
        name_regime(trained_plant, "c0002", "roughing", by=BY)
    with pytest.raises(UnknownClusterError, match=r"c0001, c0002, c0003, c0004.*got 'c9999'"):
        name_regime(trained_plant, "c9999", "idle", by=BY)
    assert names_of(trained_plant) == {"c0001": "Roughing"}


def test_a_key_that_a_machine_has_too_stays_alone_in_sentences(trained_plant):
    name_regime(trained_plant, "c0001", "roughing", by=BY)
    with trained_plant.warehouse.transaction() as connection:
        connection.execute("UPDATE core.readings SET machine_id = 'c0001' WHERE machine_id = 'press-1'")
    with trained_plant.warehouse.snapshot() as connection:
        names = read_names(connection)
    assert names.spell_out("c0001 is off") == "c0001 is off"
    assert names.label("c0001") == "c0001 (roughing)"


@pytest.mark.quick
def test_sentences_get_the_names_once_and_commands_and_other_words_none():
    names = RegimeNames({"c0003": "roughing, B", "c0004": "idle"})
    said = "c0003 and c0004 moved, c0005 not: `pwflow rollback c0003`, or c0003-x, xc0003, c00031"
    told = names.spell_out(said)
    assert told == said.replace("c0003 and c0004", "c0003 (roughing, B) and c0004 (idle)", 1)
    assert names.spell_out(told) == told
    assert RegimeNames().spell_out(said) == said
    assert names.labels(["c0004", "c0009"]) == ["c0004 (idle)", "c0009"]
