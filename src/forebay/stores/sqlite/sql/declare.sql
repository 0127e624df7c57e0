-- Declaring queues: what feeds them, and their limits. Small tables (binding, forgotten), read whole or by queue.
-- Locks: `bound`, `bindings` and `limits` need none; what changes runs in the write transaction of a declare.

-- name: bound
-- How many of some queues are already declared just so. Without a lock. :batch as in bind.
SELECT count(*) FROM jsonb_each(:batch) AS v
CROSS JOIN binding AS b ON b.queue = v.value ->> 0
WHERE (v.value ->> 5 OR (b.pattern IS v.value ->> 1 AND b.grp IS v.value ->> 2)) AND b.most IS v.value ->> 3 AND b.drops IS v.value ->> 4
    AND b.rules IS v.value ->> 6

-- name: bind
-- Declare queues. In a write transaction.
-- :batch is a JSON array of arrays: queue, pattern, group, limit, whether it drops what has expired, whether what feeds it stays,
-- rules (JSON as text).
INSERT INTO binding (queue, pattern, grp, most, drops, rules)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 6 FROM jsonb_each(:batch) WHERE NOT value ->> 5
ON CONFLICT (queue) DO UPDATE SET pattern = excluded.pattern, grp = excluded.grp, most = excluded.most, drops = excluded.drops,
    rules = excluded.rules

-- name: bind_loose
-- Declare limits and rules of queues, and leave what feeds them as it is. In a write transaction. :batch as in bind.
INSERT INTO binding (queue, most, drops, rules)
SELECT value ->> 0, value ->> 3, value ->> 4, value ->> 6 FROM jsonb_each(:batch) WHERE value ->> 5
ON CONFLICT (queue) DO UPDATE SET most = excluded.most, drops = excluded.drops, rules = excluded.rules

-- name: bindings
-- All subscriptions: the queue and the topic pattern it is bound to. A small table, read whole.
SELECT queue, pattern FROM binding WHERE pattern IS NOT NULL

-- name: limits
-- All limits: the queue, how many may wait in it, whether it drops what has expired. A small table, read whole.
SELECT queue, most, drops FROM binding WHERE most IS NOT NULL ORDER BY queue

-- name: limits_changed
-- Say to all connections that limits or rules have changed. In a write transaction. Random, so that no number is ever met again, not even one of
-- a transaction that was rolled back.
UPDATE forgotten SET limits = random()
