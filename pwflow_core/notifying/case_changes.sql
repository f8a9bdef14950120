-- What became of cases that have events and that people are told of, in the order in which it came about.
SELECT
    change.case_id,
    change.change,
    change.as_of,
    change.severity,
    cases.state,
    change.reason,
    cases.machine_ids,
    cases.sensors,
    cases.cluster_keys,
    cases.since,
    cases.worst_event_id,
    coalesce(cases.summary, ''),
    cases.told_as_of
FROM mart.case_changes AS change
JOIN mart.cases USING (case_id)
WHERE list_contains($changes, change.change) AND cases.n_events > 0
  AND cases.told_as_of IS NOT NULL
  AND NOT (change.change = 'worse' AND cases.state = 'shelved')
  AND NOT (change.change = 'merged' AND change.from_state IS NOT DISTINCT FROM 'closed') -- its end was told already
ORDER BY change.change_number
