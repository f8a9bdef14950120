-- Verdicts that no case has yet, with what the cases need to know of them. Binds $timezone.
SELECT
    verdict.verdict_id,
    verdict.verdict,
    ((verdict.night + 1)::TIMESTAMP AT TIME ZONE $timezone) AT TIME ZONE 'UTC' AS told_at,
    (coalesce(verdict.since, verdict.night)::TIMESTAMP AT TIME ZONE $timezone) AT TIME ZONE 'UTC' AS since,
    ((verdict.ended + 1)::TIMESTAMP AT TIME ZONE $timezone) AT TIME ZONE 'UTC' AS ended_at,
    coalesce(verdict.machine_ids, []) AS machine_ids,
    coalesce(verdict.cluster_keys, []) AS cluster_keys,
    coalesce((
        SELECT list(DISTINCT segment ORDER BY segment)
        FROM mart.clusters
        WHERE list_contains(verdict.cluster_keys, clusters.cluster_key)
    ), []) AS segments,
    coalesce(verdict.sensors, []) AS sensors,
    verdict.summary
FROM mart.drift_verdicts AS verdict
WHERE $with_known OR verdict.verdict_id NOT IN (
    SELECT verdict_id FROM mart.case_events WHERE verdict_id IS NOT NULL
)
ORDER BY told_at, verdict_id;
