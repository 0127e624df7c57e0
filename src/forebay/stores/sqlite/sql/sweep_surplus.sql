-- How many entries of a state there are; only asked when there may be too many. Without a lock. Index: entry_finished, covering.
WITH RECURSIVE queues (queue) AS (
    SELECT min(queue) FROM entry INDEXED BY entry_finished WHERE finished IS NOT NULL
    UNION ALL
    SELECT (SELECT min(e.queue) FROM entry AS e INDEXED BY entry_finished WHERE e.finished IS NOT NULL AND e.queue > q.queue)
    FROM queues AS q WHERE q.queue IS NOT NULL
)
SELECT count(*)
FROM queues AS q
CROSS JOIN entry AS e INDEXED BY entry_finished ON e.queue = q.queue AND e.state = :state AND e.finished IS NOT NULL
