-- Ending deliveries: a try for each that is still under its lease says which settlements take effect, the updates follow.
-- Locks: all in one write transaction. Indexes: primary keys, lease token; entry_id for deliveries made up from their ids.

-- name: settle_find
-- The sequence numbers of entries known by id only. :batch is a JSON array of ids. Index: entry_id.
SELECT id, seq FROM entry WHERE id IN (SELECT value FROM json_each(:batch))

-- name: settle_try_done
-- As settle_try, for those that succeeded under one lease. In a write transaction.
-- :entries is a JSON array of sequence numbers. Indexes: primary key; lease token once.
INSERT INTO try (entry, number, worker, started, ended, verdict)
SELECT e.seq, e.tries + 1, (SELECT l.worker FROM lease AS l WHERE l.token = :token), e.started, :now, 'done'
FROM json_each(:entries) AS j
CROSS JOIN entry AS e ON e.seq = j.value
WHERE e.token = :token

-- name: settle_try
-- Add a try to the story of each entry that is still under the lease it is settled with. The first statement of a settle:
-- the number of rows says whether all of the batch may take effect. In a write transaction.
-- :batch is a JSON array of arrays: seq, token, event, error. Indexes: primary key, lease token.
INSERT INTO try (entry, number, worker, started, ended, verdict, error)
SELECT e.seq, e.tries + 1, l.worker, e.started, :now, v.value ->> 2, v.value ->> 3
FROM jsonb_each(:batch) AS v
CROSS JOIN entry AS e ON e.seq = v.value ->> 0
CROSS JOIN lease AS l ON l.token = e.token
WHERE e.token = v.value ->> 1

-- name: settle_match
-- How each of a batch stands: 1 if it is under the lease it is settled with, 0 if that lease has settled it before; no row if stale.
-- Between settle_try and the updates. :batch is a JSON array of arrays: seq, token. Index: primary key.
SELECT v.key, e.token IS v.value ->> 1
FROM jsonb_each(:batch) AS v
CROSS JOIN entry AS e ON e.seq = v.value ->> 0
WHERE e.token IS v.value ->> 1 OR e.settled_by IS v.value ->> 1

-- name: settle_done
-- End entries that succeeded. After settle_try, which checked their leases. :entries is a JSON array of sequence numbers.
-- Index: primary key; leaves entry_unique, enters entry_finished.
UPDATE entry SET
    state = 'succeeded', finished = :now, attempts = attempts + 1, tries = tries + 1, settled_by = token, token = NULL,
    unique_key = NULL
WHERE seq IN (SELECT value FROM json_each(:entries))

-- name: settle_kept
-- So many more that succeeded are kept. After settle_done, once for each queue of the batch. Index: primary key of kept.
INSERT INTO kept (queue, state, n) VALUES (:queue, 'succeeded', :n) ON CONFLICT DO UPDATE SET n = n + :n

-- name: settle_effects
-- What the end of a try changes, but for those that plainly succeeded. After settle_try. Index: primary key.
-- :batch is a JSON array of arrays: seq; state; state if it was asked to stop while it ran; whether the state is final; attempts,
-- crashes and releases to add; due and reason (NULL keeps them); what becomes of unknown_since (0 keep, 1 begin unless begun, 2 clear).
-- :settles is 0 where the holder did not end it: what it settles later is stale.
UPDATE entry SET
    state = iif(cancel_requested, v.if_asked, v.state),
    finished = iif(v.final OR cancel_requested, :now, NULL),
    unique_key = iif(v.final OR cancel_requested, NULL, unique_key),
    ready_since = iif(v.state = 'ready', :now, ready_since),
    due = coalesce(v.due, entry.due),
    unknown_since = CASE v.unknown WHEN 1 THEN coalesce(unknown_since, :now) WHEN 2 THEN NULL ELSE unknown_since END,
    attempts = entry.attempts + v.attempts,
    crashes = entry.crashes + v.crashes,
    releases = entry.releases + v.releases,
    reason = coalesce(v.reason, entry.reason),
    tries = tries + 1,
    settled_by = iif(:settles, token, settled_by),
    token = NULL
FROM (
    SELECT
        value ->> 0 AS seq, value ->> 1 AS state, value ->> 2 AS if_asked, value ->> 3 AS final, value ->> 4 AS attempts,
        value ->> 5 AS crashes, value ->> 6 AS releases, value ->> 7 AS due, value ->> 8 AS unknown, value ->> 9 AS reason
    FROM jsonb_each(:batch)
) AS v
WHERE entry.seq = v.seq

-- name: settle_results
-- Keep a result. In the transaction of the settle. Run once for each of a batch. Index: primary key.
INSERT OR REPLACE INTO result (entry, body) VALUES (:entry, :body)

-- name: failure_keep
-- Keep what entries failed of. In the transaction of the settle. Run once for each of a batch. Index: primary key.
INSERT OR REPLACE INTO failure (entry, error, fingerprint) VALUES (:entry, :error, :fingerprint)

-- name: try_trim
-- Drop tries beyond the number kept. In a write transaction. :entries is a JSON array of sequence numbers. Index: primary keys.
DELETE FROM try WHERE (entry, number) IN (
    SELECT e.seq, e.tries - :keep FROM json_each(:entries) AS j CROSS JOIN entry AS e ON e.seq = j.value WHERE e.tries > :keep
)

-- name: lease_less
-- Fewer entries under some leases. In a write transaction. :batch is a JSON array of arrays: token, how many. Index: lease token.
UPDATE lease SET held = held - v.n
FROM (SELECT value ->> 0 AS token, value ->> 1 AS n FROM jsonb_each(:batch)) AS v
WHERE lease.token = v.token

-- name: lease_empty
-- End leases that hold nothing any more. After lease_less, with its :batch. Index: lease token.
DELETE FROM lease WHERE token IN (SELECT value ->> 0 FROM jsonb_each(:batch)) AND held <= 0

-- name: count_event
-- Count an event. In a write transaction.
UPDATE counter SET n = n + :n WHERE name = :name
