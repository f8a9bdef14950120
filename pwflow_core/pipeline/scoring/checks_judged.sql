-- What became of the readings of every file, looked up one by one.
SELECT
    reading.file_id,
    count(*) AS n_joined,
    count(*) FILTER (score.status = 'scored') AS n_scored,
    count(*) FILTER (score.status <> 'scored') AS n_unjudged,
    count(*) FILTER (score.status IS NULL AND reading.batch_id > $derived) AS n_waiting,
    count(*) FILTER (score.status IS NULL AND reading.batch_id <= $derived) AS n_lost
FROM core.readings AS reading
LEFT JOIN mart.anomaly_scores AS score USING (reading_id)
GROUP BY reading.file_id
