-- Looking: which entries a selector means, their records and stories, and counts.
-- Locks: none; commands pick in the transaction that changes. A statement with {way} exists twice: oldest first, and `..._newest` first.
-- Indexes: primary keys in order, entry_id, entry_ended and others named below; counts read indexes from end to end and no row of a table.

-- name: piece_fits
-- Whether an entry is one of those a selector means. A NULL parameter is no condition; :states is a JSON array.
-- Indexes: lease token, primary keys.
(
    (:queue IS NULL OR e.queue = :queue)
    AND (:name IS NULL OR e.name = :name)
    AND (:key IS NULL OR e.key = :key)
    AND (:flow IS NULL OR e.flow = (SELECT w.seq FROM flow AS w WHERE w.id = :flow))
    AND (:states IS NULL OR e.state IN (SELECT value FROM json_each(:states)))
    AND (:created_since IS NULL OR e.created >= :created_since)
    AND (:created_before IS NULL OR e.created < :created_before)
    AND (:finished_since IS NULL OR e.finished >= :finished_since)
    AND (:finished_before IS NULL OR e.finished < :finished_before)
    AND (:worker IS NULL OR (SELECT l.worker FROM lease AS l WHERE l.token = e.token) = :worker)
    AND (:error IS NULL OR (SELECT f.error FROM failure AS f WHERE f.entry = e.seq) = :error)
    AND (:fingerprint IS NULL OR (SELECT f.fingerprint FROM failure AS f WHERE f.entry = e.seq) = :fingerprint)
)

-- name: piece_live
-- What waits or runs, in the queues from :low to :high; no more than :few of each kind.
-- Indexes: entry_ready, entry_timed, entry_blocked, entry_waits; reads all leases, of which there are few.
(
    SELECT seq FROM (
        SELECT r.seq FROM entry AS r INDEXED BY entry_ready WHERE r.state = 'ready' AND r.queue BETWEEN :low AND :high LIMIT :few
    )
    UNION ALL
    SELECT seq FROM (
        SELECT t.seq FROM entry AS t INDEXED BY entry_timed
        WHERE t.state IN ('scheduled', 'retrying') AND t.queue BETWEEN :low AND :high LIMIT :few
    )
    UNION ALL
    SELECT seq FROM (
        SELECT w.seq FROM entry AS w INDEXED BY entry_waits
        WHERE w.line IS NOT NULL AND w.state = 'blocked' AND w.flow = 0 AND w.queue BETWEEN :low AND :high LIMIT :few
    )
    UNION ALL
    SELECT seq FROM (
        SELECT u.seq FROM lease AS l CROSS JOIN json_each(l.entries) AS j CROSS JOIN entry AS u ON u.seq = j.value
        WHERE u.token = l.token LIMIT :few
    )
    UNION ALL
    SELECT seq FROM (
        SELECT b.seq FROM entry AS b INDEXED BY entry_blocked
        WHERE b.flow <> 0 AND b.state = 'blocked' AND b.queue BETWEEN :low AND :high LIMIT :few
    )
)

-- name: piece_finished
-- What has finished since a moment, in the queues from :low to :high; no more than :few.
-- Indexes: entry_finished and, for steps, entry_over by their ranges, for each queue and state of the small tables kept and kept_steps.
(
    SELECT seq FROM (
        SELECT d.seq FROM kept AS k
        CROSS JOIN entry AS d INDEXED BY entry_finished ON d.queue = k.queue AND d.state = k.state AND d.finished >= :finished_since
        WHERE k.queue BETWEEN :low AND :high AND d.finished IS NOT NULL AND d.flow = 0
        LIMIT :few
    )
    UNION ALL
    SELECT seq FROM (
        SELECT o.seq FROM kept_steps AS k
        CROSS JOIN entry AS o INDEXED BY entry_over ON o.queue = k.queue AND o.state = k.state AND o.finished >= :finished_since
        WHERE k.queue BETWEEN :low AND :high AND o.finished IS NOT NULL AND o.flow <> 0
        LIMIT :few
    )
)

