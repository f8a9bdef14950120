-- How far the p-values of normal readings that no flow learned from and no calibration used are from uniform: per
-- regime the Kolmogorov-Smirnov distance, and from how many time blocks of a machine the readings come. Of the flows
-- that learned from $training_window only: what was normal for one is not for another.
WITH held_out AS (
    SELECT
        score.cluster_key,
        score.p_value,
        struct_pack(machine := reading.machine_id, number := floor(epoch(reading.ts) / $block_seconds)) AS block
    FROM mart.anomaly_scores AS score
    JOIN (/*training_rows*/) AS reading USING (reading_id)
    JOIN mart.flow_versions AS trained USING (cluster_key, flow_version)
    WHERE score.status = 'scored' AND reading.quality = 'ok' AND reading.fold IN /*folds*/
      AND reading.ts <= trained.trained_until AND trained.training_window IS NOT DISTINCT FROM $training_window
), ranked AS (
    SELECT
        cluster_key,
        p_value,
        block,
        rank() OVER by_p - 1 AS n_below,
        count(*) OVER by_p AS n_at_most,  -- ties included
        count(*) OVER (PARTITION BY cluster_key) AS n
    FROM held_out
    WINDOW by_p AS (PARTITION BY cluster_key ORDER BY p_value)
)
SELECT
    cluster_key,
    any_value(n) AS n_readings,
    count(DISTINCT block) AS n_blocks,
    max(greatest(n_at_most / n - p_value, p_value - n_below / n)) AS distance
FROM ranked
GROUP BY cluster_key
ORDER BY cluster_key;
