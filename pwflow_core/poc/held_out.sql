-- Readings that are never learned from, of a sample of whole time blocks, by machine and time.
-- Expects a query of the training rows and quoted columns.
SELECT machine_id, epoch(ts) AS seconds, fold, /*columns*/
FROM (/*training_rows*/)
WHERE list_contains($folds::INTEGER[], fold)
  AND md5_number_lower(machine_id || ' ' || floor(epoch(ts) / $block_seconds)::BIGINT::VARCHAR) % 1000000
      < $share * 1000000
ORDER BY machine_id, ts
