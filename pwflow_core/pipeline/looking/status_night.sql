-- The last calendar day with scores, in $timezone: readings, alarms, events.

WITH last_day AS (
    SELECT
        night_of(max(ts), $timezone) AS night,
        night::TIMESTAMP AT TIME ZONE $timezone AT TIME ZONE 'UTC' AS started_at
    FROM mart.anomaly_scores
), scores AS (
    SELECT count(*) AS n, count(*) FILTER (status <> 'scored') AS n_unjudged, count(*) FILTER (is_anomaly) AS n_anomalies
    FROM mart.anomaly_scores
    WHERE ts >= (SELECT started_at FROM last_day)
), events AS (
    SELECT count(*) AS n, list(summary ORDER BY peak_score DESC, event_id)[:3] AS summaries
    FROM mart.anomaly_events
    WHERE ended_at >= (SELECT started_at FROM last_day)
)
SELECT last_day.night, scores.n, scores.n_unjudged, scores.n_anomalies, events.n, events.summaries
FROM last_day
CROSS JOIN scores
CROSS JOIN events;
