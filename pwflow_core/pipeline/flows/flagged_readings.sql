-- Anomalies that belong to an alarm event, except those that a person has confirmed as normal, or whose case is marked so.
SELECT score.reading_id
FROM mart.anomaly_scores AS score
SEMI JOIN mart.anomaly_events AS event
  ON event.machine_id = score.machine_id AND score.ts BETWEEN event.started_at AND event.ended_at
ANTI JOIN core.confirmations AS confirmed
  ON confirmed.machine_id = score.machine_id AND score.ts BETWEEN confirmed.started_at AND confirmed.ended_at
ANTI JOIN (
    SELECT told.machine_id, told.started_at, told.ended_at
    FROM mart.case_events AS told
    JOIN mart.cases USING (case_id)
    WHERE cases.label = 'normal'
) AS normal ON normal.machine_id = score.machine_id AND score.ts BETWEEN normal.started_at AND normal.ended_at
WHERE score.is_anomaly
