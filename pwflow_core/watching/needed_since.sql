-- From when on the cases depend on scores: since before those began that go on or may come back, and never in the midst of
-- an event. Binds $at_least, $quiet, $comeback, $gap and $patience.
WITH horizon AS (
    SELECT coalesce(max(ts), TIMESTAMP '1970-01-01') AS ts FROM mart.anomaly_scores
), begun AS (
    SELECT min(least(
        horizon.ts - $at_least,
        (
            SELECT min(since) - $quiet
            FROM mart.cases
            LEFT JOIN core.case_profiles USING (case_id)
            WHERE state IN ('open', 'acknowledged', 'shelved')
               OR (
                   state = 'closed' AND last_seen + 15 * greatest(
                       $comeback, to_microseconds((1e6 * $patience * coalesce(pause_seconds, 0))::BIGINT)
                   ) >= horizon.ts
               )
        )
    )) AS ts
    FROM horizon
)
SELECT least(begun.ts, (
    SELECT min(started_at) FROM mart.anomaly_events WHERE ended_at >= begun.ts - $gap
))
FROM begun
