-- What the nights of a plant were like besides the evidence of its regimes: the mix of regimes, and the readings that
-- came. Expects $timezone: a night is a calendar day there. The last nights of the clock are left out until they end.

CREATE TEMP TABLE judged_scores AS
SELECT
    machine_id,
    segment,
    cluster_key,
    (ts AT TIME ZONE 'UTC' AT TIME ZONE $timezone)::DATE AS night,
    count(*) AS n_readings,
    count(*) FILTER (status = 'scored') AS n_judged
FROM mart.anomaly_scores
WHERE (ts AT TIME ZONE 'UTC' AT TIME ZONE $timezone)::DATE < (now() AT TIME ZONE $timezone)::DATE
GROUP BY ALL;
