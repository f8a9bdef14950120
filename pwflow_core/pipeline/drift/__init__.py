"""Drift in the warehouse: from scores to evidence per regime and night, to verdicts, and what becomes of them.

`blocks` makes block means of what the flows say of new nights, `evidence` continues the detectors over them, `view` and
`judging` put the plant together, and `findings` keeps verdicts and their answers. The statistics themselves are in
`modelling.drift`.
"""
