"""How clusters are found and how flows are built and trained: settings alone, which need no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

__all__ = ["CANDIDATES", "FitSettings", "FlowSettings", "Method", "Selection", "for_all_readings"]

Method = Literal["gmm", "kmeans"]
Selection = Literal["held_out", "bic", "silhouette"]

CANDIDATES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


@dataclass(frozen=True)
class FitSettings:
    """How the clusters of a set of readings are found.

    Attributes:
        n_clusters: K, or `auto` to choose among `candidates`.
        candidates: Numbers of clusters to try; those with too few rows are left out.
        method: `gmm` (full covariances) or `kmeans` (the paper's hard clusters).
        selection: How `auto` chooses. `held_out`: the smallest K whose held-out log-density is within one
            standard error of the best. `bic`: the Bayesian information criterion. `silhouette`: the paper's
            rule, on at most 2,000 rows; it cannot choose 1.
        max_rows: Most rows to learn from; more are thinned evenly.
        random_state: Seed, also of the flows that start from the clusters.

    Raises:
        ValueError: Unknown method or selection.

    """

    n_clusters: int | Literal["auto"] = "auto"
    candidates: Sequence[int] = CANDIDATES
    method: Method = "gmm"
    selection: Selection = "held_out"
    max_rows: int = 20_000
    random_state: int = 0

    def __post_init__(self) -> None:
        for name, known in (("method", get_args(Method)), ("selection", get_args(Selection))):
            if getattr(self, name) not in known:
                raise ValueError(f"Expected {name} {' or '.join(map(repr, known))}, got {getattr(self, name)!r}.")

    @property
    def sizes(self) -> Sequence[int]:
        """The numbers of clusters to try; one alone is taken as given."""
        return self.candidates if self.n_clusters == "auto" else (self.n_clusters,)


@dataclass(frozen=True)
class FlowSettings:
    """How flows are built and trained.

    Attributes:
        kind: What a transform does to a coordinate: `affine`, or a rational-quadratic `spline` for shapes
            that shifting and scaling cannot reach; a spline costs about four times as much. `auto` trains
            both and keeps the spline where the held-out rows of the cluster gain by more than one standard
            error.
        transforms: Autoregressive transforms per flow.
        hidden: Hidden units of each transform.
        learning_rate: Of Adam, constant; the weights are averaged instead.
        steps_per_pass: Gradient steps per pass over a cluster's rows; this sets the batch.
        min_batch: Smallest batch, a power of two.
        max_batch: Largest batch, a power of two.
        max_steps: Most gradient steps.
        patience: Passes without a gain on the held-out rows before a cluster stops.
        averaging: Decay of the moving average of the weights, per step.
        weight_decay: Pull of the weights towards the identity, per step and learning rate, for a cluster of
            1,000 rows; it fades as 1 / rows, as a prior does.
        clip: Largest norm of a cluster's gradient.
        min_rows: Fewest training rows for a flow; a smaller cluster stays a Gaussian.
        threads: Threads torch may use while training.
        device: Where to train: `auto` takes an accelerator if there is one.

    """

    kind: Literal["affine", "spline", "auto"] = "affine"
    transforms: int = 3
    hidden: int = 32
    learning_rate: float = 3e-3
    steps_per_pass: int = 16
    min_batch: int = 32
    max_batch: int = 512
    max_steps: int = 4000
    patience: int = 12
    averaging: float = 0.99
    weight_decay: float = 0.3
    clip: float = 5.0
    min_rows: int = 64
    threads: int = 1
    device: str = "auto"


def for_all_readings(settings: FlowSettings) -> FlowSettings:
    """Return settings for one flow over all readings at once, by those for the flows of clusters.

    More parameters than eight flows of a cluster each, twice the steps and twice the patience: of three sizes and
    two learning rates this did best on eight-dimensional readings with many modes.
    """
    return replace(
        settings,
        kind="affine" if settings.kind == "auto" else settings.kind,
        transforms=max(8, settings.transforms),
        hidden=max(128, settings.hidden),
        patience=2 * settings.patience,
        max_steps=2 * settings.max_steps,
    )
