-- What became of the readings of every file where each of those up to batch $derived has one score, and no other has: the
-- scores need not be looked up. How many of them are unjudged is counted elsewhere.
SELECT
    file_id,
    count(*) AS n_joined,
    count(*) FILTER (batch_id <= $derived) AS n_scored,
    0 AS n_unjudged,
    count(*) FILTER (batch_id > $derived) AS n_waiting,
    0 AS n_lost
FROM core.readings
GROUP BY file_id
