-- The regimes in force with their flow and the last evidence of drift. Expects $channel, that of all evidence together.

WITH evidence AS (
    SELECT cluster_key, arg_max(struct_pack(evidence, threshold, night), night) AS last
    FROM mart.cluster_health
    WHERE channel = $channel
    GROUP BY cluster_key
)
SELECT
    clusters.cluster_key,
    clusters.segment,
    clusters.weight,
    flow.flow_version,
    flow.trained_at,
    flow.reason,
    evidence.last.evidence,
    evidence.last.threshold,
    evidence.last.night
FROM mart.clusters
LEFT JOIN mart.flow_versions AS flow ON flow.cluster_key = clusters.cluster_key AND flow.in_force
LEFT JOIN evidence ON evidence.cluster_key = clusters.cluster_key
WHERE clusters.status = 'active'
ORDER BY clusters.cluster_key;
