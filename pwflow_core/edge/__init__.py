"""Scoring at the edge: a bundle of `pwflow export`, NumPy and the standard library, and nothing else.

`scorer.EdgeScorer` takes readings and gives the scores that the nightly job gives the same readings. What it asks of
`modelling` is the arithmetic that the nightly job uses too.
"""

from pwflow_core.edge.bundle import Bundle, open_bundle, read_manifest
from pwflow_core.edge.scorer import Contribution, EdgeScorer, Score

__all__ = ["Bundle", "Contribution", "EdgeScorer", "Score", "open_bundle", "read_manifest"]
