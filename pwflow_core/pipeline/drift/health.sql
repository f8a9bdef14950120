-- What can be said about each night and regime, in one transaction; only the nights whose scores changed. Expects what
-- touched_nights.sql made, and $timezone, that of the schedule. Of the scores, only those in days around a change are
-- looked at: they hold the whole of each night that may have changed. Nights before $open_from stay as they are: their
-- readings were removed.

CREATE OR REPLACE TEMP TABLE nights AS
SELECT
    night_of(ts, $timezone) AS night,
    count(*) AS n_scores,
    max(scored_at) AS last_scored_at
FROM mart.anomaly_scores
WHERE ts >= $open_from AND /*around*/ AND ($are_all OR night_of(ts, $timezone) IN (FROM candidates))
GROUP BY night;

CREATE OR REPLACE TEMP TABLE stale AS
SELECT night FROM (FROM nights EXCEPT FROM core.health_nights)
UNION
SELECT night FROM core.health_nights ANTI JOIN nights USING (night) WHERE night >= night_of($open_from, $timezone) AND ($are_all OR night IN (FROM candidates));

DELETE FROM mart.cluster_health
WHERE night IN (FROM stale)
  AND channel IN ('missing', 'invalid', 'stuck', 'thin', 'filled', 'partial', 'alarms');

DELETE FROM core.health_nights WHERE night IN (FROM stale);

INSERT INTO core.health_nights BY NAME SELECT * FROM nights SEMI JOIN stale USING (night);

CREATE OR REPLACE TEMP TABLE judged AS
SELECT *
FROM (
    SELECT
        night_of(score.ts, $timezone) AS night,
        score.cluster_key,
        score.status,
        score.is_anomaly,
        reading.quality,
        pins.alpha
    FROM mart.anomaly_scores AS score
    JOIN core.readings AS reading USING (reading_id)
    LEFT JOIN core.model_sets AS pins
      ON score.model_set_id = pins.model_set_id AND score.cluster_key = pins.cluster_key
    WHERE /*around_score*/ AND /*around_reading*/
) SEMI JOIN stale USING (night);

INSERT INTO mart.cluster_health BY NAME
WITH sizes AS (
    SELECT night, cluster_key, count(*) AS n FROM judged WHERE cluster_key IS NOT NULL GROUP BY ALL
    UNION ALL
    SELECT night, NULL, count(*) FROM judged GROUP BY night
), counted AS (
    SELECT night, cluster_key, CASE WHEN status <> 'scored' THEN status ELSE quality END AS channel, count(*) AS n
    FROM judged
    WHERE status <> 'scored' OR quality <> 'ok'
    GROUP BY ALL
), alarmed AS (
    SELECT
        night,
        cluster_key,
        count(*) FILTER (is_anomaly) AS n_alarms,
        count(*) AS n_scored,
        10 * max(alpha) AS share_threshold
    FROM judged
    WHERE status = 'scored'
    GROUP BY night, cluster_key
)
SELECT
    counted.night,
    counted.cluster_key,
    counted.channel,
    counted.n / sizes.n AS share,
    NULL AS share_threshold,
    'counted' AS verdict,
    counted.n AS n_readings
FROM counted
JOIN sizes ON counted.night = sizes.night AND counted.cluster_key IS NOT DISTINCT FROM sizes.cluster_key
UNION ALL BY NAME
SELECT
    night,
    cluster_key,
    'alarms' AS channel,
    n_alarms / n_scored AS share,
    share_threshold,
    CASE WHEN n_alarms > ceil(share_threshold * n_scored) THEN 'exceeded' ELSE 'normal' END AS verdict,
    n_alarms AS n_readings
FROM alarmed
ORDER BY night, cluster_key, channel;
