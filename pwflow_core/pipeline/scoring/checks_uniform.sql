-- Normal readings that no training saw, with the flow that scored them, how they conform to it, and their p-value: by
-- regime and fold, with the time block of a machine that each lies in. Of the flows that learned from $training_window
-- only: what was normal for one is not for another.
SELECT
    score.cluster_key,
    reading.fold,
    dense_rank() OVER (ORDER BY reading.machine_id, floor(epoch(reading.ts) / $block_seconds)) AS block,
    score.flow_version,
    slice.conformity,
    score.p_value AS published
FROM mart.anomaly_scores AS score
JOIN (/*training_rows*/) AS reading USING (reading_id)
JOIN core.component_log_density AS slice USING (reading_id, cluster_key, flow_version)
JOIN mart.flow_versions AS trained USING (cluster_key, flow_version)
WHERE score.status = 'scored' AND reading.quality = 'ok' AND reading.fold IN /*folds*/
  AND reading.ts <= trained.trained_until AND trained.training_window IS NOT DISTINCT FROM $training_window
ORDER BY score.cluster_key;
