-- The rows of the fresh files with their time in UTC, as the table `parsed`. Expects the temporary tables `gone_files`
-- and `fresh_files` (file_id). Everything that was made from a gone file is taken back, everything in a fresh one read.

-- Of a file that is gone. One that is read again still lacks the rows that were removed of it.
DELETE FROM core.removed_rows WHERE file_id IN (SELECT file_id FROM gone_files);

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
