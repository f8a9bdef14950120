-- Whether a verdict is known already: by its id, or because one of its kind that is about the same is open, or was
-- dismissed by a person within the last $quiet_nights nights.
SELECT 1
FROM mart.drift_verdicts
WHERE verdict_id = $verdict_id
   OR (
    verdict = $verdict
    AND CASE $identity
        WHEN 'sensor' THEN sensors[1] = $sensors[1] AND list_has_any(machine_ids, $machine_ids)
        WHEN 'machines' THEN list_has_any(machine_ids, $machine_ids)
        ELSE list_has_any(cluster_keys, $cluster_keys)
    END
    AND (
        list_contains($open, status)
        OR (status = 'dismissed' AND $night BETWEEN night AND night + to_days($quiet_nights))
    )
)
