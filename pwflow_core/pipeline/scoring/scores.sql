-- From slices to scores, in one transaction. Expects the temporary tables
--   pins (flow, cluster_key, segment, weight, flow_version): the model set that this run is pinned to, all calibrated,
--   affected (reading_id): the readings whose score has to be made, or made again,
--   state_chances (flow, chance) and new_states (flow, reading_id): how often normal readings show something new in their
--   states, and which do in each regime.

CREATE TEMP TABLE joint AS
SELECT
    slice.reading_id,
    pins.flow,
    slice.conformity,
    ln(pins.weight) + slice.log_density AS log_joint,
    coalesce(slice.log_volume, 0) AS log_volume
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
        arg_max(struct_pack(flow, conformity, log_volume), log_joint) AS winner
    FROM joint
    GROUP BY reading_id
), shared AS (
    SELECT joint.reading_id, ln(sum(exp(joint.log_joint - best.top) ORDER BY joint.flow)) AS excess
    FROM joint
    JOIN best USING (reading_id)
    WHERE best.n_candidates > 1
    GROUP BY joint.reading_id
)
SELECT
    best.reading_id,
    best.top + coalesce(shared.excess, 0) AS log_density,
    best.winner.flow AS flow,
    best.winner.conformity AS conformity,
    best.top - best.winner.log_volume AS level
FROM best
LEFT JOIN shared USING (reading_id);

CREATE TEMP TABLE steps AS
SELECT pins.flow, step.conformity, step.p_value
FROM core.calibration_steps AS step
JOIN pins USING (cluster_key, flow_version);

CREATE TEMP TABLE levels AS
SELECT pins.flow, step.weight, step.level, step.share_below
FROM core.level_steps AS step
JOIN pins USING (cluster_model_id, segment, cluster_key);

CREATE TEMP TABLE merged_steps AS
SELECT pins.flow, step.merged, step.p_value, step.slope
FROM core.merged_steps AS step
JOIN pins USING (cluster_model_id, segment);

DELETE FROM mart.anomaly_scores WHERE reading_id IN (SELECT reading_id FROM affected);

-- From the threshold of the regime upwards the rank among the held-out readings, below it the tail, but no less than
-- the step; modelling/calibration.py has the formulas. It is merged with the share of all readings that lie at most as
-- high; modelling/levels.py has that formula. Without levels, which a segment has once all its regimes have scored, it
-- stands alone.
INSERT INTO mart.anomaly_scores BY NAME
WITH own AS (
    SELECT
        mixture.reading_id,
        mixture.flow,
        mixture.level,
        mixture.log_density,
        mixture.conformity IS NULL AS is_learning,
        calibration.cluster_key,
        calibration.flow_version,
        calibration.n_rows,
        CASE
            WHEN mixture.conformity >= calibration.threshold THEN steps.p_value
            ELSE greatest(
                calibration.threshold_p_value * pow(
                    1 + calibration.tail_shape * (calibration.threshold - mixture.conformity)
                        / calibration.tail_scale,
                    -1 / calibration.tail_shape
                ),
                coalesce(steps.p_value, $smallest_p)
            )
        END AS p_value
    FROM mixture
    ASOF LEFT JOIN steps ON mixture.flow = steps.flow AND mixture.conformity >= steps.conformity
    JOIN pins ON pins.flow = mixture.flow
    JOIN core.calibration AS calibration USING (cluster_key, flow_version)
), shared AS (
    SELECT
        own.*,
        least(1, levels.share_below + levels.weight * own.p_value) AS share
    FROM own
    ASOF LEFT JOIN levels ON own.flow = levels.flow AND own.level >= levels.level
), merged AS (
    SELECT
        *,
        least(
            p_value / (p_value + $own_weight * (1 - p_value)), share / (share + (1 - $own_weight) * (1 - share))
        ) AS merged
    FROM shared
), ranked AS (
    SELECT
        merged.* REPLACE (coalesce(
            step.p_value + least(step.slope * (merged.merged - step.merged), 1 - step.p_value), merged.p_value
        ) AS p_value)
    FROM merged
    ASOF LEFT JOIN merged_steps AS step ON merged.flow = step.flow AND merged.merged >= step.merged
), smaller AS (
    SELECT
        ranked.* REPLACE (
            CASE
                WHEN new.reading_id IS NOT NULL AND states.chance < ranked.p_value THEN states.chance
                ELSE ranked.p_value
            END AS p_value
        ),
        states.chance
    FROM ranked
    LEFT JOIN state_chances AS states ON ranked.flow = states.flow
    LEFT JOIN new_states AS new ON ranked.flow = new.flow AND ranked.reading_id = new.reading_id
), told AS (
    -- With what the states say; modelling/states.py has the formula.
    SELECT
        smaller.* REPLACE (CASE WHEN p_value >= chance THEN least(p_value + chance, 1) ELSE p_value END AS p_value)
    FROM smaller
), judged AS (
    SELECT
        reading.reading_id,
        reading.machine_id,
        reading.ts,
        reading.segment,
        told.cluster_key,
        told.flow_version,
        told.log_density,
        told.p_value,
        CASE
            WHEN reading.quality NOT IN ('ok', 'filled', 'partial') THEN reading.quality
            WHEN told.is_learning THEN 'thin'
            WHEN coalesce(told.n_rows, 0) < $min_calibration_rows THEN 'thin'
            ELSE 'scored'
        END AS status,
        CASE
            WHEN status <> 'thin' THEN reading.reason
            WHEN told.is_learning THEN format(
                'Machine {} is new in regime {}: it is judged when enough of its readings are there',
                reading.machine_id, told.cluster_key
            )
            WHEN told.reading_id IS NOT NULL THEN format(
                'Regime {} has {} held-out readings; {} are needed to calibrate it',
                told.cluster_key, told.n_rows, $min_calibration_rows
            )
            WHEN reading.segment NOT IN (SELECT segment FROM mart.clusters WHERE status = 'active') THEN format(
                'No operating regime has been learned for segment {}', reading.segment
            )
            WHEN unreadable.reading_id IS NOT NULL THEN format(
                'The model file of regime {} cannot be used: restore it, or retrain the regime',
                unreadable.cluster_key
            )
            ELSE 'A regime that could have produced the reading has no calibrated flow yet'
        END AS reason
    FROM core.readings AS reading
    SEMI JOIN affected USING (reading_id)
    LEFT JOIN told USING (reading_id)
    LEFT JOIN (
        SELECT reading_id, min(cluster_key) AS cluster_key
        FROM core.cluster_assignments
        WHERE cluster_key IN (SELECT cluster_key FROM core.progress WHERE step = 'unreadable')
        GROUP BY reading_id
    ) AS unreadable USING (reading_id)
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
    reason,
    flow_version,
    $model_set_id AS model_set_id,
    $now AS scored_at
FROM judged
ORDER BY machine_id, ts;
