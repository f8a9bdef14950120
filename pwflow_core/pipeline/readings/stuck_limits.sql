-- How long one sensor may go without a change, for the machines in `fresh_machines`, from the readings in `history`. A run is a stretch of readings
-- with equal values. A value at which the sensor often rests for long (an idle machine's zero) is a resting value:
-- there the sensor is never stuck, unless it rests everywhere, as coarse sensors and setpoints do.

INSERT INTO core.stuck_limits BY NAME
WITH past AS (
    SELECT machine_id, ts, /*sensor*/ AS value FROM core.readings SEMI JOIN history USING (reading_id) WHERE /*own*/
), steps AS (
    SELECT
        *,
        coalesce(
            value IS DISTINCT FROM lag(value) OVER machine OR epoch(ts) - epoch(lag(ts) OVER machine) > $gap_seconds,
            true
        ) AS is_new
    FROM past
    WINDOW machine AS (PARTITION BY machine_id ORDER BY ts)
), runs AS (
    SELECT machine_id, any_value(value) AS value, count(*) AS n_readings
    FROM (SELECT *, sum(is_new::INTEGER) OVER (PARTITION BY machine_id ORDER BY ts) AS run FROM steps)
    GROUP BY machine_id, run
), rests AS (
    SELECT machine_id, value
    FROM runs
    WHERE n_readings >= $stuck_readings
    GROUP BY machine_id, value
    HAVING count(*) >= $ordinary
), few_rests AS (
    SELECT machine_id, value, count(*) OVER (PARTITION BY machine_id) AS n_rests FROM rests
), resting AS (
    SELECT machine_id, value FROM few_rests WHERE n_rests <= $most_resting
), longest AS (
    SELECT machine_id, n_readings
    FROM runs
    ANTI JOIN resting USING (machine_id, value)
    QUALIFY row_number() OVER (PARTITION BY machine_id ORDER BY n_readings DESC) = $ordinary
), counted AS (
    SELECT machine_id, count(*) AS n_runs FROM runs ANTI JOIN resting USING (machine_id, value) GROUP BY machine_id
)
SELECT
    machine_id,
    $sensor AS sensor,
    CASE
        WHEN n_runs >= $min_runs AND greatest($factor * longest.n_readings, $stuck_readings) <= $longest_limit
        THEN ceil(greatest($factor * longest.n_readings, $stuck_readings))::INTEGER
    END AS max_readings,
    coalesce(values_at_rest, []) AS resting,
    coalesce(n_runs, 0) AS n_runs
FROM fresh_machines
LEFT JOIN longest USING (machine_id)
LEFT JOIN counted USING (machine_id)
LEFT JOIN (SELECT machine_id, list(value ORDER BY value) AS values_at_rest FROM resting GROUP BY machine_id)
    USING (machine_id);
