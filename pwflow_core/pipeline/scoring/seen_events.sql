-- Anomalies of the events with readings of a regime that a new flow of it has to see, by event. Left out are those that a
-- person called normal, and those of a move of the regime that waits for an answer, unless a person called them a fault or
-- known. Expects $cluster_key, $start and $until.
WITH event AS (
    SELECT *, row_number() OVER (ORDER BY machine_id, started_at) AS number
    FROM mart.anomaly_events
    WHERE ended_at >= coalesce($start::TIMESTAMP, '-infinity'::TIMESTAMP)
      AND started_at < coalesce($until::TIMESTAMP, 'infinity'::TIMESTAMP)
), told AS (
    SELECT event.number, min(cases.case_id) AS case_id, list(cases.label) AS labels
    FROM event
    JOIN mart.case_events AS part
      ON part.machine_id = event.machine_id
     AND part.started_at <= event.ended_at AND part.ended_at >= event.started_at
    JOIN mart.cases USING (case_id)
    GROUP BY event.number
), confirmed AS (
    SELECT event.number
    FROM event
    SEMI JOIN core.confirmations AS confirmed
      ON confirmed.machine_id = event.machine_id
     AND confirmed.started_at <= event.ended_at AND confirmed.ended_at >= event.started_at
), moved AS (
    SELECT DISTINCT event.number
    FROM event
    JOIN mart.drift_verdicts AS verdict
      ON event.ended_at >= verdict.since
     AND (len(verdict.sensors) = 0 OR list_has_any(event.top_sensors, verdict.sensors))
    WHERE verdict.verdict = 'regime_moved' AND verdict.status IN ('open', 'requested')
      AND list_contains(verdict.cluster_keys, $cluster_key)
), asked AS (
    SELECT
        event.*,
        event.machine_id || strftime(event.started_at, ' at %Y-%m-%d %H:%M UTC') || coalesce(' (' || told.case_id || ')', '')
            AS name,
        coalesce(list_has_any(told.labels, ['fault', 'known']), false) AS is_marked
    FROM event
    LEFT JOIN told USING (number)
    LEFT JOIN confirmed USING (number)
    LEFT JOIN moved USING (number)
    WHERE is_marked
       OR (
           confirmed.number IS NULL AND moved.number IS NULL
           AND NOT coalesce(list_contains(told.labels, 'normal'), false)
       )
)
SELECT
    asked.number,
    asked.name,
    asked.is_marked,
    score.p_value,
    score.cluster_key = $cluster_key AS is_own,
    /*columns*/
FROM asked
JOIN mart.anomaly_scores AS score
  ON score.machine_id = asked.machine_id AND score.ts BETWEEN asked.started_at AND asked.ended_at
JOIN core.model_readings AS reading USING (reading_id)
WHERE score.is_anomaly
QUALIFY bool_or(score.cluster_key = $cluster_key) OVER (PARTITION BY asked.number)
ORDER BY asked.number, score.ts;
