"""The operating regimes: `finding` them in readings, `assigning` readings to them, and which ones are in use.

`model` is the file of a cluster model, `matching` finds what became of earlier regimes, `in_force` puts a model in the
place of another, and `changing` adds, retires and weighs single regimes.
"""
