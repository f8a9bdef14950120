-- What decides whether averages over time help, from the first readings to learn from: the share of readings at the
-- usual interval, the share with a full window behind them, readings per segment, and the median sensor's share of
-- noise: half the mean squared step from one reading to the next, over the variance within blocks of one window.

WITH picked AS (
    SELECT machine_id, ts, segment, /*sensors*/
    FROM core.readings
    SEMI JOIN (
        SELECT reading_id
        FROM (
            SELECT reading_id, row_number() OVER (PARTITION BY machine_id, segment ORDER BY ts) AS nth_row
            FROM core.readings
            WHERE quality = 'ok'
              AND ts >= coalesce($training_start::TIMESTAMP, '-infinity'::TIMESTAMP)
              AND ts < coalesce($training_until::TIMESTAMP, 'infinity'::TIMESTAMP)
        )
        WHERE nth_row <= $most_rows /*first_rows*/
    ) USING (reading_id)
), started AS (
    SELECT
        *,
        /*new_run*/ AS is_new_run,
        epoch(ts) - epoch(lag(ts) OVER machine) AS since_last
    FROM picked
    WINDOW machine AS (PARTITION BY machine_id ORDER BY ts)
), runs AS (
    SELECT *, sum(is_new_run::INTEGER) OVER (PARTITION BY machine_id ORDER BY ts ROWS UNBOUNDED PRECEDING) AS run_number
    FROM started
), placed AS (
    SELECT *, row_number() OVER (PARTITION BY machine_id, run_number ORDER BY ts) AS place
    FROM runs
), cut AS (
    SELECT *, (place - 1) // $window AS block_number FROM placed
), steps AS (
    SELECT /*step_variances*/
    FROM (
        SELECT /*step_squares*/
        FROM cut
        WINDOW block AS (PARTITION BY machine_id, run_number, block_number ORDER BY ts)
    )
), blocks AS (
    SELECT /*variances*/
    FROM (SELECT /*block_variances*/ FROM cut GROUP BY machine_id, run_number, block_number HAVING count(*) = $window)
)
SELECT
    (SELECT avg((since_last BETWEEN 0.5 * $interval AND 1.5 * $interval)::INTEGER) FROM started),
    (SELECT avg((place >= $window)::INTEGER) FROM placed),
    (SELECT median(n_rows) FROM (SELECT count(*) AS n_rows FROM picked GROUP BY segment)),
    (SELECT list_median([/*shares*/]) FROM steps CROSS JOIN blocks);
