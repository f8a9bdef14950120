-- Events with live readings, each with its case. Binds $since, the time of the first live reading.
SELECT
    event.event_id,
    (
        SELECT arg_max(told.case_id, told.told_at)
        FROM mart.case_events AS told
        WHERE told.machine_id = event.machine_id
          AND told.started_at <= event.ended_at AND told.ended_at >= event.started_at
    ) AS case_id,
    event.machine_id,
    event.started_at,
    event.ended_at,
    event.peak_score,
    event.n_readings,
    event.cluster_key,
    event.segment,
    event.top_sensors,
    event.summary,
    event.lasted_until
FROM mart.anomaly_events AS event
WHERE event.ended_at >= $since
ORDER BY event.started_at, event.machine_id
