-- In which ways the states of a segment came in the readings to learn from: regime, machine, values and day, with the number of
-- readings. Segments whose regimes have all scored. Expects the temporary table `pins`, and binds $unit_seconds and
-- $origin: what counts as a day.

WITH complete AS (
    SELECT clusters.segment
    FROM mart.clusters
    LEFT JOIN pins USING (cluster_key)
    WHERE clusters.status = 'active'
    GROUP BY clusters.segment
    HAVING count(*) = count(pins.cluster_key)
), learned AS (
    SELECT reading_id, machine_id, ts, /*values*/ AS state_values
    FROM (/*training_rows*/)
), placed AS (
    SELECT
        slice.reading_id,
        any_value(pins.segment) AS segment,
        arg_max(slice.cluster_key, ln(pins.weight) + slice.log_density) AS cluster_key
    FROM core.component_log_density AS slice
    JOIN pins USING (cluster_key, flow_version)
    SEMI JOIN complete USING (segment)
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
