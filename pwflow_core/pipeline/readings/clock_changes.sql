-- Times of a clock that was put back or forward. Expects the temporary tables
--   parsed: rows with `instant` in UTC, which is the later one where a clock showed a time twice,
--   clock_changes (zone, changed_at, first, last, before, after): when, the times that were shown twice or never, offsets.
-- A time that was never shown is not a time. Of one that was shown twice, the order of the rows of its file tells which it
-- is, if they go on in one direction and step back once, by as much as the clock and not more than usual.

CREATE OR REPLACE TEMP TABLE near_changes AS
SELECT
    near.file_id, near.row_number, near.machine_id, near.wall, near.instant,
    changes.changed_at, changes.after < changes.before AS is_back,
    near.wall >= changes.first AND near.wall < changes.last AS is_inside,
    changes.before, changes.after,
    lag(near.wall) OVER rows_of_machine AS wall_before,
    row_number() OVER rows_of_machine AS place
FROM (
    SELECT file_id, row_number, machine_id, instant, /*zone*/ AS zone, /*wall*/ AS wall
    FROM parsed
    WHERE instant::DATE IN (
        SELECT changed_at::DATE + days::INTEGER FROM clock_changes CROSS JOIN (VALUES (-1), (0), (1)) AS shifts (days)
    )
) AS near
JOIN clock_changes AS changes
    ON changes.zone = near.zone
   AND near.instant BETWEEN changes.changed_at - INTERVAL 1 DAY AND changes.changed_at + INTERVAL 1 DAY
WINDOW rows_of_machine AS (PARTITION BY near.file_id, near.machine_id, changes.changed_at ORDER BY near.row_number);

CREATE OR REPLACE TEMP TABLE clock_rows AS
WITH paces AS (
    SELECT
        file_id, machine_id, changed_at,
        median(abs(epoch(wall) - epoch(wall_before))) FILTER (wall <> wall_before) AS usual,
        CASE
            WHEN count(*) FILTER (wall > wall_before) > count(*) FILTER (wall < wall_before) THEN 1
            WHEN count(*) FILTER (wall < wall_before) > count(*) FILTER (wall > wall_before) THEN -1
        END AS direction
    FROM near_changes
    GROUP BY ALL
), inside AS (
    SELECT
        near_changes.*, usual, direction,
        direction * (epoch(wall) - epoch(lag(wall) OVER rows_of_machine)) AS step
    FROM near_changes
    JOIN paces USING (file_id, machine_id, changed_at)
    WHERE is_inside AND is_back
    WINDOW rows_of_machine AS (PARTITION BY file_id, machine_id, changed_at ORDER BY row_number)
), turned AS (
    SELECT
        *,
        count(*) FILTER (step <= 0) OVER (rows_of_machine ROWS UNBOUNDED PRECEDING) AS turns,
        count(*) FILTER (step <= 0) OVER rows_of_all AS all_turns,
        max(step + before - after) FILTER (step <= 0) OVER rows_of_all AS elapsed,
        max(place) OVER rows_of_all - min(place) OVER rows_of_all + 1 = count(*) OVER rows_of_all AS is_together
    FROM inside
    WINDOW
        rows_of_machine AS (PARTITION BY file_id, machine_id, changed_at ORDER BY row_number),
        rows_of_all AS (PARTITION BY file_id, machine_id, changed_at)
)
SELECT
    file_id, row_number,
    CASE
        WHEN all_turns = 1 AND is_together AND elapsed <= 2.5 * usual
        THEN wall - to_seconds(CASE WHEN (turns = 0) = (direction = 1) THEN before ELSE after END)
    END AS instant,
    'ambiguous_timestamp' AS reason
FROM turned
UNION ALL
SELECT file_id, row_number, NULL, 'nonexistent_timestamp'
FROM near_changes
WHERE is_inside AND NOT is_back;

INSERT INTO row_reasons SELECT file_id, row_number, reason FROM clock_rows WHERE instant IS NULL;

UPDATE parsed
SET instant = clock_rows.instant, reading_id = /*reading_id*/
FROM clock_rows
WHERE parsed.file_id = clock_rows.file_id
  AND parsed.row_number = clock_rows.row_number
  AND parsed.instant IS DISTINCT FROM clock_rows.instant;

DROP TABLE near_changes;
DROP TABLE clock_rows;
