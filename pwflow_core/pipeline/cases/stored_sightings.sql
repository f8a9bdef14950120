-- The events of cases as they were told, with what cases are told apart by. Binds $cases.
SELECT
    event.*,
    evidence.head_peak,
    evidence.blame,
    evidence.head_blame,
    evidence.climbs,
    evidence.is_over
FROM mart.case_events AS event
JOIN core.case_evidence AS evidence USING (event_id)
WHERE list_contains($cases, event.case_id)
ORDER BY event.told_at, event.machine_id, event.event_id;
