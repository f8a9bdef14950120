-- Machines under suspicion, by regime, with the calendar day since when.
SELECT machine_id, cluster_key, since
FROM mart.drift_verdicts
CROSS JOIN unnest(machine_ids) AS machines (machine_id)
CROSS JOIN unnest(cluster_keys) AS regimes (cluster_key)
WHERE status = 'open' AND verdict IN (/*kinds*/)
