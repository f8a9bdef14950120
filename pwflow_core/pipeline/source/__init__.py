"""From the plant's files or query to `core.raw_readings`: what arrived, as it arrived.

`source` says what the configuration and the files are, `staging` reads one file or query into a table with names and
types that are known, and `ingest` takes in what is new, once. What a reading means belongs in `readings`.
"""
