"""The rate of alarms: what the plant delivers in a week, and the alpha at which that many false events are expected."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import numpy as np
from scipy.optimize import brentq
from scipy.special import binom

from pwflow_core.errors import ConfigurationError

__all__ = ["SCORABLE_READINGS", "FalseAlarmRate", "affordable_readings", "rate_of_events", "readings_per_week"]

DEFAULT_GAP_INTERVALS = 10
"""Anomalies at most this many usual intervals apart are one event, where the configuration names no gap."""
RARE_FACTOR = 0.01
"""One anomaly is an event of its own if its p-value is at most this times alpha."""
_SMALLEST_LOG_ALPHA, _LARGEST_ALPHA = -600.0, 0.1
_FEWEST_DAYS = 3

SCORABLE_READINGS = "core.readings WHERE quality IN ('ok', 'filled', 'partial')"
"""Where readings that can be scored are, as SQL."""


@dataclass(frozen=True)
class FalseAlarmRate:
    """How many normal readings may alarm.

    Attributes:
        alpha: A reading is an anomaly if its p-value is at most this.
        alarms_per_week: The budget of false events of the plant that it was converted from; None if alpha was given.
        readings_per_week: Readings of the plant in a week that it was converted with; None if alpha was given.
    """

    alpha: float
    alarms_per_week: float | None = None
    readings_per_week: float | None = None


def affordable_readings(connection: duckdb.DuckDBPyConnection, alarms_per_week: float) -> float:
    """Return how many readings that can be scored the plant delivers in a week.

    Raises:
        ConfigurationError: The budget is as large as that.
    """
    readings = readings_per_week(connection)
    if alarms_per_week >= readings:
        raise ConfigurationError(
            f"Expected scoring.alarms_per_week below the {readings:,.0f} readings that the plant delivers in a week, "
            f"got {alarms_per_week:g}: lower it, or give scoring.alpha instead."
        )
    return readings


def readings_per_week(connection: duckdb.DuckDBPyConnection) -> float:
    """Measure how many readings that can be scored the plant delivers in a week in which it runs.

    Seven times those of the median day with any; with fewer than three such days, what all machines would deliver
    if they ran through the week.
    """
    row = connection.execute(
        f"SELECT count(*), 7 * median(n) FROM (SELECT count(*) AS n FROM {SCORABLE_READINGS} GROUP BY ts::DATE)"
    ).fetchone()
    if row is not None and row[0] >= _FEWEST_DAYS:
        return float(row[1])
    row = connection.execute(
        f"""
        SELECT sum(7 * 86400 / gap) FROM (
            SELECT median(gap) AS gap FROM (
                SELECT machine_id, epoch(ts - lag(ts) OVER (PARTITION BY machine_id ORDER BY ts)) AS gap
                FROM {SCORABLE_READINGS}
            ) WHERE gap > 0 GROUP BY machine_id
        )
        """
    ).fetchone()
    return float(row[0]) if row is not None and row[0] else 1.0


def rate_of_events(per_reading: float, min_readings: int, reach: float, tail_dependence: float) -> float:
    r"""Return the alpha at which normal readings make this many false events each.

    An event is `min_readings` anomalies within reach of each other, or one with p at most alpha / 100:

        events per reading = alpha [1/100 + tail_dependence + C(reach, min_readings - 1) alpha^(min_readings - 1)]

    The last term is chance. False alarms come together more often than that, since neighbouring readings are alike:
    how many groups they make is measured on the held-out readings, and each is taken to be enough for an event.

    Arguments:
        per_reading: Budget of false events per reading, above 0 and below 1.
        min_readings: Fewest anomalies of an event.
        reach: Readings after an anomaly that can belong to its event.
        tail_dependence: Groups of false alarms beyond chance, per false alarm, 0 to 0.5.
    """
    if min_readings == 1:
        return per_reading

    def excess(log_alpha: float) -> float:
        alpha = np.exp(log_alpha)
        by_chance = binom(max(reach, min_readings - 1), min_readings - 1) * alpha ** (min_readings - 1)
        return float(log_alpha + np.log(RARE_FACTOR + tail_dependence + by_chance) - np.log(per_reading))

    if excess(np.log(_LARGEST_ALPHA)) <= 0:
        return _LARGEST_ALPHA
    return float(np.exp(brentq(excess, _SMALLEST_LOG_ALPHA, np.log(_LARGEST_ALPHA))))
