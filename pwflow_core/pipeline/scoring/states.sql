-- In which ways the states of a segment came in the readings to learn from: regime, machine, values and day, with the
-- number of readings. Expects the temporary tables `pins` and `complete_segments`, and binds $unit_seconds and $origin:
-- what counts as a day.

WITH learned AS (
    SELECT reading_id, machine_id, ts, /*values*/ AS state_values
    FROM (/*training_rows*/)
), placed AS (
    SELECT
        slice.reading_id,
        any_value(pins.segment) AS segment,
        arg_max(slice.cluster_key, ln(pins.weight) + slice.log_density) AS cluster_key
    FROM core.component_log_density AS slice
    JOIN pins USING (cluster_key, flow_version)
    SEMI JOIN complete_segments USING (segment)
    SEMI JOIN learned USING (reading_id)
    GROUP BY slice.reading_id
)
SELECT
    placed.segment,
    placed.cluster_key,
    learned.machine_id,
    learned.state_values,
    floor((epoch(learned.ts) - $origin) / $unit_seconds)::BIGINT AS day,
    count(*) AS n_readings
FROM placed
JOIN learned USING (reading_id)
GROUP BY ALL
ORDER BY ALL;
