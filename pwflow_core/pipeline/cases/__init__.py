"""Cases: what a person handles. Events of one cause, and verdicts on drift, become one case that keeps its id for good.

`grouping` says what belongs together, `clock` how long a machine was normal, `lifecycle` what state a case is in,
`book` replays what is new, and `alarm_log` keeps what was told. Nothing here asks a model.
"""
