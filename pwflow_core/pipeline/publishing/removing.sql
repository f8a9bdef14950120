-- What is kept of the readings in the nights of `leaving` (see leaving.sql), which become the table `gone`. Expects $now,
-- $timezone, $cutoff, and $horizon, the $cutoff of the last time.

CREATE TEMP TABLE gone AS
SELECT reading.*
FROM core.readings AS reading
JOIN leaving ON reading.machine_id = leaving.machine_id AND night_of(reading.ts, $timezone) = leaving.night
WHERE reading.ts < $cutoff;

-- By these the mix of regimes and the availability of machines are judged, after their scores went too.
INSERT INTO core.night_counts BY NAME
SELECT
    night_of(ts, $timezone) AS night,
    machine_id,
    segment,
    cluster_key,
    count(*) AS n_readings,
    count(*) FILTER (status = 'scored') AS n_judged
FROM mart.anomaly_scores
WHERE ts >= $horizon AND ts < $cutoff
GROUP BY ALL;

INSERT INTO mart.hourly_readings BY NAME
/*means*/
ORDER BY machine_id, hour, sensor;

INSERT INTO mart.hourly_scores BY NAME
SELECT
    score.machine_id,
    date_trunc('hour', score.ts) AS hour,
    score.segment,
    score.cluster_key,
    count(*) AS n_readings,
    count(*) FILTER (score.status = 'scored') AS n_scored,
    count(*) FILTER (score.is_anomaly) AS n_anomalies,
    avg(score.anomaly_score) AS mean_score,
    max(score.anomaly_score) AS peak_score
FROM mart.anomaly_scores AS score
SEMI JOIN gone USING (reading_id)
GROUP BY ALL
ORDER BY score.machine_id, hour, score.segment, score.cluster_key;

INSERT INTO mart.removed_nights BY NAME
SELECT machine_id, night, n_readings, started_at, ended_at, $now AS removed_at FROM leaving ORDER BY night, machine_id;

CREATE TEMP TABLE gone_rows AS
SELECT file_id, row_number FROM gone
UNION
SELECT file_id, row_number FROM core.merged_rows SEMI JOIN gone USING (reading_id);

INSERT INTO core.removed_rows BY NAME
SELECT file_id, count(*) AS n_rows FROM ingest.raw_readings SEMI JOIN gone_rows USING (file_id, row_number) GROUP BY file_id;

DELETE FROM ingest.raw_readings
WHERE file_id IN (SELECT file_id FROM gone_rows) AND (file_id, row_number) IN (SELECT (file_id, row_number) FROM gone_rows);
