-- What the events with new readings say against "the plant was normal", by day: the table `fresh_evidence`. Each anomaly
-- counts once: those that are inside of an event that was told count already. Binds $timezone. Expects sightings.sql,
-- e_value.sql, and the days of the new readings in mart.promise_days.

CREATE TEMP TABLE fresh_evidence AS
SELECT
    parts.event_id,
    days.day,
    sum(e_value(parts.p_value, parts.alpha) ORDER BY parts.ts) / any_value(days.n_expected) AS e_value
FROM parts
JOIN heads USING (event_id)
JOIN mart.anomaly_events AS event USING (event_id)
JOIN mart.promise_days AS days ON days.day = night_of(parts.ts, $timezone)
ANTI JOIN mart.case_events AS told
  ON told.machine_id = event.machine_id AND parts.ts BETWEEN told.started_at AND told.ended_at
GROUP BY parts.event_id, days.day
ORDER BY parts.event_id, days.day;
