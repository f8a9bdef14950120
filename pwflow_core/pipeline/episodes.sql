-- Alarms of a machine that follow each other within $gap_seconds are one episode.
SELECT machine_id, min(ts) AS started_at, max(ts) AS ended_at
FROM (
    SELECT *, sum(starts::INT) OVER (PARTITION BY machine_id ORDER BY ts) AS episode
    FROM (
        SELECT
            machine_id,
            ts,
            coalesce(epoch(ts - lag(ts) OVER (PARTITION BY machine_id ORDER BY ts)) > $gap_seconds, true) AS starts
        FROM mart.anomaly_scores
        WHERE is_anomaly
    )
)
GROUP BY machine_id, episode
ORDER BY machine_id, started_at;
