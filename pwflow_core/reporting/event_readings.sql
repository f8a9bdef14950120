-- What the models saw over a stretch of time: one reading per bin. Expects the quoted /*columns*/.
SELECT ts, segment, /*columns*/
FROM core.model_readings
WHERE machine_id = $machine AND ts BETWEEN $start AND $end
  AND reading_id IN (
    SELECT arg_min(reading_id, ts)
    FROM core.readings
    WHERE machine_id = $machine AND ts BETWEEN $start AND $end AND quality = 'ok'
    GROUP BY floor((epoch(ts) - epoch($start::TIMESTAMP)) / $bin_seconds)
)
  AND is_complete
ORDER BY ts;
