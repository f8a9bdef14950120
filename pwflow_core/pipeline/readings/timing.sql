-- The buckets of time that a change of the readings in `changed` (reading_id, machine_id, ts) can touch, in chunks of
-- about `rows_per_chunk` readings. A change reaches forward over at most `reach_seconds`, the length of a bucket: into
-- its own bucket and the next.

CREATE OR REPLACE TEMP TABLE touched_buckets AS
WITH touched AS (
    SELECT DISTINCT machine_id, floor(epoch(ts) / $reach_seconds) + shift AS bucket
    FROM changed
    CROSS JOIN (VALUES (0), (1)) AS shifts (shift)
), counted AS (
    SELECT machine_id, floor(epoch(ts) / $reach_seconds) AS bucket, count(*) AS n_rows
    FROM core.readings
    WHERE ts >= (SELECT min(ts) - to_microseconds((1e6 * $reach_seconds)::BIGINT) FROM changed)
      AND ts <= (SELECT max(ts) + to_microseconds((2e6 * $reach_seconds)::BIGINT) FROM changed)
    GROUP BY ALL
)
SELECT
    machine_id,
    bucket,
    (sum(n_rows) OVER (ORDER BY machine_id, bucket ROWS UNBOUNDED PRECEDING) // $rows_per_chunk)::BIGINT AS chunk
FROM touched
JOIN counted USING (machine_id, bucket);