-- name: pick
-- Walk the entries themselves. Index: the primary key, in order.
SELECT e.seq FROM entry AS e
WHERE e.seq > :after AND e.seq < :before AND {piece_fits}
ORDER BY e.seq {way} LIMIT :limit

-- name: pick_ended
-- Walk what has ended otherwise than well. Index: entry_ended, in order.
SELECT e.seq FROM entry AS e INDEXED BY entry_ended
WHERE e.seq > :after AND e.seq < :before AND e.finished IS NOT NULL AND e.state <> 'succeeded' AND {piece_fits}
ORDER BY e.seq {way} LIMIT :limit

-- name: pick_key
-- Walk what has one key. Index: entry_key, in order.
SELECT e.seq FROM entry AS e INDEXED BY entry_key
WHERE e.seq > :after AND e.seq < :before AND e.key = :key AND {piece_fits}
ORDER BY e.seq {way} LIMIT :limit

-- name: pick_flow
-- Walk the steps of a flow. Index: entry_flow, in order.
SELECT e.seq FROM entry AS e INDEXED BY entry_flow
WHERE e.seq > :after AND e.seq < :before AND e.flow = (SELECT f.seq FROM flow AS f WHERE f.id = :flow) AND e.flow <> 0 AND {piece_fits}
ORDER BY e.seq {way} LIMIT :limit

-- name: pick_error
-- Walk what failed of one type of exception. Index: failure_error, in order, then primary keys.
SELECT e.seq FROM failure AS f INDEXED BY failure_error CROSS JOIN entry AS e ON e.seq = f.entry
WHERE f.entry > :after AND f.entry < :before AND f.error = :error AND {piece_fits}
ORDER BY f.entry {way} LIMIT :limit

-- name: pick_fingerprint
-- Walk what failed of one fault. Index: failure_fingerprint, in order, then primary keys.
SELECT e.seq FROM failure AS f INDEXED BY failure_fingerprint CROSS JOIN entry AS e ON e.seq = f.entry
WHERE f.entry > :after AND f.entry < :before AND f.fingerprint = :fingerprint AND {piece_fits}
ORDER BY f.entry {way} LIMIT :limit

-- name: pick_running
-- What runs. Reads all leases, of which there are few, and sorts what is under them. Index: the primary key.
SELECT e.seq FROM lease AS l CROSS JOIN json_each(l.entries) AS j CROSS JOIN entry AS e ON e.seq = j.value
WHERE e.seq > :after AND e.seq < :before AND e.token = l.token AND (:worker IS NULL OR l.worker = :worker) AND {piece_fits}
ORDER BY e.seq {way} LIMIT :limit

-- name: finished
-- How much has finished since a moment, counted no further than :few. Indexes: as said there; rows of the table are not read.
SELECT count(*) FROM {piece_finished}

-- name: pick_finished
-- What has finished since a moment, where that is little: sorts it. Indexes: as said there, then the primary key.
SELECT e.seq FROM {piece_finished} AS late CROSS JOIN entry AS e ON e.seq = late.seq
WHERE e.seq > :after AND e.seq < :before AND {piece_fits}
ORDER BY e.seq {way} LIMIT :limit

-- name: live
-- How much waits or runs, counted no further than five times :few. Indexes: as said there; rows of the table are read of what runs.
SELECT count(*) FROM {piece_live}

-- name: pick_live
-- What waits or runs, where that is little: sorts it. Indexes: as said there, then the primary key.
SELECT e.seq FROM {piece_live} AS live CROSS JOIN entry AS e ON e.seq = live.seq
WHERE e.seq > :after AND e.seq < :before AND {piece_fits}
ORDER BY e.seq {way} LIMIT :limit

-- name: created
-- The first entry from a sequence number on, and when it was created. Index: the primary key.
SELECT e.seq, e.created FROM entry AS e WHERE e.seq >= :seq ORDER BY e.seq LIMIT 1

-- name: range
-- The first and the last sequence number. Index: the two ends of the primary key.
SELECT coalesce((SELECT min(e.seq) FROM entry AS e), 0), coalesce((SELECT max(e.seq) FROM entry AS e), 0)

