-- From slices to scores, in one transaction. Expects the temporary tables
--   pins (cluster_key, segment, weight, flow_version): the model set that this run is pinned to,
--   affected (reading_id): the readings whose score has to be made, or made again.

CREATE TEMP TABLE joint AS
SELECT
    slice.reading_id,
    slice.cluster_key,
    slice.flow_version,
    slice.log_density AS own_log_density,
    ln(pins.weight) + slice.log_density AS log_joint
FROM core.component_log_density AS slice
JOIN pins USING (cluster_key, flow_version)
SEMI JOIN affected USING (reading_id)
-- A reading that a regime without a flow could have produced is not judged by the others.
ANTI JOIN (
    SELECT reading_id
    FROM core.cluster_assignments
    WHERE cluster_key NOT IN (SELECT cluster_key FROM pins)
) AS waiting USING (reading_id);

-- log p(x) = logsumexp_k [log w_k + log p_k(x)], and the regime with the largest share.
CREATE TEMP TABLE mixture AS
WITH best AS (
    SELECT
        reading_id,
        count(*) AS n_candidates,
        max(log_joint) AS top,
        arg_max(struct_pack(cluster_key, flow_version, own_log_density), log_joint) AS winner
    FROM joint
    GROUP BY reading_id
), shared AS (
    SELECT joint.reading_id, ln(sum(exp(joint.log_joint - best.top) ORDER BY joint.cluster_key)) AS excess
    FROM joint
    JOIN best USING (reading_id)
    WHERE best.n_candidates > 1
    GROUP BY joint.reading_id
)
SELECT
    best.reading_id,
    best.top + coalesce(shared.excess, 0) AS log_density,
    best.winner.cluster_key AS cluster_key,
    best.winner.flow_version AS flow_version,
    best.winner.own_log_density AS own_log_density
FROM best
LEFT JOIN shared USING (reading_id);

-- A flow is calibrated once, on the readings that it never learned from: then its p-values stay what they are.
INSERT INTO core.calibration BY NAME
WITH held_out AS (
    SELECT mixture.cluster_key, mixture.flow_version, mixture.own_log_density AS log_density
    FROM mixture
    JOIN pins USING (cluster_key, flow_version)
    JOIN mart.flow_versions AS trained USING (cluster_key, flow_version)
    JOIN (/*training_rows*/) AS reading USING (reading_id)
    WHERE reading.fold IN /*calibration_folds*/
      AND reading.ts <= trained.trained_until
      AND (mixture.cluster_key, mixture.flow_version) NOT IN
          (SELECT (cluster_key, flow_version) FROM core.calibration)
)
SELECT DISTINCT
    cluster_key,
    flow_version,
    log_density,
    count(*) OVER (PARTITION BY cluster_key ORDER BY log_density) AS n_at_most,
    count(*) OVER (PARTITION BY cluster_key) AS n_total
FROM held_out;

DELETE FROM mart.anomaly_scores WHERE reading_id IN (SELECT reading_id FROM affected);

-- p = (1 + held-out readings at least as improbable) / (1 + held-out readings)
INSERT INTO mart.anomaly_scores BY NAME
WITH sizes AS (
    SELECT cluster_key, flow_version, max(n_total) AS n_total
    FROM core.calibration
    GROUP BY cluster_key, flow_version
), ranked AS (
    SELECT
        mixture.*,
        sizes.n_total,
        (1 + coalesce(calibration.n_at_most, 0)) / (1 + sizes.n_total)::DOUBLE AS p_value
    FROM mixture
    LEFT JOIN sizes USING (cluster_key, flow_version)
    ASOF LEFT JOIN core.calibration AS calibration
      ON mixture.cluster_key = calibration.cluster_key
     AND mixture.flow_version = calibration.flow_version
     AND mixture.own_log_density >= calibration.log_density
), judged AS (
    SELECT
        reading.reading_id,
        reading.machine_id,
        reading.ts,
        reading.segment,
        ranked.cluster_key,
        ranked.flow_version,
        ranked.log_density,
        ranked.p_value,
        CASE
            WHEN reading.quality NOT IN ('ok', 'filled', 'partial') THEN reading.quality
            WHEN coalesce(ranked.n_total, 0) < $min_calibration_rows THEN 'thin'
            ELSE 'scored'
        END AS status
    FROM core.readings AS reading
    SEMI JOIN affected USING (reading_id)
    LEFT JOIN ranked USING (reading_id)
)
SELECT
    reading_id,
    machine_id,
    ts,
    segment,
    cluster_key,
    CASE WHEN status = 'scored' THEN log_density END AS log_density,
    CASE WHEN status = 'scored' THEN p_value END AS p_value,
    CASE WHEN status = 'scored' THEN -log10(p_value) END AS anomaly_score,
    CASE WHEN status = 'scored' THEN p_value <= $alpha END AS is_anomaly,
    status,
    flow_version,
    $model_set_id AS model_set_id,
    $now AS scored_at
FROM judged
ORDER BY machine_id, ts;
