-- Upkeep by any worker: leases that are over, expiry, retention.
-- Locks: `sweep_look` runs without one; all else in a write transaction, each statement bounded. Indexes: lease_until, entry_late,
-- entry_finished in their own orders, then primary keys; what is kept is counted in a table of its own.

-- name: sweep_look
-- Whether there is anything to sweep, but for surplus; without a lock. Indexes: lease_until, entry_late, hold_until; of entry_finished the oldest of
-- each queue and state that kept knows; of flow_over the oldest of each state.
SELECT
    EXISTS (SELECT 1 FROM lease WHERE until <= :now)
    OR EXISTS (SELECT 1 FROM arrival)
    OR EXISTS (
        SELECT 1 FROM entry INDEXED BY entry_late
        WHERE expires <= :now AND state IN ('scheduled', 'blocked', 'ready', 'retrying')
    )
    OR EXISTS (SELECT 1 FROM hold WHERE until IS NOT NULL AND until <= :now)
    OR EXISTS (
        SELECT 1 FROM kept AS k
        CROSS JOIN entry AS e INDEXED BY entry_finished ON e.queue = k.queue AND e.state = k.state
            AND e.finished <= CASE k.state WHEN 'succeeded' THEN :succeeded WHEN 'dead' THEN :dead ELSE :cancelled END
            AND e.flow = 0
    )
    OR EXISTS (
        SELECT 1 FROM flow INDEXED BY flow_over
        WHERE state = 'succeeded' AND going = 0 AND finished <= :succeeded
    )
    OR EXISTS (
        SELECT 1 FROM flow INDEXED BY flow_over WHERE state = 'failed' AND going = 0 AND finished <= :dead
    )
    OR EXISTS (
        SELECT 1 FROM flow INDEXED BY flow_over WHERE state = 'cancelled' AND going = 0 AND finished <= :cancelled
    )

-- name: sweep_overdue
-- Entries whose lease is over, a bounded number. In a write transaction. Index: lease_until, then primary keys.
SELECT e.seq, e.queue, e.token, e.crashes, e.name
FROM lease AS l INDEXED BY lease_until
CROSS JOIN json_each(l.entries) AS j
CROSS JOIN entry AS e ON e.seq = j.value
WHERE l.until <= :now AND e.token = l.token
ORDER BY l.until LIMIT :limit

-- name: sweep_worker
-- Entries under the leases of one worker. In a write transaction. Reads all leases, of which there are few.
SELECT e.seq, e.queue, e.token, e.crashes, e.name
FROM lease AS l
CROSS JOIN json_each(l.entries) AS j
CROSS JOIN entry AS e ON e.seq = j.value
WHERE l.worker = :worker AND e.token = l.token

-- name: ids_of
-- The ids of some entries. :entries is a JSON array of sequence numbers. Index: primary key.
SELECT e.id FROM json_each(:entries) AS j CROSS JOIN entry AS e ON e.seq = j.value

-- name: sweep_expire
-- End what waits and was not started in time, a bounded number. In a write transaction. Index: entry_late.
UPDATE entry SET state = 'expired', finished = :now, unique_key = NULL
WHERE seq IN (
    SELECT seq FROM entry INDEXED BY entry_late
    WHERE expires <= :now AND state IN ('scheduled', 'blocked', 'ready', 'retrying')
    ORDER BY expires LIMIT :limit
)

-- name: sweep_kept
-- How many finished entries there are of each state, those of a flow as it ended. Small tables, read whole.
SELECT state, sum(n) FROM (SELECT state, n FROM kept UNION ALL SELECT state, n FROM flow_kept) GROUP BY state

-- name: sweep_queues
-- The queues that have anything finished in a state. A small table, read whole.
SELECT queue FROM kept WHERE state = :state AND n > 0

-- name: sweep_old
-- The finished of one queue and state, oldest first; read row by row. In a write transaction. Index: entry_finished in its own order.
SELECT finished, 0 AS whole, seq, 1 AS weight FROM entry INDEXED BY entry_finished
WHERE queue = :queue AND state = :state AND finished IS NOT NULL AND flow = 0
ORDER BY finished, seq LIMIT :limit

-- name: forget_highest
-- Remember the highest sequence number, in case its entry is among those that go. In a write transaction, before forget_entries.
-- Index: the primary key's last row.
UPDATE forgotten SET seq = max(seq, coalesce((SELECT max(e.seq) FROM entry AS e), 0))

