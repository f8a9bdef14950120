"""The simulated plant: three milling spindles with known regimes, faults and wear.

The data set that pwflow demonstrates itself on. It knows nothing of the pipeline; the pipeline reads its
exports and never its truth.
"""

from pwflow_core.simulation.export import ExportedPlant, write_exports
from pwflow_core.simulation.faults import FAULT_KINDS, Fault, FaultKind
from pwflow_core.simulation.physics import AGEING_END_SHIFT, AGEING_REGIME
from pwflow_core.simulation.plant import PlantReadings, SimulatedPlant
from pwflow_core.simulation.production import MACHINES, RECIPES, REGIMES, Regime
from pwflow_core.simulation.sensors import SENSOR_NAMES, SENSORS, Sensor

__all__ = [
    "AGEING_END_SHIFT",
    "AGEING_REGIME",
    "FAULT_KINDS",
    "MACHINES",
    "RECIPES",
    "REGIMES",
    "SENSORS",
    "SENSOR_NAMES",
    "ExportedPlant",
    "Fault",
    "FaultKind",
    "PlantReadings",
    "Regime",
    "Sensor",
    "SimulatedPlant",
    "write_exports",
]
