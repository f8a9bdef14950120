-- What the models saw over a stretch of time: one reading per bin. Expects the quoted /*columns*/.
SELECT ts, segment, coalesce(cluster_key, '') AS cluster_key, coalesce(flow_version, '') AS flow_version, /*columns*/
FROM core.model_readings
LEFT JOIN (SELECT reading_id, cluster_key, flow_version FROM mart.anomaly_scores) AS score USING (reading_id)
WHERE machine_id = $machine AND ts BETWEEN $start AND $end
  AND reading_id IN (
    SELECT arg_min(reading_id, ts)
    FROM core.readings
    WHERE machine_id = $machine AND ts BETWEEN $start AND $end AND quality = 'ok'
    GROUP BY floor((epoch(ts) - epoch($start::TIMESTAMP)) / $bin_seconds)
)
  AND is_complete
ORDER BY ts;
