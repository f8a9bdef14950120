-- The nights of each regime that can show drift: those after the flow in use learned, with the readings that they hold.
-- Expects the temporary table pins (cluster_key, flow_version), and $timezone: a night is a calendar day there. Nights
-- before $open_from are as they were followed: their readings were removed.

CREATE TEMP TABLE followed AS
SELECT
    pins.cluster_key,
    pins.flow_version,
    known.flow_version IS NOT NULL AS has_reference,
    coalesce(
        known.watched_from,
        -- A person returned to this flow: what happened before is what it was returned to in spite of.
        CASE WHEN last_decision.decision = 'rolled_back' THEN last_night.night + 1 END,
        night_of(trained.trained_until, $timezone) + 1
    ) AS watched_from
FROM pins
JOIN mart.flow_versions AS trained USING (cluster_key, flow_version)
LEFT JOIN core.drift_references AS known USING (cluster_key, flow_version)
LEFT JOIN (
    SELECT cluster_key, flow_version, arg_max(decision, decided_at) AS decision
    FROM mart.flow_decisions
    GROUP BY cluster_key, flow_version
) AS last_decision USING (cluster_key, flow_version)
CROSS JOIN (
    SELECT max(night_of(ts, $timezone)) AS night
    FROM mart.anomaly_scores
    WHERE ts < now() AT TIME ZONE 'UTC'
) AS last_night
WHERE trained.trained_until IS NOT NULL
  -- Some flows have too few readings to be compared with.
  AND (known.flow_version IS NULL OR known.reference IS NOT NULL);

-- A fingerprint is a sum of hashes, modulo 2^64. hash() joins columns by an exclusive or, so that the batches of an even
-- number of readings would cancel in one of them; the outer hash() makes each reading count by itself.
CREATE TEMP TABLE nights AS
SELECT
    score.cluster_key,
    score.flow_version,
    night_of(score.ts, $timezone) AS night,
    count(*) AS n_readings,
    (sum(hash(hash(score.reading_id, reading.batch_id))) % 18446744073709551616)::UBIGINT AS fingerprint
FROM mart.anomaly_scores AS score
JOIN core.readings AS reading USING (reading_id)
JOIN followed USING (cluster_key, flow_version)
WHERE score.status = 'scored'
  AND night_of(score.ts, $timezone) >= followed.watched_from
  AND score.ts >= $open_from
  AND score.ts < now() AT TIME ZONE 'UTC' + INTERVAL 1 DAY
GROUP BY ALL;

-- Nights that are new, and those whose readings changed, or went, since their evidence was drawn.
CREATE TEMP TABLE stale AS
SELECT cluster_key, flow_version, night
FROM (FROM nights EXCEPT SELECT cluster_key, flow_version, night, n_readings, fingerprint FROM core.drift_states)
UNION
SELECT state.cluster_key, state.flow_version, state.night
FROM core.drift_states AS state
SEMI JOIN followed USING (cluster_key, flow_version)
ANTI JOIN nights USING (cluster_key, flow_version, night)
WHERE state.night >= night_of($open_from, $timezone);
