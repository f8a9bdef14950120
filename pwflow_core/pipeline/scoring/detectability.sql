-- Held-out readings of a regime in use, by machine and time: those of the window that its flow learned from, as far as they
-- were judged. Expects $cluster_key and $flow_version.
SELECT reading.machine_id, /*columns*/
FROM (/*training_rows*/) AS reading
JOIN mart.anomaly_scores AS score USING (reading_id)
JOIN mart.flow_versions AS trained USING (cluster_key, flow_version)
WHERE reading.fold IN /*calibration_folds*/ AND reading.ts <= trained.trained_until AND score.status = 'scored'
  AND score.cluster_key = $cluster_key AND score.flow_version = $flow_version
ORDER BY reading.machine_id, reading.ts;
