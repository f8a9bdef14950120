-- What was refused, and why, with an example of each.
SELECT
    reason,
    sensor,
    count(*) AS n_values,
    arg_max(coalesce(value, ts), rejected_at) AS example,
    arg_max(detail, rejected_at) AS detail
FROM mart.rejected_readings
GROUP BY reason, sensor
ORDER BY n_values DESC, reason, sensor
LIMIT 60;
