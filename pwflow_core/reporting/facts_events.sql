-- The worst and the latest events of the time shown, and the worst of each case that goes on.
SELECT
    *,
    count(*) OVER () AS n_events,
    row_number() OVER (ORDER BY peak_score DESC, n_readings DESC, started_at, event_id) AS by_peak,
    row_number() OVER (ORDER BY started_at DESC, event_id) AS by_time
FROM mart.anomaly_events
WHERE ended_at >= $first
QUALIFY by_peak <= $most OR by_time <= $most
  OR event_id IN (SELECT worst_event_id FROM mart.cases WHERE state NOT IN ('closed', 'merged'))
ORDER BY started_at DESC, event_id;
