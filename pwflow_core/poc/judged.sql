-- Readings after (or before) the time that was learned from, of the machines and days in the table `chosen_days`, with
-- their machines and times. Expects a query of the training rows and quoted columns.
SELECT reading.machine_id, epoch(reading.ts) AS seconds, /*columns*/
FROM core.model_readings AS reading
SEMI JOIN chosen_days AS day ON reading.machine_id = day.machine_id AND reading.ts::DATE = day.day
ANTI JOIN (
    SELECT machine_id, segment, min(ts) AS trained_from, max(ts) AS trained_until
    FROM (/*training_rows*/)
    GROUP BY machine_id, segment
) AS training
  ON training.machine_id = reading.machine_id AND training.segment = reading.segment
 AND reading.ts BETWEEN training.trained_from AND training.trained_until
WHERE reading.is_complete AND reading.quality = 'ok'
ORDER BY reading.machine_id, reading.ts
