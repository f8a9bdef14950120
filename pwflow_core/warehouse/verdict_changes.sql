-- What is known of the verdicts and decisions of a warehouse from before their runs and changes were kept: a verdict was
-- made, and its status changed last by someone at some time. A run was named `dagster run ID` then.

UPDATE mart.drift_verdicts SET run_id = nullif(regexp_extract(decided_by, '^dagster run (\S+)$', 1), '');

UPDATE mart.flow_decisions SET run_id = nullif(regexp_extract(decided_by, '^dagster run (\S+)$', 1), '');

INSERT INTO mart.verdict_changes BY NAME
SELECT verdict_id, 'open' AS to_status, made_at AS changed_at, 'drift' AS changed_by FROM mart.drift_verdicts
UNION ALL BY NAME
SELECT
    verdict_id,
    'open' AS from_status,
    status AS to_status,
    decided_at AS changed_at,
    decided_by AS changed_by,
    run_id,
    'last change from before changes were kept' AS reason
FROM mart.drift_verdicts
WHERE status <> 'open';
