-- The nights of each machine that are older than readings are kept and that nothing refers to: the table `leaving`. Expects
-- $cutoff, when the first night begins that is kept whole, $timezone, and $derived, the last batch that has scores.

CREATE OR REPLACE TEMP TABLE wanted AS
SELECT NULL::VARCHAR AS machine_id, trained_from AS started_at, trained_until AS ended_at
FROM mart.flow_versions
WHERE in_force AND trained_from IS NOT NULL
UNION ALL
SELECT NULL, since::TIMESTAMP - INTERVAL '1 day', 'infinity'::TIMESTAMP
FROM mart.drift_verdicts
WHERE status IN ('open', 'requested', 'failed')
UNION ALL
SELECT unnest(machine_ids), since, 'infinity'::TIMESTAMP FROM mart.cases WHERE state IN ('open', 'acknowledged', 'shelved')
UNION ALL
SELECT machine_id, started_at, greatest(ended_at, lasted_until) FROM mart.case_events WHERE machine_id IS NOT NULL
UNION ALL
SELECT machine_id, started_at, ended_at FROM mart.anomaly_events
UNION ALL
SELECT machine_id, started_at, ended_at FROM core.confirmations
UNION ALL
SELECT machine_id, started_at, ended_at FROM mart.unusual_stretches;

CREATE OR REPLACE TEMP TABLE leaving AS
WITH nights AS (
    SELECT
        machine_id,
        night_of(ts, $timezone) AS night,
        count(*) AS n_readings,
        max(batch_id) AS last_batch
    FROM core.readings
    WHERE ts < $cutoff
    GROUP BY ALL
), timed AS (
    SELECT
        *,
        night::TIMESTAMP AT TIME ZONE $timezone AT TIME ZONE 'UTC' AS started_at,
        (night + 1)::TIMESTAMP AT TIME ZONE $timezone AT TIME ZONE 'UTC' AS ended_at
    FROM nights
)
SELECT machine_id, night, n_readings, started_at, ended_at
FROM timed
WHERE last_batch <= $derived
  AND NOT EXISTS (
    FROM wanted
    WHERE coalesce(wanted.machine_id, timed.machine_id) = timed.machine_id
      AND wanted.started_at < timed.ended_at AND wanted.ended_at >= timed.started_at
);
