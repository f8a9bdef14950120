-- Anomalies of what a new flow of a regime has to see, by event: of the cases all of whose events have readings of that regime,
-- and of such events without a case. Left out are those that a person called normal, and those of a move of the regime that
-- waits for an answer, unless a person called them a fault or known. Expects $cluster_key, $start and $until.
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
    WHERE verdict.answer = 'retrain' AND verdict.status IN ('open', 'requested')
      AND list_contains(verdict.cluster_keys, $cluster_key)
), asked AS (
    SELECT
        event.*,
        coalesce(
            'case ' || told.case_id,
            'what happened on ' || event.machine_id || strftime(event.started_at, ' at %Y-%m-%d %H:%M UTC')
        ) AS name,
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
, anomalies AS (
    SELECT
        asked.number,
        asked.name,
        asked.is_marked,
        score.reading_id,
        score.ts,
        score.p_value,
        score.cluster_key = $cluster_key AS is_own,
        bool_or(is_own) OVER (PARTITION BY asked.number) AS has_own
    FROM asked
    JOIN mart.anomaly_scores AS score
      ON score.machine_id = asked.machine_id AND score.ts BETWEEN asked.started_at AND asked.ended_at
    WHERE score.is_anomaly
)
SELECT
    anomalies.number,
    anomalies.name,
    anomalies.is_marked,
    reading.machine_id,
    anomalies.p_value,
    anomalies.is_own,
    /*columns*/
FROM anomalies
JOIN core.model_readings AS reading USING (reading_id)
QUALIFY bool_and(anomalies.has_own) OVER (PARTITION BY anomalies.name)
ORDER BY anomalies.number, anomalies.ts;
