-- Readings by night, machine and regime, and what became of them.
SELECT
    night_of(ts, $timezone) AS night,
    machine_id,
    cluster_key,
    count(*) AS n_readings,
    count(*) FILTER (status = 'scored') AS n_scored,
    count(*) FILTER (is_anomaly) AS n_anomalies,
    count(*) FILTER (status = 'missing') AS missing,
    count(*) FILTER (status = 'invalid') AS invalid,
    count(*) FILTER (status = 'stuck') AS stuck,
    count(*) FILTER (status = 'thin') AS thin
FROM mart.anomaly_scores
WHERE ts >= $first
GROUP BY ALL
ORDER BY night, machine_id, cluster_key;
