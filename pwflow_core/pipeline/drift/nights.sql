-- The nights of each regime that can show drift, with the readings that they hold: of those that hold a part of $days, from
-- the scores, of the others, as they were followed. Expects what followed.sql and touched_nights.sql made, and $timezone. Of the scores, only
-- those in days around a change are looked at. Nights before $open_from are as they were followed: their readings were
-- removed.

-- A fingerprint is a sum of hashes, modulo 2^64. hash() joins columns by an exclusive or, so that the batches of an even
-- number of readings would cancel in one of them; the outer hash() makes each reading count by itself.
CREATE OR REPLACE TEMP TABLE nights AS
SELECT *
FROM (
    SELECT
        score.cluster_key,
        score.flow_version,
        night_of(score.ts, $timezone) AS night,
        count(*) AS n_readings,
        (sum(hash(hash(score.reading_id, reading.batch_id))) % 18446744073709551616)::UBIGINT AS fingerprint
    FROM mart.anomaly_scores AS score
    JOIN core.readings AS reading USING (reading_id)
    JOIN followed USING (cluster_key, flow_version)
    WHERE /*around_score*/ AND /*around_reading*/
      AND score.status = 'scored'
      AND night_of(score.ts, $timezone) >= followed.watched_from
      AND score.ts >= $open_from
      AND score.ts < now() AT TIME ZONE 'UTC' + INTERVAL 1 DAY
    GROUP BY ALL
)
WHERE $are_all OR night IN (FROM candidates)
UNION ALL
SELECT cluster_key, flow_version, night, n_readings, fingerprint
FROM core.drift_states
SEMI JOIN followed USING (cluster_key, flow_version)
WHERE NOT $are_all AND night >= night_of($open_from, $timezone) AND night NOT IN (FROM candidates);

-- Nights that are new, and those whose readings changed, or went, since their evidence was drawn.
CREATE OR REPLACE TEMP TABLE stale AS
SELECT cluster_key, flow_version, night
FROM (FROM nights EXCEPT SELECT cluster_key, flow_version, night, n_readings, fingerprint FROM core.drift_states)
UNION
SELECT state.cluster_key, state.flow_version, state.night
FROM core.drift_states AS state
SEMI JOIN followed USING (cluster_key, flow_version)
ANTI JOIN nights USING (cluster_key, flow_version, night)
WHERE state.night >= night_of($open_from, $timezone);
