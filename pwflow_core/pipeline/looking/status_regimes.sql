-- The regimes in use with their flow and the last evidence that it gives of drift. Expects $channel, that of all
-- evidence together. What an earlier flow showed is left out.

WITH evidence AS (
    SELECT cluster_key, arg_max(struct_pack(evidence, threshold, night), night) AS last
    FROM mart.cluster_health
    WHERE channel = $channel
    GROUP BY cluster_key
),
followed AS (SELECT DISTINCT cluster_key, flow_version FROM core.drift_states)
SELECT
    clusters.cluster_key,
    clusters.segment,
    clusters.weight,
    flow.flow_version,
    flow.trained_at,
    flow.reason,
    evidence.last.evidence,
    evidence.last.threshold,
    evidence.last.night,
    NOT EXISTS (
        FROM core.drift_references AS known
        WHERE known.cluster_key = clusters.cluster_key AND known.flow_version = flow.flow_version
          AND known.reference IS NULL
    ) AS can_be_followed
FROM mart.clusters
LEFT JOIN mart.flow_versions AS flow ON flow.cluster_key = clusters.cluster_key AND flow.in_force
LEFT JOIN followed ON followed.cluster_key = flow.cluster_key AND followed.flow_version = flow.flow_version
LEFT JOIN evidence ON evidence.cluster_key = followed.cluster_key
WHERE clusters.status = 'active'
ORDER BY clusters.cluster_key;
