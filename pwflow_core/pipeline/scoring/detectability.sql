-- Held-out readings of a regime in use, in runs of $length neighbours, at most $most_runs of them, evenly spaced: those of
-- the window that its flow learned from, as far as they were judged. Expects $cluster_key and $flow_version.
WITH held_out AS (
    SELECT reading.*, row_number() OVER (ORDER BY reading.machine_id, reading.ts) - 1 AS place, count(*) OVER () AS n
    FROM (/*training_rows*/) AS reading
    JOIN mart.anomaly_scores AS score USING (reading_id)
    JOIN mart.flow_versions AS trained USING (cluster_key, flow_version)
    WHERE reading.fold IN /*calibration_folds*/ AND reading.ts <= trained.trained_until AND score.status = 'scored'
      AND score.cluster_key = $cluster_key AND score.flow_version = $flow_version
)
SELECT /*columns*/
FROM held_out
WHERE (place // $length) % greatest(1, ceil(n // $length / $most_runs)) = 0 AND place < n // $length * $length
ORDER BY place;
