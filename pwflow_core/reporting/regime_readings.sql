-- A sample of the readings of each regime: some that its flow did not learn from, and some of the last nights.
-- Reading ids are spread evenly, so that a bound on them draws a sample. Expects the quoted /*columns*/.
WITH wanted AS (
    SELECT
        unnest($keys::VARCHAR[]) AS cluster_key,
        unnest($untils::TIMESTAMP[]) AS until,
        unnest($held_out_bounds::BIGINT[]) AS held_out_bound,
        unnest($recent_bounds::BIGINT[]) AS recent_bound
)
SELECT
    score.cluster_key,
    score.ts > wanted.until AS is_recent,
    score.machine_id,
    score.flow_version,
    /*columns*/
FROM mart.anomaly_scores AS score
JOIN wanted USING (cluster_key)
JOIN core.model_readings AS reading ON score.reading_id = reading.reading_id
WHERE score.status = 'scored'
  AND reading.is_complete
  AND CASE
        WHEN score.ts > wanted.until THEN score.ts >= $recent AND score.reading_id <= wanted.recent_bound
        ELSE score.reading_id <= wanted.held_out_bound AND list_contains($folds::INTEGER[], reading.fold)
    END
QUALIFY row_number() OVER (PARTITION BY score.cluster_key, is_recent ORDER BY score.reading_id) <= $most
ORDER BY score.cluster_key, score.reading_id;
