"""The steps from files to published scores, one room each; imports run down this list.

`using`, `looking`, `evaluation`, `publishing` read what `drift` and `scoring` made of the models in `flows` and
`regimes`; below them lie what people decided (`decisions`), the facts of the `readings`, and their `source`. Every step
takes a `Plant`, does only what is missing, and returns a summary. None of them knows Dagster.
"""
