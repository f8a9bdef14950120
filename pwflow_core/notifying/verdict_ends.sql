-- Every verdict with its end, if it has one: the last change to a status in which nothing more is to be done.
SELECT
    verdict.verdict_id,
    verdict.made_at,
    ended.to_status AS status,
    ended.changed_at,
    ended.reason
FROM mart.drift_verdicts AS verdict
LEFT JOIN (
    SELECT verdict_id, to_status, changed_at, reason
    FROM mart.verdict_changes
    WHERE to_status IN ('done', 'dismissed')
    QUALIFY row_number() OVER (PARTITION BY verdict_id ORDER BY changed_at DESC) = 1
) AS ended
  ON ended.verdict_id = verdict.verdict_id AND verdict.status IN ('done', 'dismissed')
WHERE list_contains($open, verdict.status) OR verdict.status = 'failed' OR ended.to_status IS NOT NULL
ORDER BY verdict.made_at, verdict.verdict_id
