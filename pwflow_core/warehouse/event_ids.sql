-- Ids for the first anomalies of events, in the temporary table `first_anomalies` (reading_id, ts), that have none yet: the
-- last six digits of the reading, all sixteen where another event has those six already.
INSERT INTO core.event_ids BY NAME
WITH fresh AS (
    SELECT reading_id, min(ts) AS ts, lower(to_base(reading_id, 16, 16)) AS digits
    FROM first_anomalies
    ANTI JOIN core.event_ids USING (reading_id)
    GROUP BY reading_id
), ranked AS (
    SELECT
        reading_id,
        digits,
        'E-' || right(digits, 6) AS short_id,
        row_number() OVER (PARTITION BY short_id ORDER BY ts, reading_id) AS place
    FROM fresh
)
SELECT
    ranked.reading_id,
    CASE WHEN place = 1 AND known.event_id IS NULL THEN short_id ELSE 'E-' || digits END AS event_id
FROM ranked
LEFT JOIN core.event_ids AS known ON known.event_id = ranked.short_id;
