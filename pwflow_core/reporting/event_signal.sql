-- One value over a stretch of time, thinned to the smallest and the largest of each bin, with their times.
-- Expects the quoted /*value*/ and the /*table*/ that has it.
SELECT
    min(value) AS low,
    arg_min(ts, value) AS low_at,
    max(value) AS high,
    arg_max(ts, value) AS high_at
FROM (
    SELECT
        floor((epoch(ts) - epoch($start::TIMESTAMP)) / $bin_seconds) AS bin,
        ts,
        /*value*/ AS value
    FROM /*table*/
    WHERE machine_id = $machine AND ts BETWEEN $start AND $end
)
WHERE value IS NOT NULL
GROUP BY bin
ORDER BY bin;
