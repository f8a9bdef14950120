-- What one sensor read in the anomalies of an event, at most $most of them.
SELECT ts, observed
FROM mart.sensor_contributions
WHERE machine_id = $machine AND sensor = $sensor AND ts BETWEEN $start AND $end
QUALIFY (row_number() OVER (ORDER BY ts) - 1) % greatest(1, count(*) OVER () // $most) = 0
ORDER BY ts;
