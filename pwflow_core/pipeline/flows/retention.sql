-- Flow versions whose model file nothing needs: out of force since before $expiry everywhere, behind no score and no
-- slice, in no model set that was pinned since then, and in none that an anomaly is still to be explained with.
WITH left_force AS (
    SELECT cluster_key, previous_version AS flow_version, max(decided_at) AS left_at
    FROM mart.flow_decisions
    WHERE decision <> 'refused' AND previous_version <> flow_version
    GROUP BY ALL
), unexplained AS (
    SELECT DISTINCT score.model_set_id
    FROM mart.anomaly_scores AS score
    SEMI JOIN (SELECT reading_id FROM core.readings WHERE quality IN ('ok', 'filled')) AS complete USING (reading_id)
    ANTI JOIN mart.sensor_contributions AS explained
      ON explained.reading_id = score.reading_id AND explained.scored_at = score.scored_at
    WHERE score.is_anomaly
), needed AS (
    SELECT flow_version
    FROM core.model_sets
    WHERE pinned_at >= $expiry OR model_set_id IN (FROM unexplained)
    UNION
    SELECT flow_version
    FROM mart.flow_versions
    LEFT JOIN left_force USING (cluster_key, flow_version)
    LEFT JOIN mart.clusters USING (cluster_key)
    WHERE in_force OR greatest(trained_at, promoted_at, left_at, retired_at) >= $expiry
    UNION
    SELECT flow_version FROM core.component_log_density
    UNION
    SELECT flow_version FROM mart.anomaly_scores
)
SELECT DISTINCT flow_version
FROM mart.flow_versions
ANTI JOIN needed USING (flow_version)
ORDER BY flow_version;
