-- Whether there is anything to sweep; without a lock. Indexes: lease_until, entry_late; of entry_finished the oldest of each queue and
-- state, leaping from queue to queue.
WITH RECURSIVE queues (queue) AS (
    SELECT min(queue) FROM entry INDEXED BY entry_finished WHERE finished IS NOT NULL
    UNION ALL
    SELECT (SELECT min(e.queue) FROM entry AS e INDEXED BY entry_finished WHERE e.finished IS NOT NULL AND e.queue > q.queue)
    FROM queues AS q WHERE q.queue IS NOT NULL
)
SELECT
    EXISTS (SELECT 1 FROM lease WHERE until <= :now)
    OR EXISTS (
        SELECT 1 FROM entry INDEXED BY entry_late
        WHERE expires <= :now AND state IN ('scheduled', 'blocked', 'ready', 'retrying')
    )
    OR EXISTS (
        SELECT 1 FROM queues AS q
        WHERE EXISTS (
            SELECT 1 FROM entry AS e INDEXED BY entry_finished
            WHERE e.queue = q.queue AND e.state = 'succeeded' AND e.finished <= :succeeded
        )
        OR EXISTS (
            SELECT 1 FROM entry AS e INDEXED BY entry_finished WHERE e.queue = q.queue AND e.state = 'dead' AND e.finished <= :dead
        )
        OR EXISTS (
            SELECT 1 FROM entry AS e INDEXED BY entry_finished
            WHERE e.queue = q.queue AND e.state = 'cancelled' AND e.finished <= :cancelled
        )
        OR EXISTS (
            SELECT 1 FROM entry AS e INDEXED BY entry_finished
            WHERE e.queue = q.queue AND e.state = 'expired' AND e.finished <= :cancelled
        )
    )
