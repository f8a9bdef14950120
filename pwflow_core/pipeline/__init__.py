"""The steps from files to published scores, one module each, in the order of the assets.

`ingest` → `readings` → `clusters` → `flows` → `slices` → `scores` → `health` → `checks` → `publishing`. Every step
takes a `Plant`, does only what is missing, and returns a summary. None of them knows Dagster.

Beside them stands what people decide: `registry` (which flow is in force), `confirmations` (which alarms were normal),
`regime_changes` (which regimes there are); and `retention`, which deletes the model files that nothing needs.
"""
