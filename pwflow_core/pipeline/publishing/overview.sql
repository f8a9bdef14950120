-- What each sensor reads, on the whole and in each regime. Expects mart.sensors with the names, units and limits, and
-- $most, the readings of a regime to look at: identifiers of readings are as good as random, so every n-th is a sample.

CREATE TEMP TABLE sensor_values AS
SELECT
    sensor,
    count(*) AS n_values,
    min(reading) AS lowest,
    max(reading) AS highest,
    quantile_cont(reading, [0.16, 0.5, 0.84]) FILTER (
        reading_id % (SELECT greatest(count(*) // (10 * $most), 1) FROM core.readings) = 0
    ) AS quantiles
FROM (
    UNPIVOT (SELECT reading_id, /*sensors*/ FROM core.readings)
    ON COLUMNS(* EXCLUDE (reading_id)) INTO NAME sensor VALUE reading
)
GROUP BY sensor;

CREATE TEMP TABLE sampled AS
WITH usual AS (
    SELECT cluster_key, reading_id FROM mart.anomaly_scores WHERE status = 'scored' AND NOT is_anomaly
), sizes AS (
    SELECT cluster_key, greatest(count(*) // $most, 1) AS stride FROM usual GROUP BY cluster_key
)
SELECT cluster_key, reading_id FROM usual JOIN sizes USING (cluster_key) WHERE reading_id % stride = 0;

DELETE FROM mart.regime_profiles;

INSERT INTO mart.regime_profiles BY NAME
WITH found AS (
    SELECT
        cluster_key,
        sensor,
        quantile_cont(reading, [0.05, 0.16, 0.5, 0.84, 0.95]) AS quantiles,
        count(*) AS n_readings
    FROM (
        UNPIVOT (SELECT reading_id, /*sensors*/ FROM core.readings SEMI JOIN sampled USING (reading_id))
        ON COLUMNS(* EXCLUDE (reading_id)) INTO NAME sensor VALUE reading
    )
    JOIN sampled USING (reading_id)
    GROUP BY cluster_key, sensor
)
SELECT
    found.cluster_key,
    found.sensor,
    sensors.unit,
    if(quantiles[3] = 0, 0, quantiles[3]) AS typical,  -- zero has two signs, and which one comes is chance
    (quantiles[4] - quantiles[2]) / 2 AS spread,
    quantiles[1] AS usual_low,
    quantiles[5] AS usual_high,
    found.n_readings
FROM found
JOIN mart.sensors AS sensors USING (sensor)
ORDER BY found.cluster_key, sensors.position;

UPDATE mart.sensors SET n_values = 0;

UPDATE mart.sensors
SET
    n_values = found.n_values,
    lowest = found.lowest,
    highest = found.highest,
    typical = found.quantiles[2],
    spread = (found.quantiles[3] - found.quantiles[1]) / 2
FROM sensor_values AS found
WHERE found.sensor = sensors.sensor;

UPDATE mart.sensors SET n_missing = (SELECT count(*) FROM core.readings) - n_values;
