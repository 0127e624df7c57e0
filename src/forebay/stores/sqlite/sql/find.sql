-- Looking: which entries a selector means, their records and stories, and counts.
-- Locks: none. Indexes: primary keys in order, entry_id, entry_ended; counts read indexes from end to end and no row of a table.

-- name: pick_newest
-- Sequence numbers of the entries a selector means, newest first, from a cursor on. Without a lock.
-- A NULL parameter is no condition; :states is a JSON array. Index: the primary key, in order.
SELECT seq FROM entry
WHERE seq < :cursor
    AND (:queue IS NULL OR queue = :queue)
    AND (:states IS NULL OR state IN (SELECT value FROM json_each(:states)))
    AND (:before IS NULL OR finished < :before)
    AND (:name IS NULL OR (SELECT m.name FROM message AS m WHERE m.seq = entry.message) = :name)
ORDER BY seq DESC LIMIT :limit

-- name: pick
-- Sequence numbers of the entries a selector means, oldest first, from a cursor on. Without a lock.
-- A NULL parameter is no condition; :states is a JSON array. Index: the primary key, in order.
SELECT seq FROM entry
WHERE seq > :cursor
    AND (:queue IS NULL OR queue = :queue)
    AND (:states IS NULL OR state IN (SELECT value FROM json_each(:states)))
    AND (:before IS NULL OR finished < :before)
    AND (:name IS NULL OR (SELECT m.name FROM message AS m WHERE m.seq = entry.message) = :name)
ORDER BY seq ASC LIMIT :limit

-- name: pick_ended_newest
-- Sequence numbers of the entries a selector means, newest first, from a cursor on. Without a lock.
-- A NULL parameter is no condition; :states is a JSON array. Index: entry_ended, in order: no walk over what succeeded.
SELECT seq FROM entry INDEXED BY entry_ended
WHERE finished IS NOT NULL AND state <> 'succeeded'
    AND seq < :cursor
    AND (:queue IS NULL OR queue = :queue)
    AND (:states IS NULL OR state IN (SELECT value FROM json_each(:states)))
    AND (:before IS NULL OR finished < :before)
    AND (:name IS NULL OR (SELECT m.name FROM message AS m WHERE m.seq = entry.message) = :name)
ORDER BY seq DESC LIMIT :limit

-- name: pick_ended
-- Sequence numbers of the entries a selector means, oldest first, from a cursor on. Without a lock.
-- A NULL parameter is no condition; :states is a JSON array. Index: entry_ended, in order: no walk over what succeeded.
SELECT seq FROM entry INDEXED BY entry_ended
WHERE finished IS NOT NULL AND state <> 'succeeded'
    AND seq > :cursor
    AND (:queue IS NULL OR queue = :queue)
    AND (:states IS NULL OR state IN (SELECT value FROM json_each(:states)))
    AND (:before IS NULL OR finished < :before)
    AND (:name IS NULL OR (SELECT m.name FROM message AS m WHERE m.seq = entry.message) = :name)
ORDER BY seq ASC LIMIT :limit

-- name: pick_ids
-- Sequence numbers of the entries a selector names by id, as far as its other conditions hold. Without a lock.
-- :ids and :states are JSON arrays. Index: entry_id.
SELECT seq, state FROM entry INDEXED BY entry_id
WHERE id IN (SELECT value FROM json_each(:ids))
    AND (:queue IS NULL OR queue = :queue)
    AND (:states IS NULL OR state IN (SELECT value FROM json_each(:states)))
    AND (:before IS NULL OR finished < :before)
    AND (:name IS NULL OR (SELECT m.name FROM message AS m WHERE m.seq = entry.message) = :name)

-- name: records
-- All that is known of some entries but their tries. Without a lock. :entries is a JSON array of sequence numbers. Index: primary keys.
SELECT r.* FROM json_each(:entries) AS j CROSS JOIN record AS r ON r.seq = j.value

-- name: tries
-- The stories of some entries, the last :keep tries of each. Without a lock. :entries is a JSON array of sequence numbers.
-- Index: primary keys, in order for each entry.
SELECT t.entry, t.number, t.worker, t.started, t.ended, t.verdict, t.error
FROM json_each(:entries) AS j
CROSS JOIN entry AS e ON e.seq = j.value
CROSS JOIN try AS t ON t.entry = e.seq AND t.number > e.tries - :keep

-- name: count
-- All queues by state, and since when the oldest ready entry of each is ready. Without a lock. What is blocked would be missing: nothing is.
-- Indexes: entry_ready and entry_timed from end to end, but no row of the table for each; what is finished is counted already.
SELECT queue, 'ready' AS state, count(*) AS n, min(ready_since) AS since
FROM entry INDEXED BY entry_ready WHERE state = 'ready' GROUP BY queue
UNION ALL
SELECT queue, 'scheduled', count(*), NULL
FROM entry INDEXED BY entry_timed WHERE state IN ('scheduled', 'retrying') AND state = 'scheduled' GROUP BY queue
UNION ALL
SELECT queue, 'retrying', count(*), NULL
FROM entry INDEXED BY entry_timed WHERE state IN ('scheduled', 'retrying') AND state = 'retrying' GROUP BY queue
UNION ALL
SELECT e.queue, 'running', count(*), NULL
FROM lease AS l CROSS JOIN json_each(l.entries) AS j CROSS JOIN entry AS e ON e.seq = j.value
WHERE e.token = l.token GROUP BY e.queue
UNION ALL
SELECT queue, state, n, NULL FROM kept WHERE n > 0

-- name: count_queues
-- The queues that were declared or paused, whether paused, what feeds them, and their limits. Small tables, read whole.
SELECT b.queue, EXISTS (SELECT 1 FROM paused AS p WHERE p.queue = b.queue), b.pattern, b.grp, b.most FROM binding AS b
UNION ALL
SELECT p.queue, 1, NULL, NULL, NULL FROM paused AS p WHERE NOT EXISTS (SELECT 1 FROM binding AS b WHERE b.queue = p.queue)

-- name: counters
-- Events counted since the file was made. A small table, read whole.
SELECT name, n FROM counter
