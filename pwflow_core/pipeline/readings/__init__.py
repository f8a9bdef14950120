"""Facts of the readings: valid ones with their time, quality and features, and what follows from time alone.

`deriving` makes `core.readings` of what arrived, `quality`, `features` and `timing` are its parts, `folds` says which
readings learn, stop and calibrate, `nights` is the calendar, `rate` the expected number of readings and alarms, and
`training_rows` which readings may be learned from. Nothing here knows a regime or a model.
"""
