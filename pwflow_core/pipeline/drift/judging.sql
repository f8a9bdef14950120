-- What the nights of a plant were like, other than the evidence of its regimes: the mix of regimes, and the readings that
-- came. Expects $timezone: a night is a calendar day there. A day that has not ended is left out.

CREATE TEMP TABLE judged_scores AS
SELECT
    machine_id,
    segment,
    cluster_key,
    night_of(ts, $timezone) AS night,
    count(*) AS n_readings,
    count(*) FILTER (status = 'scored') AS n_judged
FROM mart.anomaly_scores
WHERE night_of(ts, $timezone) < (now() AT TIME ZONE $timezone)::DATE
GROUP BY ALL;

CREATE TEMP TABLE night_parts AS
SELECT DISTINCT night, hash(machine_id, sum(n_readings), sum(n_judged)) AS part
FROM judged_scores
GROUP BY night, machine_id
UNION
SELECT night, hash(cluster_key, flow_version, state)
FROM core.drift_states
SEMI JOIN judged_scores USING (night);
