-- Readings that the last run scored and that came after all that was learned from ($is_new), or those that were learned from,
-- by machine and time. Expects $most and $largest, the bound of reading ids, which are spread evenly below it.
WITH learned AS (
    SELECT max(trained_until) AS until FROM mart.flow_versions WHERE in_force
), eligible AS (
    SELECT
        score.reading_id,
        score.ts > learned.until AND score.scored_at = (SELECT max(scored_at) FROM mart.anomaly_scores) AS is_new
    FROM mart.anomaly_scores AS score, learned
    WHERE score.status = 'scored' AND (is_new OR score.ts <= learned.until)
)
SELECT reading.machine_id, /*columns*/
FROM eligible
JOIN core.readings AS reading USING (reading_id)
WHERE /*condition*/
  AND eligible.reading_id <= $largest::DOUBLE * least(1, $most / (SELECT count(*) FROM eligible WHERE /*condition*/))
ORDER BY reading.machine_id, reading.ts;
