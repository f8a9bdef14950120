-- The readings of one regime whose block means are wanted: those of stale nights, and, where $with_reference, those that
-- its flow did not learn from in the time that it learned from. Expects what nights.sql made. Without a reference to
-- make, only the days around stale nights are looked at.

SELECT
    score.reading_id,
    is_reference,
    night_of(score.ts, $timezone) AS night,
    score.machine_id,
    floor(epoch(score.ts) / $block_seconds)::BIGINT AS block,
    score.p_value
FROM mart.anomaly_scores AS score
JOIN core.model_readings AS reading USING (reading_id)
JOIN mart.flow_versions AS trained USING (cluster_key, flow_version)
CROSS JOIN (VALUES (true), (false)) AS roles (is_reference)
WHERE /*around_score*/ AND /*around_reading*/
  AND score.cluster_key = $key
  AND score.flow_version = $version
  AND score.status = 'scored'
  AND reading.quality IN ('ok', 'filled')
  AND reading.is_complete
  AND CASE
      WHEN is_reference THEN
          $with_reference
          AND reading.fold IN /*held_out_folds*/
          AND score.ts BETWEEN trained.trained_from AND trained.trained_until
      ELSE night_of(score.ts, $timezone) IN
          (SELECT night FROM stale WHERE cluster_key = $key AND flow_version = $version)
  END
  AND NOT (is_reference AND EXISTS (
      FROM (/*suspects*/) AS suspect
      WHERE suspect.machine_id = score.machine_id AND suspect.cluster_key = $key
        AND night_of(score.ts, $timezone) >= suspect.since
  ))
