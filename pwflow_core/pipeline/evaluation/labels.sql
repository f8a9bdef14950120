-- Readings that are labelled 1 in a row, of one machine and kind, are one fault.
SELECT machine_id, min(ts) AS started_at, max(ts) AS ended_at, coalesce(kind, $no_kind) AS kind
FROM (
    SELECT *, sum(starts::INT) OVER (PARTITION BY machine_id ORDER BY ts) AS run
    FROM (
        SELECT
            *,
            (label, coalesce(kind, '')) IS DISTINCT FROM
                lag((label, coalesce(kind, ''))) OVER (PARTITION BY machine_id ORDER BY ts) AS starts
        FROM labels
    )
)
WHERE label = 1
GROUP BY machine_id, run, kind
ORDER BY ALL;
