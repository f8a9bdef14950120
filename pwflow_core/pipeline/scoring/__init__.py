"""From flows to alarms: slices of densities, calibration, scores, events and blame.

`densities` evaluates flows, `model_sets` names what scores together, `calibration` turns conformity into p-values,
`scores`, `events` and `contributions` derive the public tables, and `checks` says whether they may be published.
"""
