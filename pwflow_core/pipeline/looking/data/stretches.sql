-- Stretches of readings in a row, from all of the history: one in `every`, and the first of each machine.
CREATE OR REPLACE TEMP TABLE stretches AS
SELECT readings.machine_id, floor(epoch(ts) / $seconds)::BIGINT AS stretch, ts, /*sensors*/
FROM /*readings*/ AS readings
JOIN (SELECT machine_id, min(ts) AS first FROM /*readings*/ GROUP BY machine_id) AS machine USING (machine_id)
WHERE hash(floor(epoch(ts) / $seconds)::BIGINT) % $every = 0
   OR floor(epoch(ts) / $seconds) = floor(epoch(first) / $seconds);
