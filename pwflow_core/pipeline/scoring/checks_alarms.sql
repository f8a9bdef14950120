-- Share of alarms per night and regime, for the nights that the last scoring run touched.
SELECT
    night_of(score.ts, $timezone) AS night,
    score.cluster_key,
    count(*) AS n_scored,
    count(*) FILTER (score.is_anomaly) AS n_alarms,
    any_value(pins.alpha) AS alpha
FROM mart.anomaly_scores AS score
JOIN core.model_sets AS pins USING (model_set_id, cluster_key)
WHERE score.status = 'scored' AND score.scored_at = (SELECT max(scored_at) FROM mart.anomaly_scores)
GROUP BY night, score.cluster_key
HAVING n_alarms > ceil(10 * alpha * n_scored)
ORDER BY night, score.cluster_key;