-- name: forget_kept
-- Fewer finished entries of their queues and states. In a write transaction, before forget_entries.
-- :entries is a JSON array of sequence numbers. Index: primary keys.
UPDATE kept SET n = kept.n - v.n
FROM (
    SELECT e.queue, e.state, count(*) AS n
    FROM json_each(:entries) AS j CROSS JOIN entry AS e ON e.seq = j.value
    WHERE e.finished IS NOT NULL AND e.flow = 0 GROUP BY e.queue, e.state
) AS v
WHERE kept.queue = v.queue AND kept.state = v.state

-- name: forget_none
-- Leave out of what is kept the queues that have nothing any more. After forget_kept. A small table, read whole.
DELETE FROM kept WHERE n <= 0

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

-- name: forget_failures
-- Forget what some entries failed of. In a write transaction. :entries is a JSON array of sequence numbers. Index: primary key.
DELETE FROM failure WHERE entry IN (SELECT value FROM json_each(:entries))

-- name: forget_steps
-- Forget the steps of some entries. In a write transaction. :entries is a JSON array of sequence numbers. Index: step_name.
DELETE FROM step WHERE entry IN (SELECT value FROM json_each(:entries))

-- name: forget_holds
-- Forget who held unique keys, but for windows that are to stay. Before forget_entries. Index: hold_entry.
-- :entries is a JSON array of sequence numbers.
DELETE FROM hold WHERE entry IN (SELECT value FROM json_each(:entries))
    AND (until IS NULL OR NOT instr(states, (SELECT e.state FROM entry AS e WHERE e.seq = hold.entry)))

-- name: forget_companies
-- Forget what has joined some entries. In a write transaction. :entries is a JSON array of sequence numbers. Index: primary key.
DELETE FROM company WHERE head IN (SELECT value FROM json_each(:entries))

-- name: forget_entries
-- Forget entries. The last statement of forgetting. :entries is a JSON array of sequence numbers. Index: primary key.
DELETE FROM entry WHERE seq IN (SELECT value FROM json_each(:entries))

-- name: forget_range_kept
-- forget_kept for all entries from :first to :last.
UPDATE kept SET n = kept.n - v.n
FROM (
    SELECT queue, state, count(*) AS n FROM entry
    WHERE seq BETWEEN :first AND :last AND finished IS NOT NULL AND flow = 0 GROUP BY queue, state
) AS v
WHERE kept.queue = v.queue AND kept.state = v.state

-- name: forget_range_messages
-- Forget the messages from :first to :last that have one copy. Every number between has an entry, so that copy is the entry of the
-- message's own number. Before forget_range_entries. Index: primary key.
DELETE FROM message WHERE seq BETWEEN :first AND :last AND copies = 1

-- name: forget_range_tries
-- Forget the history of the entries from :first to :last. In a write transaction. Index: primary key.
DELETE FROM try WHERE entry BETWEEN :first AND :last

-- name: forget_range_results
-- Forget the results of the entries from :first to :last. In a write transaction. Index: primary key.
DELETE FROM result WHERE entry BETWEEN :first AND :last

-- name: forget_range_progress
-- Forget the progress of the entries from :first to :last. In a write transaction. Index: primary key.
DELETE FROM progress WHERE entry BETWEEN :first AND :last

-- name: forget_range_failures
-- Forget what the entries from :first to :last failed of. In a write transaction. Index: primary key.
DELETE FROM failure WHERE entry BETWEEN :first AND :last

-- name: forget_range_steps
-- Forget the steps of the entries from :first to :last. In a write transaction. Index: step_name.
DELETE FROM step WHERE entry BETWEEN :first AND :last

-- name: forget_range_holds
-- forget_holds for the entries from :first to :last. Index: hold_entry.
DELETE FROM hold WHERE entry BETWEEN :first AND :last
    AND (until IS NULL OR NOT instr(states, (SELECT e.state FROM entry AS e WHERE e.seq = hold.entry)))

-- name: forget_range_companies
-- Forget what has joined the entries from :first to :last. In a write transaction. Index: primary key.
DELETE FROM company WHERE head BETWEEN :first AND :last

-- name: forget_range_entries
-- Forget the entries from :first to :last. The last statement of forgetting them. Index: primary key.
DELETE FROM entry WHERE seq BETWEEN :first AND :last
