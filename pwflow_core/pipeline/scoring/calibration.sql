-- The held-out readings of the regimes whose flow has no calibration yet and learned from one window, with their
-- conformity to the regime that each is given to. Readings in alarm events are among them, also where the flow did not
-- learn from those: without them the tail would be cut off. Machines under suspicion are not, where $without_events.
-- Expects the temporary table `pins` (cluster_key, segment, weight, flow_version), $training_window, as the registry has
-- it, and $timezone: a verdict is since a calendar day there.

WITH fresh AS (
    SELECT pins.cluster_key, pins.flow_version, trained.trained_until
    FROM pins
    JOIN mart.flow_versions AS trained USING (cluster_key, flow_version)
    ANTI JOIN core.calibration USING (cluster_key, flow_version)
    WHERE trained.training_window IS NOT DISTINCT FROM $training_window
), held_out AS (
    SELECT reading_id, machine_id, ts
    FROM (/*training_rows*/)
    WHERE fold IN /*calibration_folds*/
), best AS (
    SELECT
        slice.reading_id,
        arg_max(
            struct_pack(cluster_key := slice.cluster_key, conformity := slice.conformity),
            ln(pins.weight) + slice.log_density
        ) AS winner
    FROM core.component_log_density AS slice
    JOIN pins USING (cluster_key, flow_version)
    SEMI JOIN held_out USING (reading_id)
    -- A reading that a regime without a flow could have produced calibrates none of the others.
    ANTI JOIN (
        SELECT reading_id
        FROM core.cluster_assignments
        WHERE cluster_key NOT IN (SELECT cluster_key FROM pins)
    ) AS waiting USING (reading_id)
    GROUP BY slice.reading_id
)
SELECT
    fresh.cluster_key,
    fresh.flow_version,
    best.winner.conformity AS conformity,
    dense_rank() OVER (ORDER BY held_out.machine_id, floor(epoch(held_out.ts) / $block_seconds)) AS block
FROM fresh
LEFT JOIN best ON best.winner.cluster_key = fresh.cluster_key AND best.winner.conformity IS NOT NULL
LEFT JOIN held_out ON held_out.reading_id = best.reading_id
ANTI JOIN (/*suspects*/) AS suspect
  ON $without_events
 AND suspect.machine_id = held_out.machine_id
 AND suspect.cluster_key = fresh.cluster_key
 AND night_of(held_out.ts, $timezone) >= suspect.since
WHERE held_out.ts <= fresh.trained_until OR held_out.ts IS NULL
ORDER BY fresh.cluster_key, held_out.machine_id, held_out.ts;
