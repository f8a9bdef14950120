-- From raw rows to readings, in one transaction. Expects the temporary tables `gone_files` and `fresh_files`
-- (file_id). Everything that was made from a gone file is taken back, everything in a fresh one is read.

-- A row that was refused as the duplicate of a reading that goes away, in full or in part, gets its chance again.
INSERT INTO fresh_files
WITH touched AS (
    SELECT file_id FROM gone_files
    UNION
    SELECT together.file_id
    FROM core.merged_rows AS together
    SEMI JOIN (SELECT reading_id FROM core.merged_rows SEMI JOIN gone_files USING (file_id)) USING (reading_id)
)
SELECT DISTINCT rejected.file_id
FROM mart.rejected_readings AS rejected
WHERE rejected.reason = 'duplicate'
  AND rejected.kept_file_id IN (SELECT file_id FROM touched)
  AND rejected.file_id NOT IN (SELECT file_id FROM fresh_files)
  AND rejected.file_id NOT IN (SELECT file_id FROM gone_files);

INSERT INTO gone_files SELECT file_id FROM fresh_files;

CREATE TEMP TABLE taken_back AS
SELECT * FROM core.readings WHERE file_id IN (SELECT file_id FROM gone_files);

DELETE FROM core.readings WHERE file_id IN (SELECT file_id FROM gone_files);
DELETE FROM mart.rejected_readings WHERE file_id IN (SELECT file_id FROM gone_files);

CREATE TEMP TABLE parsed AS
SELECT
    *,
    (md5_number_lower(machine_id || chr(0) || epoch_us(instant)::VARCHAR) >> 1)::BIGINT AS reading_id
FROM (
    SELECT
        * EXCLUDE (ts, machine_id),
        ts AS ts_text,
        nullif(trim(machine_id), '') AS machine_id,
        CASE
            WHEN try(/*instant*/) BETWEEN TIMESTAMP '0001-01-01' AND TIMESTAMP '9999-12-31 23:59:59' THEN try(/*instant*/)
        END AS instant
    FROM ingest.raw_readings
    WHERE file_id IN (SELECT file_id FROM fresh_files)
);

-- The reason why a row is no reading, if there is one.
CREATE TEMP TABLE refused_rows AS
SELECT
    file_id,
    row_number,
    machine_id,
    ts_text,
    CASE
        WHEN machine_id IS NULL THEN 'missing_machine'
        WHEN ts_text IS NULL OR trim(ts_text) = '' THEN 'missing_timestamp'
        WHEN /*is_naive*/ THEN 'naive_timestamp'
        ELSE 'unreadable_timestamp'
    END AS reason,
    NULL::BIGINT AS kept_file_id
FROM parsed
WHERE instant IS NULL OR machine_id IS NULL;

/*merging*/

INSERT INTO mart.rejected_readings BY NAME
SELECT
    files.path AS file,
    refused.file_id,
    refused.row_number,
    refused.machine_id,
    refused.ts_text AS ts,
    refused.reason,
    CASE refused.reason
        WHEN 'missing_machine' THEN 'The machine column is empty'
        WHEN 'missing_timestamp' THEN 'The timestamp is empty'
        WHEN 'naive_timestamp' THEN 'The timestamp has no time zone and source.timezone names none'
        WHEN 'duplicate' THEN 'There is a reading of this machine at this time already'
        ELSE 'The timestamp cannot be read as a time'
    END AS detail,
    refused.kept_file_id,
    $now AS rejected_at
FROM refused_rows AS refused
JOIN ingest.files AS files USING (file_id);

INSERT INTO mart.rejected_readings BY NAME
SELECT
    files.path AS file,
    lines.file_id,
    lines.row_number,
    lines.line AS value,
    'malformed_line' AS reason,
    lines.detail,
    $now AS rejected_at
FROM ingest.malformed_lines AS lines
JOIN ingest.files AS files USING (file_id)
WHERE lines.file_id IN (SELECT file_id FROM fresh_files);

-- Values that are no numbers, infinite, or physically impossible are refused; the reading stays, as `invalid`.
-- What else is wrong with a reading shows beside the readings before it, see quality.sql.
CREATE TEMP TABLE accepted AS
SELECT
    reading_id,
    machine_id,
    instant AS ts,
    segment,
    CASE WHEN len(refusals) > 0 THEN 'invalid' ELSE 'ok' END AS quality,
    CASE
        WHEN len(refusals) > 0 THEN 'refused: ' || array_to_string(
            list_transform(refusals, lambda refusal: refusal.sensor || ' (' || refusal.reason || ')'), ', '
        )
    END AS reason,
    file_id,
    row_number,
    ts_text,
    refusals,
    /*valid_values*/
FROM (
    SELECT
        *,
        list_filter([/*refusals*/], lambda refusal: refusal.reason IS NOT NULL) AS refusals
    FROM parsed
    ANTI JOIN refused_rows USING (file_id, row_number)
);

INSERT INTO mart.rejected_readings BY NAME
SELECT
    files.path AS file,
    accepted.file_id,
    accepted.row_number,
    accepted.machine_id,
    accepted.ts_text AS ts,
    refusal.sensor AS sensor,
    refusal.value AS value,
    refusal.reason AS reason,
    refusal.detail AS detail,
    $now AS rejected_at
FROM (SELECT * EXCLUDE (refusals), unnest(refusals) AS refusal FROM accepted WHERE quality = 'invalid') AS accepted
JOIN ingest.files AS files USING (file_id);
