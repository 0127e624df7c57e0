-- Commands from people on entries that were picked, and pausing of queues.
-- Locks: in a write transaction, a bounded number of entries each. Index: primary keys.

-- name: queues_of
-- The queues of some entries. :entries is a JSON array of sequence numbers. Index: primary key.
SELECT DISTINCT e.queue FROM json_each(:entries) AS j CROSS JOIN entry AS e ON e.seq = j.value

-- name: redrive
-- Make entries ready again with fresh counters; one whose unique key is taken stays as it is. In the transaction that picked them.
-- :entries is a JSON array of sequence numbers. Index: primary key; entry_unique refuses.
UPDATE OR IGNORE entry SET
    state = 'ready', ready_since = :now, attempts = 0, crashes = 0, releases = 0, due = NULL, expires = NULL, deadline = NULL,
    finished = NULL, reason = NULL, unknown_since = NULL, cancel_requested = 0, line = NULL, rank = NULL,
    unique_key = (SELECT iif(m.moments ->> '$.hold' IS NULL, m.unique_key, NULL) FROM message AS m WHERE m.seq = entry.message)
WHERE seq IN (SELECT value FROM json_each(:entries))

-- name: redrive_steps
-- As redrive, for steps that are over: they wait until their parents let them run. :entries is a JSON array of sequence numbers.
UPDATE OR IGNORE entry SET
    state = 'blocked', ready_since = NULL, attempts = 0, crashes = 0, releases = 0, due = NULL, expires = NULL, deadline = NULL,
    finished = NULL, reason = NULL, unknown_since = NULL, cancel_requested = 0, line = NULL, rank = NULL,
    unique_key = (SELECT iif(m.moments ->> '$.hold' IS NULL, m.unique_key, NULL) FROM message AS m WHERE m.seq = entry.message)
WHERE seq IN (SELECT value FROM json_each(:entries))

-- name: redrive_places
-- Steps that were redriven are not released before all is told, and not put off again. After redrive_steps. :entries is a JSON array of sequence numbers.
UPDATE flow_step SET released = iif(role IN ('on_done', 'on_failed'), 0, 2), delay = iif(role = 'event', delay, NULL)
WHERE entry IN (
    SELECT e.seq FROM json_each(:entries) AS j CROSS JOIN entry AS e ON e.seq = j.value WHERE e.state = 'blocked'
)

-- name: redrive_results
-- Forget the results of entries that were made ready again. After redrive. :entries is a JSON array of sequence numbers.
DELETE FROM result WHERE entry IN (
    SELECT e.seq FROM json_each(:entries) AS j CROSS JOIN entry AS e ON e.seq = j.value WHERE e.state IN ('ready', 'blocked')
)

-- name: redrive_failures
-- Forget what entries failed of that were made ready again. After redrive. :entries is a JSON array of sequence numbers.
-- Index: primary keys.
DELETE FROM failure WHERE entry IN (
    SELECT e.seq FROM json_each(:entries) AS j CROSS JOIN entry AS e ON e.seq = j.value WHERE e.state IN ('ready', 'blocked')
)

-- name: cancel_overdue
-- Entries that run under a lease that is over: nobody is left who could be asked. In the transaction that picked them.
-- :entries is a JSON array of sequence numbers. Indexes: primary key, lease token.
SELECT e.seq, e.queue, e.token
FROM json_each(:entries) AS j
CROSS JOIN entry AS e ON e.seq = j.value
CROSS JOIN lease AS l ON l.token = e.token
WHERE l.until <= :now

-- name: cancel
-- Cancel what waits. In the transaction that picked it. :entries is a JSON array of sequence numbers. Index: primary key.
UPDATE entry SET state = 'cancelled', finished = :now, unique_key = NULL
WHERE seq IN (SELECT value FROM json_each(:entries)) AND state IN ('scheduled', 'blocked', 'ready', 'retrying')

-- name: cancel_ask
-- Ask what runs to stop, if it was not asked before. In the transaction that picked it.
-- :entries is a JSON array of sequence numbers. Index: primary key.
UPDATE entry SET cancel_requested = 1
WHERE seq IN (SELECT value FROM json_each(:entries)) AND state = 'running' AND NOT cancel_requested

-- name: pause
-- Pause a queue. In a write transaction.
INSERT INTO paused (queue) VALUES (:queue) ON CONFLICT DO NOTHING

-- name: resume
-- Resume a queue. In a write transaction.
DELETE FROM paused WHERE queue = :queue
