"""Drift in the warehouse: from scores to evidence per regime and day, and to verdicts.

`blocks` makes block means of what the flows say of new days, `evidence` continues the detectors over them, `view` and
`judging` put the plant together, and `health` counts what else is known of each day. What becomes of a verdict is in
`decisions`; the statistics themselves are in `modelling.drift`.
"""
