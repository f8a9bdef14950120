"""pwflow: calibrated anomaly scores from one normalizing flow per operating regime.

The estimators load torch on first use, so that configuration and command line start fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pwflow_core.modelling import PiecewiseFlow, PiecewiseFlowDetector

__all__ = ["PiecewiseFlow", "PiecewiseFlowDetector"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module attribute can be anything
    if name in __all__:
        from pwflow_core import modelling

        return getattr(modelling, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
