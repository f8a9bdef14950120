"""From a folder of exports to a configuration: look at the data, decide what it means, write `pwflow.toml`.

What a configuration may say is defined in `config`; reading all of the data is the work of `pipeline`.
"""

from pwflow_core.onboarding.findings import FoundSensor, Inspection
from pwflow_core.onboarding.initialising import Initialisation, initialise
from pwflow_core.onboarding.inspection import inspect_source
from pwflow_core.onboarding.writing import write_config

__all__ = ["FoundSensor", "Initialisation", "Inspection", "initialise", "inspect_source", "write_config"]
