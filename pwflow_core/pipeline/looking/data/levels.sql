-- Where the values of a sensor lie, by machine and period of time. Days are put together to at most `most` periods.
WITH span AS (
    SELECT min(ts)::DATE AS day, greatest(1, ceil((max(ts)::DATE - min(ts)::DATE + 1) / $most))::BIGINT AS n_days
    FROM /*readings*/
)
SELECT
    machine_id,
    ((ts::DATE - span.day) // span.n_days)::BIGINT AS period,
    count(*) AS n,
    min(ts) AS first,
    quantile_cont(/*sensor*/, [0.01, 0.25, 0.5, 0.75, 0.99]) AS levels
FROM /*readings*/
CROSS JOIN span
WHERE /*sensor*/ IS NOT NULL
GROUP BY ALL
ORDER BY machine_id, period;
