-- What became of the rows of every file that the readings step has seen: one row per file.
-- Expects $seen, the last arrival that the readings step has seen, and $derived, the last batch that has scores; `judged`
-- is one of the two files beside it.
WITH files AS (
    SELECT file_id, path, n_rows, superseded_in IS NOT NULL AS is_replaced
    FROM ingest.files
    WHERE status = 'ingested' AND arrived_in <= $seen AND (superseded_in IS NULL OR superseded_in > $seen)
), raw AS (
    SELECT file_id, count(*) AS n_raw FROM ingest.raw_readings GROUP BY file_id
), removed AS (
    SELECT file_id, sum(n_rows)::BIGINT AS n_removed FROM core.removed_rows GROUP BY file_id
), lines AS (
    SELECT file_id, count(*) AS n_malformed FROM ingest.malformed_lines GROUP BY file_id
), refused AS (
    SELECT
        file_id,
        count(*) FILTER (reason <> 'malformed_line') AS n_refused,
        count(*) FILTER (reason = 'malformed_line') AS n_refused_lines
    FROM mart.rejected_readings
    WHERE sensor IS NULL
    GROUP BY file_id
), accepted AS (
    SELECT file_id, count(*) AS n_readings FROM core.readings GROUP BY file_id
), merged AS (
    SELECT merged.file_id, count(*) AS n_merged
    FROM core.merged_rows AS merged
    ANTI JOIN core.readings AS reading
        ON reading.file_id = merged.file_id AND reading.row_number = merged.row_number
    GROUP BY merged.file_id
), judged AS (
    /*judged*/
), counted AS (
    SELECT
        coalesce(path, 'no file') AS path,
        -- the rows of a file that has been replaced since are gone, their number is not
        CASE WHEN is_replaced THEN n_rows ELSE coalesce(n_raw, 0) + coalesce(n_removed, 0) END AS n_raw,
        coalesce(n_rows, 0) AS n_rows,
        coalesce(n_scored, 0) AS n_scored,
        coalesce(n_unjudged, 0) AS n_unjudged,
        coalesce(n_waiting, 0) AS n_waiting,
        coalesce(n_merged, 0) AS n_merged,
        coalesce(n_refused, 0) AS n_refused,
        coalesce(n_removed, 0) AS n_removed,
        coalesce(n_lost, 0) AS n_lost,
        coalesce(n_joined - n_readings, 0) AS n_twice,
        coalesce(n_malformed, 0) AS n_malformed,
        CASE WHEN is_replaced THEN coalesce(n_malformed, 0) ELSE coalesce(n_refused_lines, 0) END AS n_refused_lines
    FROM files
    FULL JOIN accepted USING (file_id)
    LEFT JOIN merged USING (file_id)
    LEFT JOIN raw USING (file_id)
    LEFT JOIN removed USING (file_id)
    LEFT JOIN lines USING (file_id)
    LEFT JOIN refused USING (file_id)
    LEFT JOIN judged USING (file_id)
)
SELECT
    path, n_rows, n_scored, n_unjudged, n_waiting, n_merged, n_refused, n_removed, n_lost, n_twice,
    n_raw = n_rows AND n_lost = 0 AND n_twice = 0 AND n_malformed = n_refused_lines
        AND n_rows = n_scored + n_unjudged + n_waiting + n_merged + n_refused + n_removed AS is_balanced
FROM counted
ORDER BY path;
