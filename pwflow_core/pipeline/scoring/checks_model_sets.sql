-- Scores that do not belong together, by what is wrong with them. The model set of the scores made last is the one
-- in use; a reading that kept an older score must have no candidate regime whose flow has changed since.
WITH latest AS (
    SELECT arg_max(model_set_id, scored_at) AS model_set_id FROM mart.anomaly_scores
), pins AS (
    SELECT model_set_id, cluster_key, flow_version, cluster_model_id, alpha, min_calibration_rows
    FROM core.model_sets
), in_force AS (
    SELECT * FROM pins SEMI JOIN latest USING (model_set_id)
), in_use AS (
    SELECT DISTINCT model_set_id FROM mart.anomaly_scores
), changed AS (
    SELECT pins.model_set_id, pins.cluster_key
    FROM pins
    SEMI JOIN in_use USING (model_set_id)
    JOIN in_force USING (cluster_key)
    WHERE pins.flow_version <> in_force.flow_version
)
SELECT 'scored by a flow that was not in its model set' AS problem, count(*) AS n_readings
FROM mart.anomaly_scores AS score
ANTI JOIN pins USING (model_set_id, cluster_key, flow_version)
WHERE status = 'scored'
UNION ALL
SELECT 'scored under other regimes or another scoring configuration than the rest', count(*)
FROM mart.anomaly_scores AS score
WHERE model_set_id IN (
    SELECT model_set_id
    FROM pins
    WHERE (cluster_model_id, alpha, min_calibration_rows) NOT IN
          (SELECT (cluster_model_id, alpha, min_calibration_rows) FROM in_force)
)
UNION ALL
SELECT 'scored before a flow of one of its regimes was replaced', count(DISTINCT score.reading_id)
FROM mart.anomaly_scores AS score
JOIN core.cluster_assignments AS assigned USING (reading_id)
SEMI JOIN changed ON changed.model_set_id = score.model_set_id AND changed.cluster_key = assigned.cluster_key;
