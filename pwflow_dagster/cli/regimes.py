"""`pwflow regimes` and `pwflow name`: the regimes, and what people call them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pwflow_core.demo import configuration_in_force
from pwflow_dagster.cli.options import config_option, json_option, reason_option, user
from pwflow_dagster.cli.printing import echo_json, echo_text

if TYPE_CHECKING:
    from pwflow_core.pipeline.looking.listing import ListedRegime

__all__ = ["COMMANDS"]


@click.command()
@click.option("--all", "with_retired", is_flag=True, help="List the retired ones too.")
@config_option
@json_option
def regimes(with_retired: bool, config_file: Path | None, as_json: bool) -> None:
    """List the regimes: name, share of the time, profile.

    The profile names the three sensors by which a regime differs most from the plant as a whole, with what they read
    there. `mart.regime_profiles` has all sensors.
    """
    from pwflow_core.pipeline.looking.listing import list_regimes
    from pwflow_core.plant import Plant

    config = configuration_in_force(config_file)
    found = list_regimes(Plant.open(config), with_retired=with_retired)
    if as_json:
        echo_json({"plant": config.plant.name, "regimes": found})
    else:
        echo_text("\n".join(_describe(found)))


@click.command()
@click.argument("cluster", metavar="REGIME")
@click.argument("name")
@config_option
@reason_option
@json_option
def name(cluster: str, name: str, config_file: Path | None, reason: str, as_json: bool) -> None:
    """Give a regime a name of your own, such as "roughing, B".

    REGIME is its key, such as c0003; `pwflow regimes` lists them. The name is shown beside the key from now on, in the
    published tables and the report with the next run. An empty NAME ('') takes it away.
    """
    from pwflow_core.pipeline.decisions.verdicts import Decider
    from pwflow_core.pipeline.regimes.naming import name_regime
    from pwflow_core.plant import Plant

    plant = Plant.open(configuration_in_force(config_file))
    made = name_regime(plant, cluster, name, by=Decider(user()), reason=reason)
    if as_json:
        echo_json({"regime": made})
    elif made.name is None:
        echo_text(f"{made.cluster_key} has no name now{f'; it was {made.previous!r}' if made.previous else ''}.")
    else:
        echo_text(
            f"{made.cluster_key} is called {made.name!r} now{f', not {made.previous!r}' if made.previous else ''}."
        )


COMMANDS = (regimes, name)


def _describe(found: list[ListedRegime]) -> list[str]:
    from pwflow_core.pipeline.regimes.naming import label_regime

    if not found:
        return ["No regimes have been learned yet: run `pwflow run`."]
    labels = [label_regime(regime.cluster_key, regime.name) for regime in found]
    width = max(map(len, labels))
    lines = []
    for label, regime in zip(labels, found, strict=True):
        share = "" if regime.share_of_time is None else f"{regime.share_of_time:4.0%}"
        state = "" if regime.status == "active" else "  retired"
        blind = "  blind to some faults" if regime.is_blind else ""
        lines.append(f"{label:{width}}  {share}  {regime.segment}{state}{blind}")
        if regime.profile:
            lines.append(f"    {regime.profile}")
    unnamed = next((regime.cluster_key for regime in found if regime.name is None), None)
    return lines if unnamed is None else [*lines, f'Next: `pwflow name {unnamed} "what you call it"`']
