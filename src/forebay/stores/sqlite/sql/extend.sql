-- Renewing leases, and what running handlers say of their progress.
-- Locks: in a write transaction. Indexes: primary keys, lease token.

-- name: extend_match
-- Which deliveries are still under their lease, and whether they were asked to stop. In a write transaction.
-- :batch is a JSON array of arrays: seq, token. Index: primary key.
SELECT v.key, e.cancel_requested
FROM jsonb_each(:batch) AS v
CROSS JOIN entry AS e ON e.seq = v.value ->> 0
WHERE e.token = v.value ->> 1

-- name: extend
-- Renew leases. In a write transaction. :tokens is a JSON array. Index: lease token.
UPDATE lease SET until = :until WHERE token IN (SELECT value FROM json_each(:tokens))

-- name: extend_unnamed
-- What was taken under some leases up to a moment and is not among :named (a JSON array of sequence numbers), after extend_match. In a
-- write transaction. :batch is a JSON array of arrays: token, how many of it are named; a lease that holds no more is not looked into.
-- Indexes: lease token, then primary keys.
SELECT e.seq, e.queue, e.token, e.crashes, e.name
FROM jsonb_each(:batch) AS v
CROSS JOIN lease AS l ON l.token = v.value ->> 0
CROSS JOIN json_each(l.entries) AS j
CROSS JOIN entry AS e ON e.seq = j.value
WHERE l.held > v.value ->> 1 AND e.token = l.token AND e.started <= :before
    AND e.seq NOT IN (SELECT value FROM json_each(:named))

-- name: progress
-- Keep what is said of the progress of entries that are under the lease it is said under. In a write transaction, after extend_match.
-- :batch is a JSON array of arrays: seq, token, share, note, overdue. Index: primary keys.
INSERT OR REPLACE INTO progress (entry, share, note, overdue, at)
SELECT e.seq, v.value ->> 2, v.value ->> 3, v.value ->> 4, :now
FROM jsonb_each(:batch) AS v
CROSS JOIN entry AS e ON e.seq = v.value ->> 0
WHERE e.token = v.value ->> 1
