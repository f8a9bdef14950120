"""The steps from files to published scores, one module each, in the order of the assets.

`ingest` → `readings` → `clusters` → `flows` → `slices` → `scores` → `health` → `checks` → `publishing`. Every step
takes a `Plant`, does only what is missing, and returns a summary. None of them knows Dagster.
"""
