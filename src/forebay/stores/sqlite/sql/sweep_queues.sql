-- The queues that have anything finished. Index: entry_finished, leaping from queue to queue.
WITH RECURSIVE queues (queue) AS (
    SELECT min(queue) FROM entry INDEXED BY entry_finished WHERE finished IS NOT NULL
    UNION ALL
    SELECT (SELECT min(e.queue) FROM entry AS e INDEXED BY entry_finished WHERE e.finished IS NOT NULL AND e.queue > q.queue)
    FROM queues AS q WHERE q.queue IS NOT NULL
)
SELECT queue FROM queues WHERE queue IS NOT NULL
