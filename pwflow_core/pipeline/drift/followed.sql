-- The regimes whose nights are followed, and from which night on: the one after the flow in use learned. Expects the
-- temporary table pins (cluster_key, flow_version), and $timezone: a night is a calendar day there.

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
    SELECT night_of(max(ts), $timezone) AS night
    FROM mart.anomaly_scores
    WHERE ts < now() AT TIME ZONE 'UTC'
) AS last_night
WHERE trained.trained_until IS NOT NULL
  -- Some flows have too few readings to be compared with.
  AND (known.flow_version IS NULL OR known.reference IS NOT NULL);
