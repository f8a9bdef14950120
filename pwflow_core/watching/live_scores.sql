-- The live scores that are later than those of the night, put into its tables. Expects live_anomaly_scores and
-- live_sensor_contributions.

CREATE OR REPLACE TEMP TABLE new_scores AS
SELECT live.*
FROM live_anomaly_scores AS live
LEFT JOIN (SELECT machine_id, max(ts) AS ts FROM mart.anomaly_scores GROUP BY machine_id) AS night USING (machine_id)
WHERE night.ts IS NULL OR live.ts > night.ts;

INSERT INTO mart.anomaly_scores BY NAME FROM new_scores;

INSERT INTO mart.sensor_contributions BY NAME
SELECT part.* FROM live_sensor_contributions AS part SEMI JOIN new_scores USING (reading_id);

INSERT INTO core.readings BY NAME
SELECT
    reading_id,
    machine_id,
    ts,
    segment,
    1 + greatest(
        (SELECT coalesce(max(batch_id), 0) FROM core.readings), (SELECT coalesce(max(batch_id), 0) FROM core.progress)
    ) AS batch_id
FROM new_scores;
