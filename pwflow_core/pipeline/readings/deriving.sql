-- From parsed rows to readings, in one transaction. Expects the temporary tables of parsing.py:
--   parsed: the rows of the fresh files, `instant` in UTC and NULL where there is none, `reading_id`,
--   row_reasons (file_id, row_number, reason): why a time that can be read is still none that can be used.

-- The reason why a row is not a reading, if there is one.
CREATE TEMP TABLE refused_rows AS
SELECT
    file_id,
    row_number,
    machine_id,
    ts_text,
    CASE
        WHEN machine_id IS NULL THEN 'missing_machine'
        WHEN ts_text IS NULL OR trim(ts_text) = '' THEN 'missing_timestamp'
        WHEN row_reasons.reason IS NOT NULL THEN row_reasons.reason
        WHEN /*is_naive*/ THEN 'naive_timestamp'
        WHEN /*is_in_unknown_zone*/ THEN 'unknown_time_zone'
        ELSE 'unreadable_timestamp'
    END AS reason,
    NULL::BIGINT AS kept_file_id
FROM parsed
LEFT JOIN row_reasons USING (file_id, row_number)
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
        WHEN 'future_timestamp' THEN /*future_detail*/
        WHEN 'beyond_retention' THEN 'The readings of this machine and night were removed (retention.readings_days)'
        WHEN 'ambiguous_timestamp' THEN 'The clocks were put back and showed this time twice; the rows do not tell which'
        WHEN 'nonexistent_timestamp' THEN 'The clocks were put forward and never showed this time'
        WHEN 'unknown_time_zone' THEN /*zone_detail*/
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
