-- The levels of the held-out readings of the segments whose regimes have all scored and that have no levels yet under
-- this cluster model: of each reading the regime with the largest share, log w_k + log p_k(x) there, and its
-- conformity. Expects the temporary tables `complete_segments` and `pins` (cluster_key, segment, weight, flow_version,
-- cluster_model_id).

WITH fresh AS (
    SELECT pins.cluster_key, pins.segment, pins.weight, pins.flow_version
    FROM pins
    SEMI JOIN complete_segments USING (segment)
    ANTI JOIN core.level_steps USING (cluster_model_id, segment)
), held_out AS (
    SELECT reading_id
    FROM (/*training_rows*/)
    WHERE fold IN /*calibration_folds*/
), joint AS (
    SELECT
        slice.reading_id,
        fresh.segment,
        fresh.cluster_key,
        slice.conformity,
        ln(fresh.weight) + slice.log_density - coalesce(slice.log_volume, 0) AS level
    FROM core.component_log_density AS slice
    JOIN fresh USING (cluster_key, flow_version)
    SEMI JOIN held_out USING (reading_id)
)
SELECT
    segment,
    arg_max(cluster_key, level) AS cluster_key,
    arg_max(conformity, level) AS conformity,
    max(level) AS level
FROM joint
GROUP BY reading_id, segment
HAVING bool_and(conformity IS NOT NULL)
ORDER BY segment, level;
