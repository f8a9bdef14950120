-- Where the values of each sensor lie, per machine and night; values that were refused for their size count too, because
-- a sensor in another unit is refused first of all.

SELECT machine_id, night, [/*quantiles*/] AS levels
FROM (
    SELECT
        reading.machine_id,
        CASE WHEN $by_night THEN night_of(reading.ts, $timezone) END AS night,
        /*values*/
    FROM core.readings AS reading
    LEFT JOIN (
        SELECT file_id, row_number, map_from_entries(list((sensor, try_cast(value AS DOUBLE)))) AS refused
        FROM mart.rejected_readings
        WHERE reason IN ('below_limit', 'above_limit')
        GROUP BY file_id, row_number
    ) AS rejected USING (file_id, row_number)
    WHERE night_of(reading.ts, $timezone) BETWEEN $first AND $last
      AND reading.ts BETWEEN $first::DATE - 1 AND $last::DATE + 2
) AS valued
GROUP BY machine_id, night
ORDER BY machine_id, night
