-- One row per machine: its readings, its rhythm, its gaps, and its days in the time zone of the plant.
WITH quarters AS (
    SELECT machine_id, time_bucket(INTERVAL 15 MINUTE, ts) AS quarter, count(*) AS n, min(ts) AS first, max(ts) AS last
    FROM /*readings*/
    GROUP BY ALL
), spans AS (
    SELECT
        machine_id,
        sum(n)::BIGINT AS n_readings,
        min(first) AS first,
        max(last) AS last,
        count(DISTINCT night_of(quarter, $timezone)) AS n_days,
        night_of(max(last), $timezone) - night_of(min(first), $timezone) + 1 AS n_calendar_days
    FROM quarters
    GROUP BY machine_id
), touched AS (
    SELECT DISTINCT
        machine_id,
        unnest(
            generate_series(
                night_of(started_at, $timezone)::TIMESTAMP, night_of(ended_at, $timezone)::TIMESTAMP, INTERVAL 1 DAY
            )
        )::DATE AS day
    FROM gaps
), found AS (
    SELECT
        machine_id,
        count(*) AS n_gaps,
        max(seconds) AS longest_gap_seconds,
        arg_max(started_at, seconds) AS longest_gap_at
    FROM gaps
    GROUP BY machine_id
), gap_days AS (
    SELECT machine_id, list(day ORDER BY day) AS days FROM touched GROUP BY machine_id
)
SELECT
    spans.machine_id,
    spans.n_readings,
    spans.first,
    spans.last,
    rhythms.interval_seconds,
    rhythms.gap_seconds,
    coalesce(found.n_gaps, 0) AS n_gaps,
    found.longest_gap_seconds,
    found.longest_gap_at,
    spans.n_calendar_days AS n_days,
    greatest(0, spans.n_calendar_days - spans.n_days) AS n_silent_days,
    coalesce(gap_days.days, []) AS gap_days
FROM spans
LEFT JOIN rhythms USING (machine_id)
LEFT JOIN found USING (machine_id)
LEFT JOIN gap_days USING (machine_id)
ORDER BY machine_id;
