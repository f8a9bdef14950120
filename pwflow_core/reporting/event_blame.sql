-- Which sensors caused some events, and what each sensor read when it was furthest from what was expected.
SELECT
    event.event_id,
    part.sensor,
    any_value(part.unit) AS unit,
    sum(part.contribution) AS contribution,
    arg_max(
        {'observed': part.observed, 'low': part.expected_low, 'high': part.expected_high},
        row(
            part.contribution * abs(part.observed - part.expected)
                / greatest(part.expected_high - part.expected_low, 1e-300),
            -epoch_us(part.ts)
        )
    ) AS worst
FROM mart.anomaly_events AS event
JOIN mart.sensor_contributions AS part
  ON part.machine_id = event.machine_id AND part.ts BETWEEN event.started_at AND event.ended_at
WHERE event.event_id IN (SELECT unnest($event_ids::VARCHAR[]))
GROUP BY event.event_id, part.sensor
ORDER BY event.event_id, contribution DESC, part.sensor;
