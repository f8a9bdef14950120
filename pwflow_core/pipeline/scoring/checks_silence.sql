-- Alarms of each regime among the readings that its flow in use did not learn from and that did not calibrate it, with
-- the share of them that counts as independent. Faults among them count too: they can only hide that there are too few.
SELECT
    score.cluster_key,
    count(*) AS n_scored,
    count(*) FILTER (score.is_anomaly) AS n_alarms,
    any_value(pins.alpha) AS alpha,
    any_value(calibration.n_effective / calibration.n_rows) AS independent
FROM mart.anomaly_scores AS score
JOIN core.readings AS reading USING (reading_id)
JOIN mart.flow_versions AS trained ON trained.cluster_key = score.cluster_key AND trained.flow_version = score.flow_version
JOIN core.calibration AS calibration
  ON calibration.cluster_key = score.cluster_key AND calibration.flow_version = score.flow_version
JOIN core.model_sets AS pins ON pins.model_set_id = score.model_set_id AND pins.cluster_key = score.cluster_key
WHERE score.status = 'scored' AND calibration.n_rows > 0
  AND (reading.fold IN /*folds*/ OR reading.ts NOT BETWEEN trained.trained_from AND trained.trained_until)
GROUP BY score.cluster_key
ORDER BY score.cluster_key;
