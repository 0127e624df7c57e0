-- Upkeep by any worker: leases that are over, expiry, retention.
-- Locks: `sweep_look` runs without one; all else in a write transaction, each statement bounded. Indexes: lease_until, entry_late,
-- entry_finished in their own orders, then primary keys.

-- name: sweep_look
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

-- name: sweep_overdue
-- Entries whose lease is over, a bounded number. In a write transaction. Index: lease_until, then primary keys.
SELECT e.seq, e.queue, e.token, e.crashes, (SELECT m.name FROM message AS m WHERE m.seq = e.message)
FROM lease AS l INDEXED BY lease_until
CROSS JOIN json_each(l.entries) AS j
CROSS JOIN entry AS e ON e.seq = j.value
WHERE l.until <= :now AND e.token = l.token
ORDER BY l.until LIMIT :limit

-- name: sweep_worker
-- Entries under the leases of one worker. In a write transaction. Reads all leases, of which there are few.
SELECT e.seq, e.queue, e.token, e.crashes, (SELECT m.name FROM message AS m WHERE m.seq = e.message)
FROM lease AS l
CROSS JOIN json_each(l.entries) AS j
CROSS JOIN entry AS e ON e.seq = j.value
WHERE l.worker = :worker AND e.token = l.token

-- name: sweep_expire
-- End what waits and was not started in time, a bounded number. In a write transaction. Index: entry_late.
UPDATE entry SET state = 'expired', finished = :now, unique_key = NULL
WHERE seq IN (
    SELECT seq FROM entry INDEXED BY entry_late
    WHERE expires <= :now AND state IN ('scheduled', 'blocked', 'ready', 'retrying')
    ORDER BY expires LIMIT :limit
)

-- name: sweep_range
-- An upper bound of the number of entries, without counting. Index: the two ends of the primary key.
SELECT coalesce((SELECT max(seq) FROM entry) - (SELECT min(seq) FROM entry) + 1, 0)

-- name: sweep_queues
-- The queues that have anything finished. Index: entry_finished, leaping from queue to queue.
WITH RECURSIVE queues (queue) AS (
    SELECT min(queue) FROM entry INDEXED BY entry_finished WHERE finished IS NOT NULL
    UNION ALL
    SELECT (SELECT min(e.queue) FROM entry AS e INDEXED BY entry_finished WHERE e.finished IS NOT NULL AND e.queue > q.queue)
    FROM queues AS q WHERE q.queue IS NOT NULL
)
SELECT queue FROM queues WHERE queue IS NOT NULL

-- name: sweep_surplus
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

-- name: sweep_old
-- The finished of one queue and state until :before, oldest first. In a write transaction. Index: entry_finished in its own order.
SELECT finished, seq FROM entry INDEXED BY entry_finished
WHERE queue = :queue AND state = :state AND finished <= :before
ORDER BY finished, seq LIMIT :limit

-- name: forget_highest
-- Remember the highest sequence number, in case its entry is among those that go. In a write transaction, before forget_entries.
-- Index: the primary key's last row.
UPDATE forgotten SET seq = max(seq, coalesce((SELECT max(e.seq) FROM entry AS e), 0))

-- name: forget_copies
-- Fewer copies of the messages of some entries. In a write transaction, before forget_entries.
-- :entries is a JSON array of sequence numbers. Index: primary keys.
UPDATE message SET copies = copies - v.n
FROM (
    SELECT e.message AS seq, count(*) AS n
    FROM json_each(:entries) AS j CROSS JOIN entry AS e ON e.seq = j.value
    GROUP BY e.message
) AS v
WHERE message.seq = v.seq

-- name: forget_messages
-- Forget the messages of some entries where these were the last copies. After forget_copies. Index: primary keys.
DELETE FROM message WHERE copies <= 0 AND seq IN (
    SELECT e.message FROM json_each(:entries) AS j CROSS JOIN entry AS e ON e.seq = j.value
)

-- name: forget_tries
-- Forget the history of some entries. In a write transaction. :entries is a JSON array of sequence numbers. Index: primary key.
DELETE FROM try WHERE entry IN (SELECT value FROM json_each(:entries))

-- name: forget_results
-- Forget the results of some entries. In a write transaction. :entries is a JSON array of sequence numbers. Index: primary key.
DELETE FROM result WHERE entry IN (SELECT value FROM json_each(:entries))

-- name: forget_progress
-- Forget the progress of some entries. In a write transaction. :entries is a JSON array of sequence numbers. Index: primary key.
DELETE FROM progress WHERE entry IN (SELECT value FROM json_each(:entries))

-- name: forget_entries
-- Forget entries. The last statement of forgetting. :entries is a JSON array of sequence numbers. Index: primary key.
DELETE FROM entry WHERE seq IN (SELECT value FROM json_each(:entries))
