-- From shares in the cause to contributions, in one transaction. Expects the temporary table
--   sensors (position, sensor, unit): the sensors in the order of the model's columns.

CREATE TEMP TABLE outdated AS
SELECT DISTINCT reading_id, scored_at, ts
FROM mart.sensor_contributions
ANTI JOIN (SELECT reading_id, scored_at FROM mart.anomaly_scores WHERE is_anomaly) AS anomaly USING (reading_id, scored_at);

DELETE FROM mart.sensor_contributions
WHERE (reading_id, scored_at) IN (SELECT (reading_id, scored_at) FROM outdated);

-- What was explained and is still the same anomaly, and was not explained by another run meanwhile.
CREATE TEMP TABLE explained AS
SELECT score.reading_id, score.machine_id, score.ts, score.anomaly_score, score.scored_at
FROM mart.anomaly_scores AS score
JOIN read_parquet($anomalies) AS copied USING (reading_id, scored_at)
SEMI JOIN read_parquet($results) AS result ON score.reading_id = result.reading_id
ANTI JOIN mart.sensor_contributions AS present ON score.reading_id = present.reading_id
WHERE score.is_anomaly;

INSERT INTO mart.sensor_contributions BY NAME
SELECT
    explained.reading_id,
    explained.machine_id,
    explained.ts,
    sensors.sensor,
    result.share * explained.anomaly_score AS contribution,
    result.expected,
    result.observed,
    result.expected_low,
    result.expected_high,
    sensors.unit,
    result.cluster_key,
    explained.scored_at
FROM read_parquet($results) AS result
JOIN explained USING (reading_id)
JOIN sensors USING (position)
ORDER BY explained.machine_id, explained.ts, sensors.position;
