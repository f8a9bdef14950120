-- Times between readings that are longer than the rhythm of the machine allows. Expects `stretches`. Windows go over one
-- day at a time, and over the edges of days: those over all readings of a machine would not fit the memory limit.
CREATE OR REPLACE TEMP TABLE rhythms AS
SELECT machine_id, median(seconds) AS interval_seconds, greatest($gap_seconds, $own_gap * median(seconds)) AS gap_seconds
FROM (
    SELECT machine_id, epoch(ts - lag(ts) OVER (PARTITION BY machine_id, stretch ORDER BY ts)) AS seconds FROM stretches
)
GROUP BY machine_id;

CREATE OR REPLACE TEMP TABLE gaps AS
WITH within AS (
    SELECT machine_id, ts AS started_at, lead(ts) OVER (PARTITION BY machine_id, ts::DATE ORDER BY ts) AS ended_at
    FROM /*readings*/
), days AS (
    SELECT machine_id, ts::DATE AS day, min(ts) AS first, max(ts) AS last FROM /*readings*/ GROUP BY ALL
), edges AS (
    SELECT machine_id, last AS started_at, lead(first) OVER (PARTITION BY machine_id ORDER BY day) AS ended_at FROM days
)
SELECT machine_id, started_at, ended_at, epoch(ended_at - started_at) AS seconds
FROM (FROM within UNION ALL FROM edges)
JOIN rhythms USING (machine_id)
WHERE epoch(ended_at - started_at) > gap_seconds;
