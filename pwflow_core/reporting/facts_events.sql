-- The worst and the latest events of the time shown.
SELECT
    *,
    count(*) OVER () AS n_events,
    row_number() OVER (ORDER BY peak_score DESC, n_readings DESC, started_at, event_id) AS by_peak,
    row_number() OVER (ORDER BY started_at DESC, event_id) AS by_time
FROM mart.anomaly_events
WHERE ended_at >= $first
QUALIFY by_peak <= $most OR by_time <= $most
ORDER BY started_at DESC, event_id;
