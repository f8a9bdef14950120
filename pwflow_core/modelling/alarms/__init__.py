"""The alarm score: calibrated views of a reading, merged into one p-value; arrays in, arrays and dataclasses out.

Apart from the density, whose tail, number of regimes and resolution are right for a log-likelihood and wrong for alarms.
"""
