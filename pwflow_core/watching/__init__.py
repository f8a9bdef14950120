"""Watching: readings are scored while they arrive, between two nightly jobs, with the numbers of the nightly job.

`service` is the loop. A source (`folder`, `standard_input`) brings readings with the position after them, `scoring`
scores them by a bundle, and `store` keeps both in one transaction: a kill loses nothing and doubles nothing. `night` is
what the warehouse said after its last run; `copying` makes it in a process of its own, so that this one loads neither
PyTorch nor Dagster. `cases` derives events and cases with the steps of the nightly job, and `publishing` writes what
analysts read.
"""
