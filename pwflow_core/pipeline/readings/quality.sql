-- The quality of some readings, from those and the ones that they depend on, in one transaction. Expects the
-- temporary tables
--   limits (machine_id, limit_0, resting_0, …): what is healthy for each sensor that is watched,
--   moved (reading_id): gets the readings whose quality, reason or filled values are now others than they were.

CREATE OR REPLACE TEMP TABLE judged AS
WITH timed AS (
    SELECT
        *,
        row_number() OVER machine AS place,
        coalesce(epoch(ts) - epoch(lag(ts) OVER machine) > /*gap_seconds*/, true) AS is_gap,
        segment IS DISTINCT FROM lag(segment) OVER machine AS is_switch/*own_places*/
    FROM (/*with_context*/)
    WINDOW machine AS (PARTITION BY machine_id ORDER BY ts)
), stepped AS (
    SELECT
        *,
        /*changes*/
        sum((is_gap OR is_switch)::INTEGER) OVER (machine ROWS UNBOUNDED PRECEDING) AS run_number
    FROM timed
    WINDOW machine AS (PARTITION BY machine_id ORDER BY ts)
), followed AS (
    SELECT
        *,
        /*still*/
        /*fills*/
    FROM stepped
    WINDOW
        machine AS (PARTITION BY machine_id ORDER BY ts),
        run AS (PARTITION BY machine_id, run_number ORDER BY ts)
), named AS (
    SELECT
        followed.*,
        list_filter([/*stuck*/]::VARCHAR[], lambda name: name IS NOT NULL) AS stuck_sensors,
        list_filter([/*filled*/]::VARCHAR[], lambda name: name IS NOT NULL) AS filled_sensors,
        list_filter([/*missing*/]::VARCHAR[], lambda name: name IS NOT NULL) AS missing_sensors,
        (/*is_held*/) AS is_held
    FROM followed
    LEFT JOIN limits USING (machine_id)
    SEMI JOIN (/*touched*/) AS touched USING (reading_id)
), decided AS (
    SELECT
        *,
        CASE
            WHEN quality = 'invalid' THEN 'invalid'
            WHEN len(missing_sensors) > /*max_missing*/ THEN 'missing'
            WHEN len(stuck_sensors) > 0 THEN 'stuck'
            WHEN len(missing_sensors) > 0 THEN 'partial'
            WHEN len(filled_sensors) > 0 THEN 'filled'
            ELSE 'ok'
        END AS new_quality
    FROM named
), reasoned AS (
    SELECT
        *,
        CASE new_quality
            WHEN 'invalid' THEN reason
            WHEN 'stuck' THEN 'stuck: ' || array_to_string(stuck_sensors, ', ')
            WHEN 'filled' THEN 'filled: ' || array_to_string(filled_sensors, ', ')
            WHEN 'partial' THEN 'missing: ' || array_to_string(missing_sensors, ', ')
                || CASE
                    WHEN len(filled_sensors) > 0 THEN '; filled: ' || array_to_string(filled_sensors, ', ') ELSE ''
                END
            WHEN 'missing' THEN 'missing: ' || array_to_string(missing_sensors, ', ')
        END AS new_reason,
        new_quality IN ('ok', 'filled', 'partial') AND (len(filled_sensors) > 0 OR is_held) AS is_filled
    FROM decided
)
SELECT reading_id, quality, reason, new_quality, new_reason, is_filled, /*fill_columns*/
FROM reasoned
WHERE is_filled
   OR quality <> new_quality
   OR reason IS DISTINCT FROM new_reason
   OR reading_id IN (SELECT reading_id FROM core.filled_values);

INSERT INTO moved
SELECT reading_id
FROM judged
LEFT JOIN core.filled_values AS filled USING (reading_id)
WHERE quality <> new_quality
   OR judged.reason IS DISTINCT FROM new_reason
   OR (is_filled AND (/*fill_differs*/))
   OR (NOT is_filled AND filled.reading_id IS NOT NULL);

UPDATE core.readings
SET quality = judged.new_quality, reason = judged.new_reason
FROM judged
WHERE readings.reading_id = judged.reading_id
  AND judged.reading_id IN (SELECT reading_id FROM moved);

DELETE FROM core.filled_values
WHERE reading_id IN (SELECT reading_id FROM judged SEMI JOIN moved USING (reading_id));

INSERT INTO core.filled_values BY NAME
SELECT judged.* EXCLUDE (quality, reason, new_quality, new_reason, is_filled)
FROM judged
SEMI JOIN moved USING (reading_id)
WHERE is_filled;

DROP TABLE judged;
