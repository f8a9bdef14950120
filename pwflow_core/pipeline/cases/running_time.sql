-- The parts of time in which each machine had judged readings, by segment. Binds $since and $seconds, their length.
SELECT
    machine_id,
    segment,
    list(DISTINCT part ORDER BY part) AS parts
FROM (
    SELECT machine_id, segment, floor(epoch(ts) / $seconds)::BIGINT AS part
    FROM mart.anomaly_scores
    WHERE status = 'scored' AND ts >= $since
)
GROUP BY machine_id, segment
ORDER BY machine_id, segment;
