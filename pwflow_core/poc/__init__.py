"""Does this pay on my data? pwflow beside simpler models, on the readings of a plant, with a recommendation.

`readings` samples what is learned from and judged into a `trial`, `faults` puts faults in where there are no labels.
`contenders` says who competes, `worker` measures one in a process of its own, `running` goes through them. `detection`
turns scores into alarms, `results` compares two of them, `costs` speaks of money, `recommendation` has the rules.
`proving` ties it together; `table` and `page` show what came of it, `sentences` and `texts_*.toml` say it in words.
"""

from pwflow_core.poc.page import poc_path, write_page
from pwflow_core.poc.proving import DEFAULT_REGIMES, Comparison, prove_plant
from pwflow_core.poc.table import describe_comparison, to_json, write_comparison

__all__ = [
    "DEFAULT_REGIMES",
    "Comparison",
    "describe_comparison",
    "poc_path",
    "prove_plant",
    "to_json",
    "write_comparison",
    "write_page",
]
