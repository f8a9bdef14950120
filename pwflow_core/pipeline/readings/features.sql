-- Features over time of some readings, from those and the ones that they depend on.

WITH timed AS (
    SELECT
        reading.reading_id, reading.machine_id, reading.ts, reading.segment,
        /*values*/
    FROM (/*with_context*/) AS reading
    LEFT JOIN core.filled_values AS filled USING (reading_id)
), started AS (
    SELECT *, /*new_run*/ AS is_new_run
    FROM timed
    WINDOW machine AS (PARTITION BY machine_id ORDER BY ts)
), runs AS (
    SELECT *, sum(is_new_run::INTEGER) OVER (PARTITION BY machine_id ORDER BY ts ROWS UNBOUNDED PRECEDING) AS run_number
    FROM started
), placed AS (
    SELECT
        *,
        row_number() OVER run AS place,
        epoch(ts) - first_value(epoch(ts)) OVER run AS second
    FROM runs
    WINDOW run AS (PARTITION BY machine_id, run_number ORDER BY ts)
), featured AS (
    SELECT reading_id, /*features*/
    FROM placed
    WINDOW run AS (PARTITION BY machine_id, run_number ORDER BY ts)
)
SELECT *, /*is_complete*/ AS is_complete
FROM featured
SEMI JOIN (/*touched*/) AS touched USING (reading_id)
