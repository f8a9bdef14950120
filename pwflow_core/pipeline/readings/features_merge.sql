-- Computed features into the table, in one transaction. Expects the temporary tables
--   computed (reading_id, features, is_complete),
--   moved (reading_id): gets the readings whose features are now others than they were.

INSERT INTO moved
SELECT reading_id
FROM computed AS new
JOIN core.features AS old USING (reading_id)
WHERE /*differs*/;

-- A feature that stayed what it was keeps its value byte by byte.
DELETE FROM computed
WHERE reading_id IN (SELECT reading_id FROM core.features)
  AND reading_id NOT IN (SELECT reading_id FROM moved);

DELETE FROM core.features WHERE reading_id IN (SELECT reading_id FROM computed);

INSERT INTO core.features BY NAME FROM computed;

DROP TABLE computed;
