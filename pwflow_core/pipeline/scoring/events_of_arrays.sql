-- The places of the anomalies of each event, where there are no tables but `anomalies` (place, machine, seconds, p_value).
-- Binds $alpha, $gap_seconds, $min_readings and $rare_factor.

WITH spaced AS (
    SELECT *, seconds - lag(seconds) OVER (PARTITION BY machine ORDER BY seconds) AS pause_seconds FROM anomalies
), numbered AS (
    SELECT *, event_number(machine, seconds, pause_seconds, $gap_seconds) AS number FROM spaced
)
SELECT list(place ORDER BY seconds)
FROM numbered
GROUP BY machine, number
HAVING is_event(p_value, $alpha, $min_readings, $rare_factor)
ORDER BY min(place);
