"""One flow over all readings, and what the flows of the piecewise model count."""

from __future__ import annotations

import numpy as np

from pwflow_core.modelling.piecewise import PiecewiseFlow
from pwflow_core.modelling.settings import FlowSettings, for_all_readings

GLOBAL_FLOW = for_all_readings(FlowSettings())


class SingleFlow(PiecewiseFlow):
    """`PiecewiseFlow` with one cluster, and a flow large enough to be a fair rival of many.

    Arguments:
        flow: How the flow is built and trained.
        held_out: Share of the rows kept back, in contiguous blocks.
        max_rows: Most rows to learn from; more are thinned evenly.
        random_state: Seed; None draws one.

    """

    def __init__(
        self,
        *,
        flow: FlowSettings = GLOBAL_FLOW,
        held_out: float = 0.15,
        max_rows: int = 200_000,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        super().__init__(1, refine=None, flow=flow, held_out=held_out, max_rows=max_rows, random_state=random_state)

    @property
    def n_parameters_(self) -> int:
        """Free parameters of the fitted density."""
        return count_parameters(self)


def count_parameters(model: PiecewiseFlow) -> int:
    """Return the free parameters of a fitted model: weights, and per flow whitening, network and shares."""
    flows = model.mixture_.flows
    total = len(flows) - 1
    for flow in flows:
        d = flow.n_features
        total += d + d * (d + 1) // 2 + (1 if flow.is_gaussian else 2 + int(flow.architecture.mask().sum()))
    return total