-- name: pick_ids
-- Sequence numbers and states of the entries a selector names by id, as far as its other conditions hold. Without a lock.
-- :ids is a JSON array. Index: entry_id.
SELECT e.seq, e.state FROM entry AS e INDEXED BY entry_id
WHERE e.id IN (SELECT value FROM json_each(:ids)) AND {piece_fits}

-- name: groups
-- How many of some entries have each value of what :by says. Without a lock. :entries is a JSON array of sequence numbers.
-- Indexes: primary keys, lease token.
SELECT
    CASE :by
        WHEN 'queue' THEN e.queue
        WHEN 'name' THEN e.name
        WHEN 'state' THEN e.state
        WHEN 'minute' THEN e.finished - e.finished % 60000000
        WHEN 'worker' THEN (SELECT l.worker FROM lease AS l WHERE l.token = e.token)
        WHEN 'error' THEN (SELECT f.error FROM failure AS f WHERE f.entry = e.seq)
        WHEN 'fingerprint' THEN (SELECT f.fingerprint FROM failure AS f WHERE f.entry = e.seq)
    END AS kind,
    count(*)
FROM json_each(:entries) AS j CROSS JOIN entry AS e ON e.seq = j.value
GROUP BY kind HAVING kind IS NOT NULL

-- name: records
-- All that is known of some entries but their tries. Without a lock. :entries is a JSON array of sequence numbers. Index: primary keys.
SELECT r.* FROM json_each(:entries) AS j CROSS JOIN record AS r ON r.seq = j.value

-- name: records_brief
-- How some entries stand and what they returned, as records, without what may be large. Without a lock.
-- :entries is a JSON array of sequence numbers. Index: primary keys.
SELECT
    r.seq, r.id, r.queue, r.state, r.created, r.due, r.expires, r.deadline, r.started, r.finished, r.attempts, r.crashes, r.releases,
    r.cancel_requested, r.reason, r.result, r.share, r.note, r.overdue, r.at,
    r.message_id, r.name, r.task_queue, r.topic, x'' AS body, r.content_type, NULL AS headers, r.key, r.priority,
    r.max_attempts, r.timeout, r.unique_key, r.moments
FROM json_each(:entries) AS j CROSS JOIN record AS r ON r.seq = j.value

-- name: tries
-- The stories of some entries, the last :keep tries of each. Without a lock. :entries is a JSON array of sequence numbers.
-- Index: primary keys, in order for each entry.
SELECT t.entry, t.number, t.worker, t.started, t.ended, t.verdict, t.error
FROM json_each(:entries) AS j
CROSS JOIN entry AS e ON e.seq = j.value
CROSS JOIN try AS t ON t.entry = e.seq AND t.number > e.tries - :keep

-- name: count
-- All queues by state, and since when the oldest ready entry of each is ready. Without a lock.
-- Indexes: entry_ready, entry_timed, entry_blocked and entry_waits from end to end, but no row of the table for each; what is finished is counted already.
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
SELECT queue, 'blocked', sum(n), NULL
FROM (
    SELECT queue, count(*) AS n FROM entry INDEXED BY entry_blocked WHERE flow <> 0 AND state = 'blocked' GROUP BY queue
    UNION ALL
    SELECT queue, count(*) FROM entry INDEXED BY entry_waits WHERE line IS NOT NULL AND state = 'blocked' AND flow = 0 GROUP BY queue
)
GROUP BY queue
UNION ALL
SELECT queue, state, sum(n), NULL
FROM (SELECT queue, state, n FROM kept UNION ALL SELECT queue, state, n FROM kept_steps)
GROUP BY queue, state HAVING sum(n) > 0

-- name: count_queues
-- The queues that were declared or paused, whether paused, what feeds them, and their limits. Small tables, read whole.
SELECT b.queue, EXISTS (SELECT 1 FROM paused AS p WHERE p.queue = b.queue), b.pattern, b.grp, b.most FROM binding AS b
UNION ALL
SELECT p.queue, 1, NULL, NULL, NULL FROM paused AS p WHERE NOT EXISTS (SELECT 1 FROM binding AS b WHERE b.queue = p.queue)

-- name: counters
-- Events counted since the file was made. A small table, read whole.
SELECT name, n FROM counter
