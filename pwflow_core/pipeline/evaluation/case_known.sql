-- Time of each machine in which it is known whether there was a fault: all but events of cases that nobody marked as a
-- fault or as normal.
WITH spans AS (
    SELECT machine_id, min(ts) AS first, max(ts) AS last FROM mart.anomaly_scores GROUP BY machine_id
), unknown AS (
    SELECT event.machine_id, event.started_at, event.ended_at
    FROM mart.case_events AS event
    JOIN mart.cases USING (case_id)
    WHERE event.event_id IS NOT NULL AND coalesce(cases.label, '') NOT IN ('fault', 'normal')
), edges AS (
    SELECT machine_id, first AS known_from FROM spans
    UNION ALL
    SELECT machine_id, ended_at + INTERVAL 1 MICROSECOND FROM unknown
), bounded AS (
    SELECT
        edges.machine_id,
        edges.known_from,
        coalesce(min(unknown.started_at) - INTERVAL 1 MICROSECOND, any_value(spans.last)) AS known_until
    FROM edges
    JOIN spans USING (machine_id)
    LEFT JOIN unknown ON unknown.machine_id = edges.machine_id AND unknown.started_at >= edges.known_from
    WHERE NOT EXISTS (
        FROM unknown AS other
        WHERE other.machine_id = edges.machine_id
          AND edges.known_from BETWEEN other.started_at AND other.ended_at
    )
    GROUP BY edges.machine_id, edges.known_from
)
SELECT machine_id, known_from, known_until
FROM bounded
WHERE known_from <= known_until
ORDER BY ALL;
