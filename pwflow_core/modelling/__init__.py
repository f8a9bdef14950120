"""Piecewise normalizing flows: arrays in, arrays and dataclasses out.

`clustering` finds the regimes and `calibration` makes p-values of log-densities, both without torch; `training`
and `flow` learn and evaluate one density per regime; `PiecewiseFlow` and `PiecewiseFlowDetector` put them together
behind scikit-learn's interface. A name loads what it needs on first use: what only scores needs NumPy
alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pwflow_core.modelling.attribution import Attribution, SensorAttributor
    from pwflow_core.modelling.calibration import Calibration, calibrate
    from pwflow_core.modelling.clustering import fit_clusters
    from pwflow_core.modelling.detector import PiecewiseFlowDetector
    from pwflow_core.modelling.flow import ClusterFlow, TrainingHistory
    from pwflow_core.modelling.piecewise import PiecewiseFlow
    from pwflow_core.modelling.seeds import ClusterSeeds
    from pwflow_core.modelling.settings import FitSettings, FlowSettings
    from pwflow_core.modelling.training import ClusterRows, TrainingProgress, train_flows
    from pwflow_core.modelling.validation import held_out_blocks

__all__ = [
    "Attribution",
    "Calibration",
    "ClusterFlow",
    "ClusterRows",
    "ClusterSeeds",
    "FitSettings",
    "FlowSettings",
    "PiecewiseFlow",
    "PiecewiseFlowDetector",
    "SensorAttributor",
    "TrainingHistory",
    "TrainingProgress",
    "calibrate",
    "fit_clusters",
    "held_out_blocks",
    "train_flows",
]

_MODULES = {
    "Attribution": "attribution",
    "Calibration": "calibration",
    "ClusterFlow": "flow",
    "ClusterRows": "training",
    "ClusterSeeds": "seeds",
    "FitSettings": "settings",
    "FlowSettings": "settings",
    "PiecewiseFlow": "piecewise",
    "PiecewiseFlowDetector": "detector",
    "SensorAttributor": "attribution",
    "TrainingHistory": "flow",
    "TrainingProgress": "training",
    "calibrate": "calibration",
    "fit_clusters": "clustering",
    "held_out_blocks": "validation",
    "train_flows": "training",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module attribute can be anything
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
