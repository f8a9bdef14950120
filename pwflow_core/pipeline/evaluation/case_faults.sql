-- Cases that were marked as a fault, by machine, from the first to the last of their events.
SELECT
    event.machine_id,
    min(event.started_at) AS started_at,
    max(event.ended_at) AS ended_at,
    'fault' AS kind
FROM mart.case_events AS event
JOIN mart.cases USING (case_id)
WHERE cases.label = 'fault' AND event.event_id IS NOT NULL
GROUP BY event.machine_id, event.case_id
ORDER BY ALL;
