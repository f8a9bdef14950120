-- Features over time of the readings that a change touched, in one transaction. Expects the temporary tables
--   changed (reading_id, machine_id, ts): readings that are new, changed or gone,
--   moved (reading_id), empty: gets the readings whose features are now others than they were.

CREATE OR REPLACE TEMP TABLE computed AS
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
SEMI JOIN (/*touched*/) AS touched USING (reading_id);

INSERT INTO moved
SELECT reading_id
FROM computed AS new
JOIN core.features AS old USING (reading_id)
WHERE /*differs*/;

-- A feature that stayed what it was keeps its value to the byte.
DELETE FROM computed
WHERE reading_id IN (SELECT reading_id FROM core.features)
  AND reading_id NOT IN (SELECT reading_id FROM moved);

DELETE FROM core.features
WHERE reading_id IN (SELECT reading_id FROM moved)
   OR reading_id IN (SELECT reading_id FROM changed ANTI JOIN core.readings USING (reading_id));

INSERT INTO core.features BY NAME FROM computed;

DROP TABLE computed;
