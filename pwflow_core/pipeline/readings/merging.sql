-- One reading per machine and time. Rows of one machine and time that hold different sensors are put together, whichever
-- files they are in: of each sensor, the first value that arrived is kept. A row that adds nothing is a duplicate. Expects
-- `parsed`, the rows of the fresh files, and `taken_back`, the readings that were taken out of `core.readings`.

-- Readings of which a gone file holds a part, and those to which a fresh row adds a sensor, are put together again.
CREATE TEMP TABLE reopened AS
SELECT DISTINCT reading_id FROM core.merged_rows SEMI JOIN gone_files USING (file_id)
UNION
SELECT kept.reading_id
FROM parsed
JOIN core.readings AS kept USING (reading_id)
WHERE parsed.instant IS NOT NULL AND parsed.machine_id IS NOT NULL AND (/*adds*/);

CREATE TEMP TABLE reopened_rows AS
SELECT reading_id, file_id, row_number FROM core.merged_rows SEMI JOIN reopened USING (reading_id)
UNION
SELECT reading_id, file_id, row_number FROM core.readings SEMI JOIN reopened USING (reading_id);

DELETE FROM reopened_rows WHERE file_id IN (SELECT file_id FROM gone_files);

INSERT INTO taken_back SELECT * FROM core.readings SEMI JOIN reopened USING (reading_id);

DELETE FROM core.readings WHERE reading_id IN (SELECT reading_id FROM reopened);
DELETE FROM core.merged_rows WHERE reading_id IN (SELECT reading_id FROM reopened);
DELETE FROM mart.rejected_readings AS rejected
USING reopened_rows
WHERE rejected.file_id = reopened_rows.file_id
  AND rejected.row_number = reopened_rows.row_number
  AND rejected.reason <> 'malformed_line';

INSERT INTO parsed BY NAME
SELECT raw.* EXCLUDE (ts, machine_id), raw.ts AS ts_text, kept.machine_id, kept.ts AS instant, kept.reading_id
FROM ingest.raw_readings AS raw
JOIN reopened_rows ON raw.file_id = reopened_rows.file_id AND raw.row_number = reopened_rows.row_number
JOIN taken_back AS kept ON kept.reading_id = reopened_rows.reading_id
WHERE raw.file_id NOT IN (SELECT file_id FROM gone_files);

-- The rows of one machine and time, in the order in which they arrived.
CREATE TEMP TABLE together AS
SELECT *, row_number() OVER (PARTITION BY reading_id ORDER BY file_id, row_number) AS place
FROM (
    SELECT *
    FROM parsed
    SEMI JOIN (
        SELECT reading_id
        FROM parsed
        WHERE instant IS NOT NULL AND machine_id IS NOT NULL
        GROUP BY reading_id
        HAVING count(*) > 1
    ) USING (reading_id)
)
ANTI JOIN core.readings USING (reading_id);

CREATE TEMP TABLE merged AS
SELECT
    reading_id,
    min(CASE WHEN place = 1 THEN file_id END) AS file_id,
    min(CASE WHEN place = 1 THEN row_number END) AS row_number,
    min(CASE WHEN place = 1 THEN ts_text END) AS ts_text,
    any_value(machine_id) AS machine_id,
    any_value(instant) AS instant,
    coalesce(arg_min(CASE WHEN segment <> /*unknown*/ THEN segment END, place), any_value(segment)) AS segment,
    /*refused_values*/ AS refused_values,
    /*bad_quality*/ AS bad_quality,
    list_distinct(list_transform([1, /*firsts*/]::BIGINT[], lambda first: first % 1000000000)) AS places,
    /*merged_values*/
FROM together
GROUP BY reading_id;

INSERT INTO refused_rows
SELECT together.file_id, together.row_number, together.machine_id, together.ts_text, 'duplicate', merged.file_id
FROM together
JOIN merged USING (reading_id)
WHERE NOT list_contains(merged.places, together.place)
UNION ALL
SELECT parsed.file_id, parsed.row_number, parsed.machine_id, parsed.ts_text, 'duplicate', kept.file_id
FROM parsed
JOIN core.readings AS kept USING (reading_id)
WHERE parsed.instant IS NOT NULL AND parsed.machine_id IS NOT NULL;

-- What a row that is a part of a reading says otherwise than the part before it.
INSERT INTO mart.rejected_readings BY NAME
SELECT
    files.path AS file,
    part.file_id,
    part.row_number,
    part.machine_id,
    part.ts_text AS ts,
    entry.sensor AS sensor,
    entry.value AS value,
    'duplicate' AS reason,
    'There is another value of this sensor and machine at this time already' AS detail,
    part.kept_file_id,
    $now AS rejected_at
FROM (
    SELECT
        together.*,
        merged.file_id AS kept_file_id,
        unnest(list_filter([/*differences*/], lambda entry: entry.value IS NOT NULL)) AS entry
    FROM together
    JOIN merged USING (reading_id)
    WHERE together.place > 1 AND list_contains(merged.places, together.place)
) AS part
JOIN ingest.files AS files USING (file_id);

INSERT INTO core.merged_rows BY NAME
SELECT together.reading_id, together.file_id, together.row_number
FROM together
JOIN merged USING (reading_id)
WHERE len(merged.places) > 1 AND list_contains(merged.places, together.place);

DELETE FROM merged WHERE len(places) = 1;
DELETE FROM parsed WHERE reading_id IN (SELECT reading_id FROM merged);
INSERT INTO parsed BY NAME SELECT * EXCLUDE (places) FROM merged;

DROP TABLE together;
DROP TABLE merged;

-- A value that the source itself calls bad is missing, for that reason.
INSERT INTO mart.rejected_readings BY NAME
SELECT
    files.path AS file,
    bad.file_id,
    bad.row_number,
    bad.machine_id,
    bad.ts_text AS ts,
    bad.entry.key AS sensor,
    bad.entry.value AS value,
    'bad_quality' AS reason,
    'The source itself says that the value is bad' AS detail,
    $now AS rejected_at
FROM (
    SELECT *, unnest(map_entries(bad_quality)) AS entry
    FROM parsed
    ANTI JOIN refused_rows USING (file_id, row_number)
    WHERE bad_quality IS NOT NULL
) AS bad
JOIN ingest.files AS files USING (file_id);
