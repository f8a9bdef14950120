-- How often a channel changed its state, and when last. Windows go over one day at a time, see gaps.sql.
WITH known AS (
    SELECT machine_id, ts, /*sensor*/ AS value FROM /*readings*/ WHERE /*sensor*/ IS NOT NULL
), within AS (
    SELECT machine_id, ts, value, lag(value) OVER (PARTITION BY machine_id, ts::DATE ORDER BY ts) AS before FROM known
), days AS (
    SELECT machine_id, min(ts) AS ts, arg_min(value, ts) AS opening, arg_max(value, ts) AS closing
    FROM known
    GROUP BY machine_id, ts::DATE
), edges AS (
    SELECT machine_id, ts, opening AS value, lag(closing) OVER (PARTITION BY machine_id ORDER BY ts) AS before FROM days
)
SELECT count(*), max(ts) FROM (FROM within UNION ALL BY NAME FROM edges) WHERE value <> before;
