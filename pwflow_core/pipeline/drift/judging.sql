-- What the nights of a plant were like, other than the evidence of its regimes: the mix of regimes, and the readings that
-- came. Expects $timezone: a night is a calendar day there. A day that has not ended is left out. Where the record ends
-- more than an hour before it does on nearly all days, its last night is cut off: `cut_night`. Nights before $open_from
-- were counted when their readings were removed.

CREATE TEMP TABLE judged_scores AS
SELECT
    machine_id,
    segment,
    cluster_key,
    night_of(ts, $timezone) AS night,
    count(*) AS n_readings,
    count(*) FILTER (status = 'scored') AS n_judged,
    max(ts) AS last_at
FROM mart.anomaly_scores
WHERE ts >= $open_from AND night_of(ts, $timezone) < (now() AT TIME ZONE $timezone)::DATE
GROUP BY ALL
UNION ALL BY NAME
FROM core.night_counts;

CREATE TEMP TABLE cut_night AS
WITH ends AS (
    SELECT night, max(last_at) - (night::TIMESTAMP AT TIME ZONE $timezone) AT TIME ZONE 'UTC' AS ends_after
    FROM judged_scores
    GROUP BY night
)
SELECT night
FROM ends
WHERE night = (SELECT max(night) FROM ends)
  AND ends_after < (
    SELECT quantile_disc(ends_after, 0.05) FROM ends WHERE night < (SELECT max(night) FROM ends)
  ) - INTERVAL 1 HOUR;

CREATE TEMP TABLE night_parts AS
SELECT DISTINCT
    night,
    CASE WHEN night IN (FROM cut_night) THEN hash(machine_id, sum(n_readings), sum(n_judged), 'cut')
    ELSE hash(machine_id, sum(n_readings), sum(n_judged)) END AS part
FROM judged_scores
GROUP BY night, machine_id
UNION
SELECT night, hash(cluster_key, flow_version, state)
FROM core.drift_states
SEMI JOIN judged_scores USING (night);
