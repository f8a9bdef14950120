"""The alarm score: calibrated views of a reading, merged into one p-value; arrays in, arrays and dataclasses out.

Apart from the density: its tail, its number of regimes and its resolution are those of a log-likelihood.
"""

from __future__ import annotations

from pwflow_core.modelling.alarms.alarm_score import AlarmScore, fit_alarm_score
from pwflow_core.modelling.alarms.detectability import AlarmRule, Detectability, alarm_power, probe_detectability
from pwflow_core.modelling.alarms.resolution import Resolution
from pwflow_core.modelling.alarms.views import VIEWS, Views

__all__ = [
    "VIEWS",
    "AlarmRule",
    "AlarmScore",
    "Detectability",
    "Resolution",
    "Views",
    "alarm_power",
    "fit_alarm_score",
    "probe_detectability",
]
