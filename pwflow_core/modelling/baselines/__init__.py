"""The systems that `PiecewiseFlow` is compared with, behind the same interface.

Each is a scikit-learn density estimator with `fit`, `score_samples` (nats in raw units), `sample(n)` returning
`(X, label)`, `random_state` and `n_parameters_`. All flows share the code of the piecewise ones: the same
transforms, whitening, identity start, optimiser, averaged weights, early stopping on held-out rows and blend
with a Gaussian and a heavy tail, so that a difference is a difference of the idea and not of its craft.
"""

from pwflow_core.modelling.baselines.based import MixtureBaseFlow, ResampledBaseFlow
from pwflow_core.modelling.baselines.gaussian import BicGaussianMixture
from pwflow_core.modelling.baselines.single import SingleFlow, count_parameters

__all__ = ["BicGaussianMixture", "MixtureBaseFlow", "ResampledBaseFlow", "SingleFlow", "count_parameters"]
